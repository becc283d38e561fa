"""IsoFLOP curves of a results table: for each label and budget, one loss a size.

Models nearer in size than a curve can tell are settings of one size, as runs are that differ in the learning rate: the
best of them stands for the size, or their mean, as the experiment says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import polars as pl

from encdec_jax.errors import require
from encdec_jax.evaluate import LOSS
from encdec_jax.study import pooling
from encdec_jax.study.foreign import sound
from encdec_jax.sweep.experiment import Settings

_CURVE = ("label", "budget_flops")
NEAR = 1.05  # models that differ less in size, the larger over the smaller, are settings of one size;
NEAR_SHAPES = 1.2  # and so are models of other depths that differ less than this: shape tells them apart, not size


@dataclass(frozen=True, eq=False)
class Curve:
    """All sizes that one label was trained at with one budget; arrays are [sizes], by rising size.

    Attributes:
      label: of the runs.
      budget: training FLOPs.
      n: parameters, all of them.
      d: training tokens, prefix and suffix.
      loss: bits per byte of the held-out suffixes, mean over seeds, of the best setting at that size or of all.
      seeds: runs behind each loss.
      seed_squares: sum over all sizes of the squared deviations of runs from their size's mean.
      window_se: standard error of a loss that the choice of held-out windows brings, mean over runs; 0 if unknown.
      settings: of each size the losses of all settings that the best was chosen of, mean over seeds, rising; empty
        where none was chosen.
      units: of each size the trunks of its runs, a run without one for itself: sizes of equal units share their noise;
        empty where every run is its own.
      run_ids, run_loss, run_size: the runs behind the losses, and the place of each one's size, [runs].
    """

    label: str
    budget: float
    n: np.ndarray
    d: np.ndarray
    loss: np.ndarray
    seeds: np.ndarray
    seed_squares: float
    window_se: float
    settings: tuple[np.ndarray, ...] = ()
    units: tuple[tuple[str, ...], ...] = ()
    run_ids: tuple[str, ...] = ()
    run_loss: np.ndarray = field(default_factory=lambda: np.empty(0))
    run_size: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


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


def curves(
    table: pl.DataFrame, pooled: pooling.Reasons = pooling.NONE, settings: Settings = "best"
) -> tuple[list[Curve], list[Exclusion]]:
    """The curves of a table of runs, by label and budget.

    Args:
      table: a row a run, with the columns of `encdec_jax.study.foreign.NEEDED` or more.
      pooled: why runs of several codes or texts may be pooled, if they are.
      settings: what stands for a size that was trained with several settings (learning rate, batch size, depth, ...):
        'best', the one with the lowest mean loss, or 'mean', all of them.

    Raises:
      UserError: `settings` is neither; as `encdec_jax.study.foreign.sound`; or as `pooling.check`.
    """
    table = sound(table)
    excluded = [
        Exclusion(run["run_id"], run["label"], _reason(run))
        for run in table.filter((pl.col("status") != "done") | pl.col("budget_flops").is_null()).iter_rows(named=True)
    ]
    runs = table.filter(pl.col("status") == "done", pl.col("budget_flops").is_not_null())
    pooling.check(runs, pooled)
    ranked = standing(runs, settings)
    excluded += [
        Exclusion(run["run_id"], run["label"], "another setting of the same size and budget has a lower loss")
        for run in ranked.filter(~pl.col("stands")).iter_rows(named=True)
    ]
    return [_curve(group, settings) for group in ranked.partition_by(_CURVE, maintain_order=True)], excluded


def standing(runs: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Which runs stand for their size: all that is found of sizes trained with several settings goes by this.

    Args:
      runs: that are done and have a budget.
      settings: as `curves` takes it.

    Returns:
      the runs by label, budget and size, with columns `size` (its place among those of the label and budget),
      `setting_loss` (mean over a setting's runs), `stands`, and `size_loss` (mean over those that stand).

    Raises:
      UserError: `settings` is neither 'best' nor 'mean'.
    """
    require(settings in get_args(Settings), "SETTINGS", settings, "'best' or 'mean'")
    ranked = _sized(runs).with_columns(setting_loss=pl.col(LOSS).mean().over("label", "setting"))
    # Of settings that tie, the first by name: never both.
    best = pl.col("setting").sort_by("setting_loss", "setting").first().over(*_CURVE, "size")
    ranked = ranked.with_columns(stands=pl.lit(True) if settings == "mean" else pl.col("setting") == best)
    size_loss = pl.col(LOSS).filter(pl.col("stands")).mean().over(*_CURVE, "size")
    return ranked.with_columns(size_loss=size_loss).sort(*_CURVE, "size", "setting", "seed")


def _sized(runs: pl.DataFrame) -> pl.DataFrame:
    """With a column `size`, the place of a run's size among those of its label and budget."""
    models = (
        runs.select(*_CURVE, "n_params", "enc_layers", "dec_layers").unique().sort(*_CURVE, "n_params", "dec_layers")
    )
    places: list[int] = []
    first: tuple[Any, ...] = (None, 0, None)  # the curve, the smallest size of the place, and its layers
    for label, budget, n, *layers in models.iter_rows():
        curve, least, of = first
        if curve != (label, budget):
            places.append(0)
        elif n > (NEAR if layers == of else NEAR_SHAPES) * least:
            places.append(places[-1] + 1)
        else:
            places.append(places[-1])
            continue
        first = ((label, budget), n, layers)
    sized = models.with_columns(size=pl.Series(places, dtype=pl.Int64))
    return runs.join(sized, on=[*_CURVE, "n_params", "enc_layers", "dec_layers"], how="left", nulls_equal=True)


def trunks(runs: pl.DataFrame) -> pl.Series:
    """The trunk of each run; null of a run without one, and of all in a table that knows of none."""
    return runs.get_column("trunk", default=pl.Series([None] * len(runs))).cast(pl.String)


def _reason(run: dict[str, object]) -> str:
    if run["status"] != "done":
        return f"{run['status']}: {run['error']}" if run["error"] else str(run["status"])
    return "matched to no budget"


def _curve(runs: pl.DataFrame, settings: Settings) -> Curve:
    kept = runs.filter("stands")
    sizes = kept.group_by("size", maintain_order=True).agg(
        pl.col("n_params").mean(),
        pl.col("tokens").mean(),
        pl.col(LOSS).mean().alias("mean"),
        pl.len().alias("seeds"),
        ((pl.col(LOSS) - pl.col(LOSS).mean()) ** 2).sum().alias("squares"),
    )
    units = kept.with_columns(unit=trunks(kept).fill_null(kept["run_id"])).group_by("size", maintain_order=True)
    tried = runs.unique(["size", "setting"]).sort("size", "setting_loss")
    return Curve(
        label=runs["label"][0],
        budget=float(runs["budget_flops"][0]),
        n=sizes["n_params"].to_numpy().astype(np.float64),
        d=sizes["tokens"].to_numpy().astype(np.float64),
        loss=sizes["mean"].to_numpy(),
        seeds=sizes["seeds"].to_numpy().astype(np.float64),
        seed_squares=float(sizes["squares"].sum()),
        window_se=float(np.nan_to_num(kept["suffix_bits_se"].cast(pl.Float64).fill_null(0.0).to_numpy()).mean()),
        settings=tuple(part["setting_loss"].to_numpy() for part in tried.partition_by("size", maintain_order=True))
        if settings == "best"
        else (),
        units=tuple(tuple(unit) for unit in units.agg(pl.col("unit").sort())["unit"]) if trunks(kept).count() else (),
        run_ids=tuple(kept["run_id"]),
        run_loss=kept[LOSS].to_numpy(),
        run_size=kept["size"].to_numpy(),
    )
