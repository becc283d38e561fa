"""What a results table shows: optima, laws, comparisons with the baseline, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from encdec_jax.errors import Undecided, require
from encdec_jax.laws.budgets import printed
from encdec_jax.laws.interval import Interval
from encdec_jax.laws.read import read
from encdec_jax.study import health
from encdec_jax.study.comparison import Comparison, Crossover, crossover, trust
from encdec_jax.study.curves import Exclusion
from encdec_jax.study.foreign import sound
from encdec_jax.study.noise import Noise
from encdec_jax.study.optima import Optimum, measure
from encdec_jax.study.outliers import Outlier
from encdec_jax.study.pooling import NONE, Reasons
from encdec_jax.study.scaling import Scaling, beside, comparisons, crossovers, fit_laws
from encdec_jax.sweep import results
from encdec_jax.sweep.experiment import Experiment, Settings

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that a results table shows. A law or comparison that its runs do not allow is absent from its list.

    Attributes:
      baseline: the label that the others are compared with.
      labels: with at least one run done, the baseline first.
      budgets: FLOPs, rising.
      optima, laws, comparisons, crossovers: what was found.
      noise: of one run, by label.
      exclusions: runs that no fit uses.
      outliers: those of them that lie off their curves by more than noise explains.
      every: the labels of the whole study, also where these are the findings of only some.
      withheld: why nothing is claimed of labels at budgets, of findings that are `claimed`.
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
    outliers: tuple[Outlier, ...] = ()
    every: tuple[str, ...] = ()
    withheld: Mapping[tuple[str, float], str] = field(default_factory=dict)

    def __repr__(self) -> str:
        found = [f"{len(getattr(self, name))} {name}" for name in ("optima", "laws", "comparisons", "crossovers")]
        return f"Findings({self._there}; {', '.join(found)}; {len(self.exclusions)} exclusions)"

    def optimum(self, label: str, budget: float, sizes: int = 1) -> Optimum:
        """The best size of a label for a budget, which may be rounded as it is printed.

        Raises:
          Undecided: no run of the two is done, or fewer than so many sizes.
        """
        budget = printed(budget, self.budgets)
        there = [o for o in self.optima if (o.label, o.budget) == (label, budget) and len(o.isoflop.curve.n) >= sizes]
        wanted = f"{sizes} sizes of " if sizes > 1 else ""
        return self._one(there, f"{wanted}{label} at {budget:.3g} FLOPs", (label,), budget)

    def gap(self, label: str, other: str, budget: float, before: float | None = None, sizes: int = 1) -> Interval:
        """The best loss of one label minus that of another at a budget, in bits per byte.

        Args:
          before: if given, the same gap at this budget is taken off.
          sizes: that must be done of each.

        Raises:
          Undecided: as `optimum`.
        """
        one, two = self.optimum(label, budget, sizes), self.optimum(other, budget, sizes)
        value, draws = one.loss.value - two.loss.value, one.draws.loss - two.draws.loss
        luck = one.optimism - two.optimism
        if before is not None:
            one, two = self.optimum(label, before, sizes), self.optimum(other, before, sizes)
            value, draws = value - (one.loss.value - two.loss.value), draws - (one.draws.loss - two.draws.loss)
            luck -= one.optimism - two.optimism
        return Interval.of(value, draws).joined(Interval.of(value, draws + luck))

    def law(self, label: str, quantity: str = "loss") -> Scaling:
        """The law of a label's 'loss', 'n' or 'd'.

        Raises:
          Undecided: its runs allow no such law.
        """
        return self._one(
            [law for law in self.laws if (law.label, law.quantity) == (label, quantity)],
            f"{quantity} of {label}",
            (label,),
        )

    def comparison(self, label: str, budget: float) -> Comparison:
        """A label beside the baseline at a budget, which may be rounded as it is printed.

        Raises:
          Undecided: one of the two has no run done at the budget.
        """
        budget = printed(budget, self.budgets)
        found = [c for c in self.comparisons if (c.label, c.budget) == (label, budget)]
        what = f"{label} beside {self.baseline} at {budget:.3g} FLOPs"
        return self._one(found, what, (label, self.baseline), budget)

    def at(self, label: str, compute: float, extrapolate: bool = False) -> Comparison:
        """A label beside the baseline at any compute, along the laws of both.

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
        return beside(label, compute, losses, draws, laws, sizes, measured)

    def crossover(self, label: str, upto: float | None = None, extrapolate: bool = False) -> Crossover:
        """Where a label's frontier crosses the baseline's: in the budgets both were measured at, or up to one.

        Raises:
          Undecided: one of the two has no law, or the two share fewer than two budgets.
          UserError: `upto` lies more than `REACH` times beyond the budgets, and no one asked to extrapolate.
        """
        if upto is None:
            found = [c for c in self.crossovers if c.label == label]
            return self._one(found, f"the frontiers of {label} and {self.baseline}", (label, self.baseline))
        if why := self._withheld((label, self.baseline)):
            raise Undecided(why)
        laws = (self.law(label), self.law(self.baseline))
        measured = self._measured(laws)
        trust(upto, measured, extrapolate)
        points, draws = (laws[0].fit.law, laws[1].fit.law), (laws[0].draws, laws[1].draws)
        return crossover(label, points, draws, (measured[0], upto), upto > measured[1])

    @cached_property
    def claimed(self) -> Findings:
        """What supports claims, by the rules of `encdec_jax.study.headline`: what predictions are judged by.

        Without budgets whose best size may lie outside the sizes trained, and labels whose noise is not known; laws
        are fitted to the others. Where a best size is in doubt, intervals allow for it outside. A crossover needs all
        budgets of both labels.
        """
        known = {label for label, noise in self.noise.items() if noise.known}
        withheld: dict[tuple[str, float], str] = {}
        for one in self.optima:
            if one.label not in known:
                withheld[one.label, one.budget] = f"the noise of {one.label} is not known"
            elif not one.may_be_inside:
                where = f"at {one.budget:.3g} FLOPs may lie outside the sizes tried"
                withheld[one.label, one.budget] = f"the best size of {one.label} {where}"
        kept = tuple(one.allowing_outside for one in self.optima if (one.label, one.budget) not in withheld)
        paired = [(one.isoflop, one.draws) for one in kept]
        laws = fit_laws(paired, self.labels, self.budgets[-1]) if kept else ()
        doubtful = {label for label, _ in withheld}
        crossed = () if self.baseline in doubtful else crossovers(paired, self.baseline, laws)
        return replace(
            self,
            optima=kept,
            laws=laws,
            comparisons=comparisons(paired, self.baseline, laws),
            crossovers=tuple(one for one in crossed if one.label not in doubtful),
            withheld=withheld,
        )

    @property
    def _there(self) -> str:
        budgets = ", ".join(f"{budget:.3g}" for budget in self.budgets)
        return f"labels {', '.join(self.labels) or 'none'}, baseline {self.baseline}; budgets {budgets or 'none'} FLOPs"

    def _one(self, found: list[_T], what: str, labels: tuple[str, ...], budget: float | None = None) -> _T:
        if not found:
            why = self._withheld(labels, budget)
            raise Undecided(why or f"the runs done do not show {what}; they show {self._there}")
        return found[0]

    def _withheld(self, labels: tuple[str, ...], budget: float | None = None) -> str:
        """Why nothing is claimed of labels, at a budget or at any of all; empty where it may be."""
        whys = [why for (label, at), why in self.withheld.items() if label in labels and budget in (None, at)]
        return "; ".join(dict.fromkeys(whys))

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
    return _findings(table, experiment.baseline, excluded, drop_edges, experiment.pooled, experiment.settings)


def analyze(
    table: Any,
    baseline: str,
    excluded: Sequence[Exclusion] = (),
    drop_edges: bool = False,
    pooled: Reasons = NONE,
    settings: Settings = "best",
) -> Findings:
    """Fit all that a table allows.

    Args:
      table: a polars or pandas frame, a CSV or Parquet file, or a folder that holds results.parquet, with the columns
        of `encdec_jax.sweep.results.SCHEMA`, or those of `encdec_jax.study.foreign.NEEDED`; only runs that are done
        and have a budget count.
      baseline: the label that the others are compared with.
      excluded: runs that health rules leave out of all fits.
      drop_edges: leave budgets whose optimum is not inside the sizes trained out of laws of loss and of comparisons
        too, not only out of laws of size.
      pooled: why runs of several codes or texts may be pooled, if they are.
      settings: what stands for a size that was trained with several, as in `encdec_jax.study.curves.curves`.

    Raises:
      UserError: the table can't be read, or has no such baseline; its runs are not sound, as
        `encdec_jax.study.foreign.as_results` says; a run is there twice, or runs differ in their code or their text
        without a reason.
    """
    folder = isinstance(table, str | Path) and Path(table).is_dir()
    runs = sound(results.load(table) if folder else read(table))
    there = sorted(set(runs["label"].drop_nulls()))
    require(baseline in there or not there, "baseline", baseline, f"a label of the table: {', '.join(there)}")
    return _findings(runs, baseline, excluded, drop_edges, pooled, settings)


def _findings(
    table: pl.DataFrame,
    baseline: str,
    excluded: Sequence[Exclusion],
    drop_edges: bool,
    pooled: Reasons,
    settings: Settings,
) -> Findings:
    measured = measure(table, excluded, pooled, settings)
    labels = tuple(sorted(measured.noise, key=lambda label: (label != baseline, label)))
    budgets = tuple(sorted({optimum.budget for optimum in measured.optima}))
    paired = [(o.isoflop, o.draws) for o in measured.optima if o.isoflop.converged or not drop_edges]
    laws = fit_laws(paired, labels, budgets[-1]) if budgets else ()
    return Findings(
        baseline=baseline,
        labels=labels,
        budgets=budgets,
        optima=measured.optima,
        laws=laws,
        comparisons=comparisons(paired, baseline, laws),
        crossovers=crossovers(paired, baseline, laws),
        noise=measured.noise,
        exclusions=measured.exclusions,
        outliers=measured.outliers,
        every=labels,
    )
