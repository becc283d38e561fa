"""What a results table shows: optima, laws, comparisons with the baseline, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl

from encdec_jax.errors import Undecided
from encdec_jax.laws.frontier import Fit, Law, assess, fit_loss, fit_power
from encdec_jax.laws.interval import Interval
from encdec_jax.study import health
from encdec_jax.study.comparison import REACH, Comparison, Crossover, compare, crossover, parameter_ratio, trust
from encdec_jax.study.curves import Exclusion, curves
from encdec_jax.study.isoflop import IsoFlop, parabola, tokens_at
from encdec_jax.study.noise import Draws, Noise, noises, resample
from encdec_jax.study.pooling import NONE, Reasons
from encdec_jax.sweep.experiment import Experiment


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best size of one architecture for one budget.

    Attributes:
      isoflop: the fit behind it; its `converged` says whether the optimum is the parabola's own.
      n, d: parameters and tokens; without interval where the optimum is not the parabola's own.
      loss: bits per byte.
      edge_share: of resampled studies whose optimum is at the edge of the sizes trained.
    """

    isoflop: IsoFlop
    n: Interval
    d: Interval
    loss: Interval
    edge_share: float

    @property
    def label(self) -> str:
        """The architecture."""
        return self.isoflop.curve.label

    @property
    def budget(self) -> float:
        """Training FLOPs."""
        return self.isoflop.curve.budget


@dataclass(frozen=True, eq=False)
class Scaling:
    """A law of one architecture's optima.

    Attributes:
      label: the architecture.
      quantity: what the law gives: 'loss' (bits per byte), 'n' (parameters) or 'd' (tokens).
      fit: the law, and how well it fits.
      floor, scale, slope: its parameters with their intervals; `scale` at `fit.law.reference` FLOPs.
      draws: the laws of the resampled studies, [resamples].
    """

    label: str
    quantity: str
    fit: Fit
    floor: Interval
    scale: Interval
    slope: Interval
    draws: Law


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that a results table shows. A law or comparison that its runs do not allow is absent from its list.

    Attributes:
      baseline: the architecture that the others are compared with.
      labels: with at least one run done, the baseline first.
      budgets: FLOPs, rising.
      optima, laws, comparisons, crossovers: what was found.
      noise: of one run, by architecture.
      exclusions: runs that no fit uses.
      every: the labels of the whole study, also where these are the findings of only some.
    """

    baseline: str
    labels: tuple[str, ...]
    budgets: tuple[float, ...]
    optima: tuple[Optimum, ...]
    laws: tuple[Scaling, ...]
    comparisons: tuple[Comparison, ...]
    crossovers: tuple[Crossover, ...]
    noise: dict[str, Noise]
    exclusions: tuple[Exclusion, ...]
    every: tuple[str, ...] = ()

    def optimum(self, label: str, budget: float) -> Optimum:
        """The best size of an architecture for a budget.

        Raises:
          Undecided: no run of the two is done.
        """
        return _one(
            [o for o in self.optima if (o.label, o.budget) == (label, budget)], f"{label} at {budget:.3g} FLOPs"
        )

    def law(self, label: str, quantity: str = "loss") -> Scaling:
        """The law of an architecture's 'loss', 'n' or 'd'.

        Raises:
          Undecided: its runs allow no such law.
        """
        return _one(
            [law for law in self.laws if (law.label, law.quantity) == (label, quantity)], f"{quantity} of {label}"
        )

    def comparison(self, label: str, budget: float) -> Comparison:
        """An architecture beside the baseline at a budget.

        Raises:
          Undecided: one of the two has no run done at the budget.
        """
        found = [c for c in self.comparisons if (c.label, c.budget) == (label, budget)]
        return _one(found, f"{label} beside {self.baseline} at {budget:.3g} FLOPs")

    def at(self, label: str, compute: float, extrapolate: bool = False) -> Comparison:
        """An architecture beside the baseline at any compute, along the laws of both.

        Raises:
          Undecided: one of the two has no law.
          UserError: the compute lies more than `REACH` times beyond the budgets of both, and no one asked to
            extrapolate.
        """
        laws = (self.law(label), self.law(self.baseline))
        measured = self._measured(laws)
        trust(compute, measured, extrapolate)
        losses = float(laws[0].fit.law.at(compute)), float(laws[1].fit.law.at(compute))
        draws = laws[0].draws.at(compute), laws[1].draws.at(compute)
        sizes = {law.label: law for law in self.laws if law.quantity == "n"}
        return _comparison(label, compute, losses, draws, laws, sizes, measured)

    def crossover(self, label: str, upto: float | None = None, extrapolate: bool = False) -> Crossover:
        """Where an architecture's frontier crosses the baseline's: in the budgets both were measured at, or up to one.

        Raises:
          Undecided: one of the two has no law, or the two share fewer than two budgets.
          UserError: `upto` lies more than `REACH` times beyond the budgets, and no one asked to extrapolate.
        """
        if upto is None:
            found = [c for c in self.crossovers if c.label == label]
            return _one(found, f"the frontiers of {label} and {self.baseline}")
        laws = (self.law(label), self.law(self.baseline))
        measured = self._measured(laws)
        trust(upto, measured, extrapolate)
        points, draws = (laws[0].fit.law, laws[1].fit.law), (laws[0].draws, laws[1].draws)
        return crossover(label, points, draws, (measured[0], upto), upto > measured[1])

    def _measured(self, laws: tuple[Scaling, Scaling]) -> tuple[float, float]:
        """The least and the largest budget that the optima of both laws were measured at."""
        shared = set.intersection(*({o.budget for o in self.optima if o.label == law.label} for law in laws))
        if len(shared) < 2:
            raise Undecided(f"{laws[0].label} and {laws[1].label} share fewer than two budgets")
        return min(shared), max(shared)


def study(experiment: Experiment, table: pl.DataFrame) -> Findings:
    """What an experiment's table shows under the health rules that the experiment fixed, if it fixed any.

    Raises:
      UserError: as `analyze`, and as `health.check`.
    """
    rules = experiment.health
    excluded = [] if rules is None else health.check(rules, table, experiment.root)
    drop_edges = rules is not None and rules.drop_edges
    return analyze(table, experiment.baseline, excluded, drop_edges, experiment.pooled)


def analyze(
    table: pl.DataFrame,
    baseline: str,
    excluded: Sequence[Exclusion] = (),
    drop_edges: bool = False,
    pooled: Reasons = NONE,
) -> Findings:
    """Fit all that a table allows.

    Args:
      table: with the columns of `encdec_jax.sweep.results.SCHEMA`; only runs that are done and have a budget count.
      baseline: the architecture that the others are compared with.
      excluded: runs that health rules leave out of all fits.
      drop_edges: leave budgets whose optimum is not inside the sizes trained out of laws of loss and of comparisons
        too, not only out of laws of size.
      pooled: why runs of several codes or texts may be pooled, if they are.

    Raises:
      UserError: a run that is done has no sound loss; a run is there twice, or runs differ in their code or their text
        without a reason.
    """
    left_out = {exclusion.run_id for exclusion in excluded}
    found, exclusions = curves(table.filter(~pl.col("run_id").is_in(left_out)), pooled)
    isoflops = [parabola(curve) for curve in found]
    noise = noises(isoflops)
    draws = resample(isoflops, noise)
    labels = tuple(sorted(noise, key=lambda label: (label != baseline, label)))
    budgets = tuple(sorted({curve.budget for curve in found}))
    optima = tuple(_optimum(isoflop, drawn) for isoflop, drawn in zip(isoflops, draws, strict=True))
    paired = [(i, drawn) for i, drawn in zip(isoflops, draws, strict=True) if i.converged or not drop_edges]
    laws = tuple(
        law
        for label in labels
        for quantity in ("loss", "n", "d")
        if (law := _law(label, quantity, [p for p in paired if p[0].curve.label == label], budgets[-1])) is not None
    )
    return Findings(
        baseline=baseline,
        labels=labels,
        budgets=budgets,
        optima=optima,
        laws=laws,
        comparisons=_comparisons(paired, baseline, laws),
        crossovers=_crossovers(paired, baseline, laws),
        noise=noise,
        exclusions=(*excluded, *exclusions),
        every=labels,
    )


def _optimum(isoflop: IsoFlop, drawn: Draws) -> Optimum:
    return Optimum(
        isoflop,
        Interval.of(isoflop.n, np.exp(drawn.ln_n)).unless_flat(),
        Interval.of(isoflop.d, tokens_at(isoflop.curve, drawn.ln_n)).unless_flat(),
        Interval.of(isoflop.loss, drawn.loss).unless_flat(),
        drawn.edge_share,
    )


_Pairs = list[tuple[IsoFlop, Draws]]
_T = TypeVar("_T")


def _law(label: str, quantity: str, pairs: _Pairs, reference: float) -> Scaling | None:
    """A law of one architecture; None with fewer than two budgets.

    An optimum that is not the parabola's own still bounds the loss, but says nothing of the best size.
    """
    if quantity != "loss":
        pairs = [pair for pair in pairs if pair[0].converged]
    if len(pairs) < 2:
        return None
    compute = np.array([isoflop.curve.budget for isoflop, _ in pairs])
    y = np.array([getattr(isoflop, quantity) for isoflop, _ in pairs])
    drawn = np.stack([_values(quantity, *pair) for pair in pairs], axis=-1)
    fitter = fit_loss if quantity == "loss" else fit_power
    law, draws = fitter(compute, y, reference), fitter(compute, drawn, reference)
    return Scaling(
        label,
        quantity,
        assess(law, compute, y),
        Interval.of(float(law.floor), draws.floor),
        Interval.of(float(law.scale), draws.scale),
        Interval.of(float(law.slope), draws.slope),
        draws,
    )


def _values(quantity: str, isoflop: IsoFlop, drawn: Draws) -> np.ndarray:
    if quantity == "loss":
        return drawn.loss
    return np.exp(drawn.ln_n) if quantity == "n" else tokens_at(isoflop.curve, drawn.ln_n)


def _comparisons(pairs: _Pairs, baseline: str, laws: tuple[Scaling, ...]) -> tuple[Comparison, ...]:
    base = {isoflop.curve.budget: (isoflop, drawn) for isoflop, drawn in pairs if isoflop.curve.label == baseline}
    losses, sizes = ({law.label: law for law in laws if law.quantity == quantity} for quantity in ("loss", "n"))
    return tuple(
        _comparison(
            isoflop.curve.label,
            isoflop.curve.budget,
            (isoflop.loss, base[isoflop.curve.budget][0].loss),
            (drawn.loss, base[isoflop.curve.budget][1].loss),
            (losses.get(isoflop.curve.label), losses.get(baseline)),
            sizes,
            (min(base), max(base)),
        )
        for isoflop, drawn in pairs
        if isoflop.curve.label != baseline and isoflop.curve.budget in base
    )


def _comparison(
    label: str,
    budget: float,
    losses: tuple[float, float],
    draws: tuple[np.ndarray, np.ndarray],
    laws: tuple[Scaling | None, Scaling | None],
    sizes: dict[str, Scaling],
    measured: tuple[float, float],
) -> Comparison:
    """By the laws of the architecture and of the baseline that there are: of losses, and of best `sizes`."""
    own, base = (law if law is not None and law.fit.converged else None for law in laws)
    parameters = None
    if own is not None and base is not None and label in sizes and base.label in sizes:
        mine, theirs = sizes[label], sizes[base.label]
        trusted = (measured[0] / REACH, max(measured[1], budget) * REACH)
        point, drawn = (
            parameter_ratio(budget, values, (loss, n), n_base, trusted)
            for values, loss, n, n_base in (
                (losses, own.fit.law, mine.fit.law, theirs.fit.law),
                (draws, own.draws, mine.draws, theirs.draws),
            )
        )
        parameters = Interval.of(float(point), drawn) if 0 < point < np.inf else None
    multiplies = None if base is None else (base.fit.law, base.draws)
    return compare(label, budget, losses, draws, multiplies, measured, parameters)


def _crossovers(pairs: _Pairs, baseline: str, laws: tuple[Scaling, ...]) -> tuple[Crossover, ...]:
    losses = {law.label: law for law in laws if law.quantity == "loss"}
    budgets = {
        label: {isoflop.curve.budget for isoflop, _ in pairs if isoflop.curve.label == label} for label in losses
    }
    found = []
    for label, law in losses.items():
        shared = budgets[label] & budgets.get(baseline, set())
        if label != baseline and len(shared) >= 2:
            base = losses[baseline]
            measured = (min(shared), max(shared))
            found.append(crossover(label, (law.fit.law, base.fit.law), (law.draws, base.draws), measured))
    return tuple(found)


def _one(found: list[_T], what: str) -> _T:
    if not found:
        raise Undecided(f"the runs done do not show {what}")
    return found[0]
