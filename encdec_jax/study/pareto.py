"""Quality against what it costs to train and to serve, by the ratio of input to output: which runs nothing beats.

Costs come off the ledger, from each run's own configuration. The results table alone does not decide them (it holds no
head sizes and no MLP width), so a run whose configuration is not given has no place here, rather than a guessed one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from encdec_jax.compute.quantities import decode_flops, kv_bytes
from encdec_jax.compute.serving import prefill
from encdec_jax.errors import require
from encdec_jax.evaluate import LOSS
from encdec_jax.model.config import ModelConfig
from encdec_jax.study.curves import standing, trunks
from encdec_jax.study.findings import Findings
from encdec_jax.sweep.experiment import Settings

RATIOS = (0.25, 1.0, 4.0)  # input tokens over output tokens
TOTAL = 2048  # of both
# Of one request: 'request_flops' takes up its source and decodes, 'decode_flops' decodes only. KV bytes in bfloat16.
AXES = ("train_flops", "decode_flops", "request_flops", "kv_bytes")
_RESAMPLES = 1000
_SEED = 20_220_329
_SHOWN = ("budget_flops", "n_params", "n_params_nonembed", "d_model", "enc_layers", "dec_layers")


def fronts(
    table: pl.DataFrame,
    models: Mapping[str, ModelConfig],
    findings: Findings,
    ratios: Sequence[float] = RATIOS,
    total: int = TOTAL,
    settings: Settings = "best",
) -> pl.DataFrame:
    """Every setting trained, with its costs, and whether it is on each front.

    A setting is on a front if no other is as good for less or better for as much. Settings that differ in the seed
    alone are one, with their mean loss; and where the mean stands for a size that was trained with several settings,
    so are these, with the mean of their costs.

    Args:
      table: with the columns of `encdec_jax.sweep.results.SCHEMA`.
      models: configurations by run_id, such as those of `Experiment.runs`. Runs without one are left out.
      findings: of the table; says which runs are unhealthy or outliers, and how large the noise of a run is.
      ratios: input tokens over output tokens of a request.
      total: input and output tokens of a request together.
      settings: what stands for a size that was trained with several, as in `encdec_jax.study.curves.curves`.

    Returns:
      a row for each setting, ratio and axis: label, budget_flops, n_params, n_params_nonembed, d_model, enc_layers,
      dec_layers (null where settings that are one differ in it), runs (behind it), loss (bits per byte), ratio,
      source, target (tokens), axis (one of `AXES`), cost, front (whether on it), share (probability of being on it,
      under the noise of runs, of which those of one trunk have one; null, of all, if the noise of a label's runs was
      not estimated). Rows of 'train_flops', the same at each ratio, stand once with null ratio, source and target.

    Raises:
      UserError: a ratio or the total is not accepted.
    """
    require(total >= 2, "total", total, "at least 2 tokens")
    for ratio in ratios:
        require(ratio > 0, "ratio", ratio, "input over output tokens, above 0")
    lengths = [(ratio, *_split(ratio, total)) for ratio in ratios]
    unsound = {one.run_id for one in findings.exclusions if one.health} | {one.run_id for one in findings.outliers}
    sound = table.filter(pl.col("run_id").is_in(list(models)) & ~pl.col("run_id").is_in(unsound))
    points = _points(sound, settings)
    if not len(points):
        return pl.DataFrame(schema=_SCHEMA)
    chosen = [[models[run_id] for run_id in ids] for ids in points["run_ids"]]
    losses = _drawn(points, findings)
    parts = [_part(points, losses, "train_flops", points["train_flops"].to_numpy(), None)]
    for ratio, source, target in lengths:
        decode = np.array([np.mean([decode_flops(model, source, target) for model in of]) for of in chosen])
        taken_up = np.array([np.mean([prefill(model, source).mask for model in of]) for of in chosen])
        cached = np.array([np.mean([kv_bytes(model, source, target) for model in of]) for of in chosen])
        costs = {"decode_flops": decode, "request_flops": decode + taken_up, "kv_bytes": cached}
        parts += [_part(points, losses, axis, cost, (ratio, source, target)) for axis, cost in costs.items()]
    return pl.concat(parts).select(*_SCHEMA)


def on_front(cost: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Which points nothing beats, bool [..., points]: none as good (low) for less, none better for as much.

    Args:
      cost: [points].
      loss: [..., points].
    """
    order = np.argsort(cost, kind="stable")
    cost, loss = cost[order], loss[..., order]
    first = np.searchsorted(cost, cost, side="left")  # points before cost less
    last = np.searchsorted(cost, cost, side="right") - 1  # points up to here cost as much
    least = np.minimum.accumulate(loss, -1)
    cheaper = np.concatenate([np.full((*loss.shape[:-1], 1), np.inf), least], -1)[..., first]
    kept = (loss < cheaper) & (loss <= least[..., last])
    found = np.empty(kept.shape, bool)
    found[..., order] = kept
    return found


def _split(ratio: float, total: int) -> tuple[int, int]:
    """Tokens of input and output, at least 1 each."""
    source = min(max(1, round(total * ratio / (1 + ratio))), total - 1)
    return source, total - source


def _points(table: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row a setting, or a size where the mean stands for it: the mean loss, how many runs, one id a setting."""
    done = table.filter(pl.col("status") == "done", pl.col(LOSS).is_finite()).with_columns(point=pl.col("setting"))
    if settings == "mean":
        planned = pl.col("budget_flops").is_not_null()
        sized = standing(done.filter(planned), settings)
        sized = sized.with_columns(point=pl.format("{} of {}", "size", "budget_flops")).select(done.columns)
        done = pl.concat([done.filter(~planned), sized])
    done = done.with_columns(unit=trunks(done).fill_null(done["run_id"]))
    found = (
        done.sort("run_id")
        .group_by("label", "point", maintain_order=True)
        .agg(
            *(pl.when(pl.col(name).n_unique() == 1).then(pl.col(name).first()).alias(name) for name in _SHOWN[2:]),
            pl.col("budget_flops").first(),
            pl.col("n_params").mean().round().cast(pl.Int64),
            pl.col("run_id").first(),
            pl.col("run_id").filter(pl.col("setting").is_first_distinct()).alias("run_ids"),
            # Runs matched to one budget cost the same: what is left of a mismatch decides nothing.
            pl.coalesce("budget_flops", "train_flops").mean().alias("train_flops"),
            pl.col(LOSS).mean().alias("loss"),
            pl.len().cast(pl.Int64).alias("runs"),
            pl.col("unit").alias("units"),
        )
    )
    return found.sort("label", "budget_flops", "n_params", "run_id", nulls_last=True)


def _drawn(points: pl.DataFrame, findings: Findings) -> np.ndarray | None:
    """Losses of resampled studies [resamples, points]; None if the noise of a label was not estimated."""
    noises = [findings.noise.get(label) for label in points["label"]]
    sds = [noise.sd for noise in noises if noise is not None and noise.known]
    if len(sds) < len(points):
        return None
    units = dict.fromkeys(unit for of in points["units"] for unit in of)  # runs of one trunk share their noise
    drawn = np.random.default_rng(_SEED).standard_normal((len(units), _RESAMPLES))
    of_unit = dict(zip(units, drawn, strict=True))
    errors = np.stack([np.mean([of_unit[unit] for unit in of], 0) for of in points["units"]], -1)
    return points["loss"].to_numpy() + np.array(sds) * errors


def _part(
    points: pl.DataFrame,
    losses: np.ndarray | None,
    axis: str,
    cost: np.ndarray,
    lengths: tuple[float, int, int] | None,
) -> pl.DataFrame:
    ratio, source, target = lengths or (None, None, None)
    return points.with_columns(
        pl.lit(ratio, pl.Float64).alias("ratio"),
        pl.lit(source, pl.Int64).alias("source"),
        pl.lit(target, pl.Int64).alias("target"),
        pl.lit(axis).alias("axis"),
        pl.Series("cost", cost, pl.Float64),
        pl.Series("front", on_front(cost, points["loss"].to_numpy())),
        pl.lit(None, pl.Float64).alias("share")
        if losses is None
        else pl.Series("share", on_front(cost, losses).mean(0)),
    )


_SCHEMA = {
    "label": pl.String,
    "budget_flops": pl.Float64,
    "n_params": pl.Int64,
    "n_params_nonembed": pl.Int64,
    "d_model": pl.Int64,
    "enc_layers": pl.Int64,
    "dec_layers": pl.Int64,
    "runs": pl.Int64,
    "loss": pl.Float64,
    "ratio": pl.Float64,
    "source": pl.Int64,
    "target": pl.Int64,
    "axis": pl.String,
    "cost": pl.Float64,
    "front": pl.Boolean,
    "share": pl.Float64,
}
