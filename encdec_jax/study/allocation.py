"""How to spend compute: parameters and tokens by budget, and shapes: the encoder's share of layers, and depth.

Each optimum says when it sits on the edge of what was tried, where it is only a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from encdec_jax.laws.interval import Interval
from encdec_jax.study.comparison import trust
from encdec_jax.study.curves import Curve, curves
from encdec_jax.study.findings import Findings
from encdec_jax.study.isoflop import IsoFlop, parabola
from encdec_jax.study.noise import Draws, noises, resample
from encdec_jax.study.optima import DOUBTFUL
from encdec_jax.study.pooling import NONE, Reasons, check
from encdec_jax.sweep.experiment import Settings

Axis = Literal["encoder share", "layers"]
_SAME_SIZE = 1.15  # parameters of models that count as one size, the largest over the smallest


@dataclass(frozen=True)
class Allocation:
    """The best use of compute by an architecture.

    Attributes:
      label: of the runs.
      compute: training FLOPs.
      n, d: parameters and tokens, along their laws.
      extrapolated: whether the compute lies beyond what the laws are trusted for.
      warning: which budgets' optima are, or may be, on the edge of their sizes; empty if none.
    """

    label: str
    compute: float
    n: Interval
    d: Interval
    extrapolated: bool
    warning: str


@dataclass(frozen=True)
class Choice:
    """The best value of one choice of shape, at one budget and size.

    Attributes:
      line: what is compared: a label with three values of its own, else the architecture, whatever its labels.
      budget: training FLOPs.
      axis: the choice: the encoder's share of all layers, or layers, of both stacks together.
      n: parameters, geometric mean of the models compared; of 'encoder share' all sizes trained with the budget.
      tried: values, rising.
      best: value of least loss; the parabola's in the share, or in ln(layers). Without interval at the edge.
      loss: bits per byte there.
      warning: why `best` is a bound or in doubt; empty if it is neither.
    """

    line: str
    budget: float
    axis: Axis
    n: float
    tried: tuple[float, ...]
    best: Interval
    loss: Interval
    warning: str


def allocate(findings: Findings, label: str, compute: float, extrapolate: bool = False) -> Allocation:
    """N*(C) and D*(C).

    Raises:
      Undecided: fewer than two budgets have an optimum inside their sizes.
      UserError: the compute lies beyond what laws are trusted for, and no one asked to extrapolate.
    """
    laws = [findings.law(label, quantity) for quantity in ("n", "d")]
    optima = [optimum for optimum in findings.optima if optimum.label == label]
    inside = [optimum.budget for optimum in optima if optimum.isoflop.converged]
    extrapolated = trust(compute, (min(inside), max(inside)), extrapolate)
    n, d = (Interval.of(float(law.fit.law.at(compute)), law.draws.at(compute)) for law in laws)
    edges = [_flops(o.budget) for o in optima if not o.isoflop.converged]
    doubtful = [_flops(o.budget) for o in optima if o.isoflop.converged and o.edge_share > DOUBTFUL]
    warnings = [f"no optimum inside the sizes tried at {', '.join(edges)} FLOPs, which the laws leave out"] * bool(
        edges
    )
    warnings += [f"optimum perhaps at the edge of the sizes at {', '.join(doubtful)} FLOPs"] * bool(doubtful)
    return Allocation(label, compute, n, d, extrapolated, "; ".join(warnings))


def encoder_shares(table: pl.DataFrame, pooled: Reasons = NONE, settings: Settings = "best") -> tuple[Choice, ...]:
    """The best share of layers for the encoder, by architecture and budget, of those trained with three or more.

    Each share stands with its best size, so that no share is judged by a size that suits another.

    Args:
      table: with the columns of `encdec_jax.sweep.results.SCHEMA`.
      pooled: why runs of several codes or texts may be pooled, if they are.
      settings: what stands for a size that was trained with several, as in `encdec_jax.study.curves.curves`.

    Raises:
      UserError: a run that is done has no sound loss.
    """
    check(_done(table), pooled)
    layers = pl.col("enc_layers") + pl.col("dec_layers")
    split = table.filter(pl.col("enc_layers") > 0).with_columns(choice=pl.col("enc_layers") / layers)
    found = []
    for group in _groups(split.with_columns(size=pl.lit(0))):
        by_share = [_best(part, pooled, settings) for part in group.partition_by("choice", maintain_order=True)]
        # A curve's size enters by its logarithm: the exponential makes the parabola one in the share itself.
        found.append(_choice_curve(by_share, np.exp))
    return _choices(found, "encoder share", np.log)


def depths(table: pl.DataFrame, pooled: Reasons = NONE, settings: Settings = "best") -> tuple[Choice, ...]:
    """The best number of layers at given parameters, by architecture and budget, where three or more were trained.

    Parameters up to a factor `_SAME_SIZE` apart count as one size: widths are whole numbers, so that depths at exactly
    equal parameters are rare.

    Args:
      table, pooled, settings: as `encoder_shares` takes them.

    Raises:
      UserError: a run that is done has no sound loss.
    """
    check(_done(table), pooled)
    deep = table.with_columns(choice=(pl.col("enc_layers") + pl.col("dec_layers")).cast(pl.Float64))
    sizes = np.sort(deep["n_params"].drop_nulls().unique().to_numpy())
    found = []
    for first, last in _clusters(sizes, _SAME_SIZE):
        same = deep.filter(pl.col("n_params").is_between(first, last)).with_columns(size=pl.lit(first))
        for group in _groups(same):
            by_depth = [_best(part, pooled, settings) for part in group.partition_by("choice", maintain_order=True)]
            found.append(_choice_curve(by_depth, lambda layers: layers))
    return _choices(found, "layers", lambda layers: layers)


_Best = tuple[float, Curve, int]  # value of the choice, the curve of its runs, index of its best size


def _groups(table: pl.DataFrame) -> list[pl.DataFrame]:
    """Done runs of one architecture and budget each, three values of the choice or more, by rising value.

    A label that has three values by itself is a group of its own: others say something else, such as a recipe. Else
    labels are values of the choice, as in a study of splits, and are compared with one another.
    """
    found = []
    whole = _done(table).sort("arch", "budget_flops", "choice")
    for part in whole.partition_by("arch", "budget_flops", maintain_order=True):
        labels = [own for own in part.partition_by("label", maintain_order=True) if own["choice"].n_unique() >= 3]
        if labels:
            found += [own.with_columns(group=pl.col("label")) for own in labels]
        elif part["choice"].n_unique() >= 3:
            found.append(part.with_columns(group=pl.col("arch")))
    return found


def _done(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("status") == "done", pl.col("budget_flops").is_not_null())


def _best(runs: pl.DataFrame, pooled: Reasons, settings: Settings) -> _Best:
    """Of the runs of one value of the choice, of whatever label, the best size."""
    curve = min(curves(runs, pooled, settings)[0], key=lambda curve: float(curve.loss.min()))
    return runs["choice"][0], replace(curve, label=runs["group"][0]), int(curve.loss.argmin())


def _choice_curve(found: list[_Best], place: Callable[[np.ndarray], np.ndarray]) -> Curve:
    """A loss a value of the choice, as a curve over `place` of the values."""
    values = np.array([value for value, _, _ in found])
    first = found[0][1]
    take = [(curve, best) for _, curve, best in found]
    squares = [_own_squares(curve, best) for curve, best in take]
    return replace(
        first,
        n=place(values),
        d=np.array([curve.n[best] for curve, best in take]),  # parameters, for `Choice.n`
        loss=np.array([curve.loss[best] for curve, best in take]),
        seeds=np.array([curve.seeds[best] for curve, best in take]),
        seed_squares=float(sum(squares)),
        window_se=float(np.mean([curve.window_se for curve, _ in take])),
        settings=(),
    )


def _own_squares(curve: Curve, best: int) -> float:
    """Squares within the seeds of one size: its part of the curve's, by degrees of freedom."""
    free = curve.seeds.sum() - len(curve.seeds)
    return float(curve.seed_squares * (curve.seeds[best] - 1) / free) if free else 0.0


def _choices(found: list[Curve], axis: Axis, value: Callable[[np.ndarray], np.ndarray]) -> tuple[Choice, ...]:
    fits = [parabola(curve, spread=1.0) for curve in found]  # a choice's values may lie close
    draws = resample(fits, noises(fits))
    return tuple(_choice(isoflop, drawn, axis, value) for isoflop, drawn in zip(fits, draws, strict=True))


def _choice(isoflop: IsoFlop, drawn: Draws, axis: Axis, value: Callable[[np.ndarray], np.ndarray]) -> Choice:
    warning = isoflop.reason.replace("size", "value")
    if not warning and drawn.edge_share > DOUBTFUL:
        warning = f"perhaps at the edge of the values tried ({drawn.edge_share:.0%} of resamples)"
    return Choice(
        isoflop.curve.label,
        isoflop.curve.budget,
        axis,
        float(np.exp(np.log(isoflop.curve.d).mean())),
        tuple(float(v) for v in value(isoflop.curve.n)),
        Interval.of(float(value(np.array(isoflop.n))), value(np.exp(drawn.ln_n))),
        Interval.of(isoflop.loss, drawn.loss),
        warning,
    )


def _clusters(sizes: np.ndarray, within: float) -> list[tuple[float, float]]:
    """Ends of runs of sizes that span a ratio of `within` at most, smallest first."""
    found: list[tuple[float, float]] = []
    for size in sizes:
        if found and size <= found[-1][0] * within:
            found[-1] = (found[-1][0], float(size))
        else:
            found.append((float(size), float(size)))
    return found


def _flops(value: float) -> str:
    return f"{value:.2g}".replace("e+", "e")
