"""Which runs may stand in one curve or one comparison: each once, of one text and of one program."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import polars as pl

from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.sweep.experiment import POOLABLE

Reasons = Mapping[str, str]  # column of `POOLABLE` -> why rows in which it differs may be pooled, in a sentence
NONE: Reasons = MappingProxyType({})
# What repetitions have in common, where a table knows it: runs that differ here are other settings, whoever names them.
_ALIKE = ("n_params", "tokens", "lr", "batch_size", "enc_layers", "dec_layers", "objective")
_SAYS = {
    "cache_digest": "the text they were trained and scored on",
    "code": "the program that computed them",
    "scored": "the held-out windows (evaluate.prefix, suffix and windows, data.eval_split) they were scored on",
}


def check(runs: pl.DataFrame, pooled: Reasons) -> None:
    """Refuse runs that a curve or a comparison can't pool.

    Args:
      runs: that are to be pooled, with the columns of `encdec_jax.sweep.results.SCHEMA`.
      pooled: the reasons that are stated.

    Raises:
      UserError: a run is there twice; runs of one label begin at drawn parameters and at trained ones; rows of one
        setting have one loss, or differ in what a setting fixes; or runs differ in a column that no reason is stated
        for. Tables that do not know the column (null in every row) are not refused.
    """
    unknown = [name for name in pooled if name not in POOLABLE]
    if unknown:
        raise UserError(f"pooled = {unknown[0]!r} is not accepted: {' or '.join(POOLABLE)}, each with a reason")
    unlike = runs.group_by("setting").agg(pl.col(_ALIKE).drop_nulls().unique().sort()).sort("setting")
    for group in unlike.iter_rows(named=True):
        for name in _ALIKE:
            if len(group[name]) > 1:
                values = " and ".join(map(str, group[name][:2]))
                raise UserError(f"rows of setting {group['setting']!r} differ in {name}, {values}: they repeat no run")
    if "pretrain_flops" in runs.columns:
        begun = runs.with_columns(trained=pl.col("pretrain_flops").fill_null(0) > 0)
        both = begun.group_by("label").agg(pl.col("trained").n_unique()).filter(pl.col("trained") > 1).sort("label")
        if len(both):
            what = "begin at parameters drawn anew, and others at trained ones (train.init_from)"
            raise UserError(f"some runs of label {both['label'][0]!r} {what}: give them labels apart, by label(run)")
    known = runs.filter(pl.col("seed").is_not_null())
    # Of a copied row, whatever became of its id and its seed, the loss is the same to the last digit.
    for rows, keys in ((runs, ["run_id"]), (known, ["setting", "seed"]), (runs, ["setting", LOSS])):
        twice = rows.filter(pl.struct(keys).is_duplicated()).sort("setting", "seed", "run_id")
        if len(twice):
            first = twice.filter(pl.struct(keys) == pl.struct(keys).first())
            names = " and ".join(dict.fromkeys(first["run_id"]))
            losses = " and ".join(f"{loss:.6g}" for loss in first[LOSS])
            raise UserError(f"run {names} is there {len(first)} times, of loss {losses}: a run counts once")
    for name, text in mixtures(runs).items():
        if name not in pooled:
            hint = f'POOLED = {{"{name}": "why"}} in sweep.py, or encdec compare --pool {name}=why'
            raise UserError(f"runs differ in {text}: they are not pooled, unless a reason is stated: {hint}")


def mixtures(runs: pl.DataFrame) -> dict[str, str]:
    """The columns of `POOLABLE` that runs differ in: how many runs have which value, and one of each, in words."""
    found = {}
    for name in POOLABLE:
        values: list[dict[str, Any]] = (
            runs.group_by(name).agg(pl.len(), pl.col("run_id").min()).sort(name, nulls_last=True).to_dicts()
        )
        if len(values) > 1:
            parts = (f"{(v[name] or 'unknown')[:12]} ({v['len']} runs, such as {v['run_id']})" for v in values)
            found[name] = f"{name}, {_SAYS[name]}: {', '.join(parts)}"
    return found
