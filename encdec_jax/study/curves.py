"""IsoFLOP curves of a results table: for each label and budget, one loss a size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from encdec_jax.errors import UserError
from encdec_jax.study import pooling

LOSS = "suffix_bits_per_byte"
_CURVE = ("label", "budget_flops")


@dataclass(frozen=True, eq=False)
class Curve:
    """All sizes that one label was trained at with one budget; arrays are [sizes], by rising size.

    Attributes:
      label: of the runs.
      budget: training FLOPs.
      n: parameters, all of them.
      d: training tokens, prefix and suffix.
      loss: bits per byte of the held-out suffixes, mean over seeds, of the best setting at that size.
      seeds: runs behind each loss.
      seed_squares: sum over all sizes of the squared deviations of seeds from their size's mean.
      window_se: standard error of a loss that the choice of held-out windows brings, mean over runs; 0 if unknown.
    """

    label: str
    budget: float
    n: np.ndarray
    d: np.ndarray
    loss: np.ndarray
    seeds: np.ndarray
    seed_squares: float
    window_se: float


@dataclass(frozen=True)
class Exclusion:
    """A run that no fit uses.

    Attributes:
      run_id, label: of the run.
      rule: that leaves it out, with what was found.
      health: whether it is a health rule of the experiment's.
    """

    run_id: str
    label: str
    rule: str
    health: bool = False


def curves(table: pl.DataFrame, pooled: pooling.Reasons = pooling.NONE) -> tuple[list[Curve], list[Exclusion]]:
    """The curves of a table with the columns of `encdec_jax.sweep.results.SCHEMA`, by label and budget.

    Where one size was trained with several settings (learning rate, batch size, ...), the one with the lowest mean
    loss stands for the size.

    Args:
      table: the runs.
      pooled: why runs of several codes or texts may be pooled, if they are.

    Raises:
      UserError: a run that is done has a loss that is missing, not finite, or not above 0; or as `pooling.check`.
    """
    excluded = [
        Exclusion(run["run_id"], run["label"], _reason(run))
        for run in table.filter((pl.col("status") != "done") | pl.col("budget_flops").is_null()).iter_rows(named=True)
    ]
    runs = table.filter(pl.col("status") == "done", pl.col("budget_flops").is_not_null())
    broken = runs.filter(pl.col(LOSS).is_null() | ~pl.col(LOSS).is_finite() | (pl.col(LOSS) <= 0))
    if len(broken):
        first = broken.row(0, named=True)
        raise UserError(f"run {first['run_id']}: {LOSS} = {first[LOSS]} is not accepted: finite, above 0")
    nameless = runs.filter(pl.col("setting").is_null() | pl.col("label").is_null())
    if len(nameless):
        raise UserError(f"run {nameless['run_id'][0]}: setting or label is missing: what it repeats is not known")
    pooling.check(runs, pooled)
    ranked = runs.with_columns(setting_loss=pl.col(LOSS).mean().over("label", "setting"))
    # Of settings that tie, the first by name: never both.
    best = pl.col("setting").sort_by("setting_loss", "setting").first().over(*_CURVE, "n_params")
    kept = ranked.filter(pl.col("setting") == best)
    excluded += [
        Exclusion(run["run_id"], run["label"], "another setting of the same size and budget has a lower loss")
        for run in ranked.filter(pl.col("setting") != best).iter_rows(named=True)
    ]
    groups = kept.sort(*_CURVE, "n_params", "seed").partition_by(_CURVE, maintain_order=True)
    return [_curve(group) for group in groups], excluded


def _reason(run: dict[str, object]) -> str:
    if run["status"] != "done":
        return f"{run['status']}: {run['error']}" if run["error"] else str(run["status"])
    return "matched to no budget"


def _curve(runs: pl.DataFrame) -> Curve:
    sizes = runs.group_by("n_params", maintain_order=True).agg(
        pl.col("tokens").mean(),
        pl.col(LOSS).mean().alias("mean"),
        pl.len().alias("seeds"),
        ((pl.col(LOSS) - pl.col(LOSS).mean()) ** 2).sum().alias("squares"),
    )
    return Curve(
        label=runs["label"][0],
        budget=float(runs["budget_flops"][0]),
        n=sizes["n_params"].to_numpy().astype(np.float64),
        d=sizes["tokens"].to_numpy().astype(np.float64),
        loss=sizes["mean"].to_numpy(),
        seeds=sizes["seeds"].to_numpy().astype(np.float64),
        seed_squares=float(sizes["squares"].sum()),
        window_se=float(np.nan_to_num(runs["suffix_bits_se"].cast(pl.Float64).fill_null(0.0).to_numpy()).mean()),
    )
