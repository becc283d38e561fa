"""What a study may claim in one line: who beats the baseline, at which budgets, and what the line has to say first.

One line draws from many differences: every label beside the baseline, over all budgets together and at each. If each
had an interval of its own, one of many would leave out 0 by chance. So those over all budgets have intervals that hold
together (`encdec_jax.study.simultaneous`); a label is claimed to be better or worse if its own leaves out 0. Only then
is it asked at which budgets that holds for each alone, by intervals that hold for all budgets of all labels together
(hierarchical testing: Meinshausen 2008, Biometrika 95:265). That a label is better at one budget and worse at another
needs two of these, and no third.

A budget supports claims only if both optima may lie inside the sizes trained: an optimum outside is a bound. Where it
is in doubt, the difference is resampled with optima up to `encdec_jax.study.noise.BEYOND` times outside. Without an
estimate of the noise there are no claims.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

from encdec_jax.laws.interval import LEVEL, Interval
from encdec_jax.study.findings import Findings
from encdec_jax.study.optima import Optimum
from encdec_jax.study.outliers import Outlier
from encdec_jax.study.paired import Pair
from encdec_jax.study.simultaneous import EXACT, Gaps, joined

_SEEDS = 3  # seeds of a pair of runs from where on their differences say what other seeds would


@dataclass(frozen=True)
class Claim:
    """A label is better or worse than the baseline.

    Attributes:
      label: that is compared.
      better: whether it beats the baseline.
      budgets: training FLOPs at which the claim holds for each alone, rising.
      together: whether it holds for the mean over all budgets compared.
      windows: those of `budgets` at which runs on the same windows decide, not the curves.
    """

    label: str
    better: bool
    budgets: tuple[float, ...]
    together: bool
    windows: tuple[float, ...] = ()


@dataclass(frozen=True)
class Beside:
    """A label beside the baseline, with intervals that hold together with those of all other labels.

    Attributes:
      label: that is compared.
      budgets: that support claims, rising.
      gaps: best loss minus the baseline's at each, bits per byte.
      mean: of the gaps, each weighted by its certainty.
    """

    label: str
    budgets: tuple[float, ...]
    gaps: tuple[Interval, ...]
    mean: Interval


@dataclass(frozen=True)
class Headline:
    """The claims of a study, and what qualifies them.

    Attributes:
      baseline: that the others are compared with.
      labels: of the others that share a budget with it.
      claims: at most two a label: where it crosses the baseline, one for each side.
      beside: labels with budgets that support claims.
      outside: optima at the edge of the sizes trained or beyond, or too often there; their budgets support no claim.
      doubtful: optima that resampled studies put outside now and then; their budgets' claims allow for it.
      unknown: labels whose noise was not estimated, for which nothing is claimed.
      effort: labels that had more settings a size to choose from than the baseline, or fewer, and the most of each;
        intervals allow for the luck of the best.
      outliers: runs that were left out.
      unchecked: labels with three sizes at every budget: nothing is left to check the parabola by.
      below: optima whose loss lies below all of their runs by more than the noise.
      pairs: runs of one seed a label that differ on the same windows by more than the choice of windows explains.
    """

    baseline: str
    labels: tuple[str, ...]
    claims: tuple[Claim, ...]
    beside: tuple[Beside, ...]
    outside: tuple[Optimum, ...] = ()
    doubtful: tuple[Optimum, ...] = ()
    unknown: tuple[str, ...] = ()
    effort: dict[str, tuple[int, int]] = field(default_factory=dict)
    outliers: tuple[Outlier, ...] = ()
    unchecked: tuple[str, ...] = ()
    below: tuple[Optimum, ...] = ()
    pairs: tuple[Pair, ...] = ()

    def claimed(self, label: str) -> tuple[Claim, ...]:
        """What is claimed of a label."""
        return tuple(claim for claim in self.claims if claim.label == label)

    def forbids(self, label: str, low: float = 0.0, high: float = math.inf) -> str:
        """Why nothing is claimed of a label at all budgets of a range, in a few words; empty where it may be."""
        both = {label, self.baseline}
        if both & set(self.unknown):
            return "noise unknown"
        outside = any(o.label in both and low <= o.budget <= high for o in self.outside)
        return "optimum may lie outside" if outside else ""

    def crosses(self, label: str) -> bool | None:
        """Whether its frontier crosses the baseline's between the budgets compared; None where that can't be told."""
        claims = self.claimed(label)
        if len(claims) == 2:
            return True
        if self.forbids(label):
            return None
        budgets = next((beside.budgets for beside in self.beside if beside.label == label), ())
        ends = {min(budgets), max(budgets)} if budgets else set()
        return False if len(budgets) > 1 and claims and ends <= set(claims[0].budgets) else None


def headline(found: Findings, pairs: Sequence[Pair] = ()) -> Headline:
    """What a study's findings license.

    Args:
      found: of the study; laws are not used.
      pairs: of runs on the same windows.
    """
    optima = {(o.label, o.budget): o for o in found.optima}
    labels = tuple(
        label
        for label in found.labels
        if label != found.baseline
        and any((label, b) in optima and (found.baseline, b) in optima for b in found.budgets)
    )
    known = {label for label, noise in found.noise.items() if noise.known}
    compared = {label: _compared(optima, label, found) for label in labels if {label, found.baseline} <= known}
    deciding = [
        pair
        for pair in pairs
        if pair.budget in compared.get(pair.label, ())
        and len(pair.runs) >= _SEEDS
        and not _effort(optima, pair.label, found)
    ]
    beside = _beside(optima, found.baseline, {label: b for label, b in compared.items() if b}, len(deciding))
    looks = sum(len(one.budgets) for one in beside) + len(deciding)
    signs = {
        (pair.label, pair.budget): pair.windows.value < 0 for pair in deciding if _chance(pair) * looks < 1 - LEVEL
    }
    shown = [o for o in found.optima if o.label in (*labels, found.baseline)]
    licensed = {(label, b) for label, budgets in compared.items() for b in budgets}
    return Headline(
        found.baseline,
        labels,
        tuple(claim for one in beside for claim in _claims(one, signs)),
        beside,
        tuple(o for o in shown if not o.may_be_inside),
        tuple(o for o in shown if o.may_be_inside and not o.inside),
        tuple(label for label in (found.baseline, *labels) if label not in known),
        {label: most for label in labels if (most := _effort(optima, label, found))},
        found.outliers,
        tuple(
            label
            for label in (found.baseline, *labels)
            if not any(o.isoflop.checked for o in shown if o.label == label and o.isoflop.coefficients is not None)
            and any(o.isoflop.coefficients is not None for o in shown if o.label == label)
        ),
        tuple(o for o in shown if o.below_all),
        tuple(
            pair
            for pair in pairs
            if pair.windows.above(0) is not None and len(pair.runs) < _SEEDS and (pair.label, pair.budget) in licensed
        ),
    )


def _compared(optima: dict[tuple[str, float], Optimum], label: str, found: Findings) -> tuple[float, ...]:
    """Budgets that support claims of a label."""
    both = ([optima.get((of, budget)) for of in (label, found.baseline)] for budget in found.budgets)
    return tuple(
        budget
        for budget, pair in zip(found.budgets, both, strict=True)
        if all(o is not None and o.may_be_inside for o in pair)
    )


def _effort(optima: dict[tuple[str, float], Optimum], label: str, found: Findings) -> tuple[int, int] | None:
    """The most settings a size of a label and of the baseline, where they differ."""
    most = [
        max(len(tried) for (of, _), o in optima.items() if of == name for tried in o.isoflop.curve.settings or [(0,)])
        for name in (label, found.baseline)
    ]
    return (most[0], most[1]) if most[0] != most[1] else None


def _beside(
    optima: dict[tuple[str, float], Optimum], baseline: str, compared: dict[str, tuple[float, ...]], others: int
) -> tuple[Beside, ...]:
    """Simultaneous intervals of all differences, at a level that leaves their part to so many others."""
    if not compared:
        return ()
    gaps, means, weights = [], [], []
    for label, budgets in compared.items():
        own, base = ([optima[of, budget] for budget in budgets] for of in (label, baseline))
        gap = Gaps(
            np.array([a.loss.value - b.loss.value for a, b in zip(own, base, strict=True)]),
            np.stack([a.draws.beyond - b.draws.beyond for a, b in zip(own, base, strict=True)], axis=-1),
            np.array([a.optimism - b.optimism for a, b in zip(own, base, strict=True)]),
        )
        low, high = np.quantile(gap.draws, [0.16, 0.84], axis=0)
        weight = 1 / np.maximum(high - low, EXACT) ** 2
        weights.append(weight / weight.sum())
        gaps.append(gap)
        means.append(gap @ weights[-1][:, None])
    looks = sum(len(budgets) for budgets in compared.values())
    single = iter(joined(gaps).intervals(looks / (looks + others)))
    together = joined(means).intervals(len(means) / (len(means) + others))
    return tuple(
        Beside(label, budgets, tuple(next(single) for _ in budgets), mean)
        for (label, budgets), mean in zip(compared.items(), together, strict=True)
    )


def _claims(one: Beside, by_windows: dict[tuple[str, float], bool]) -> list[Claim]:
    """What the intervals of a label say, and the pairs of runs that decide."""
    better: dict[float, bool] = {}
    for budget, gap in zip(one.budgets, one.gaps, strict=True):
        above = gap.above(0)
        sign = by_windows.get((one.label, budget)) if above is None else not above
        if sign is not None:
            better[budget] = sign
    mean = one.mean.above(0)
    windows = {b for b, gap in zip(one.budgets, one.gaps, strict=True) if b in better and gap.above(0) is None}
    sides = set(better.values())
    if len(sides) < 2:
        # One side only: of all budgets together, or where runs on the same windows decide.
        sides = {not mean} if mean is not None else {better[b] for b in windows}
    return [
        Claim(
            one.label,
            side,
            tuple(
                budget
                for budget, sign in better.items()
                if sign is side and (mean is not None or budget in windows or len(sides) == 2)
            ),
            len(sides) == 1 and mean is (not side),
            tuple(b for b in one.budgets if b in windows and better[b] is side),
        )
        for side in sorted(sides, reverse=True)
    ]


def _chance(pair: Pair) -> float:
    """Of a difference as large between seeds, or between choices of windows, if there were none: the larger of both."""
    free = len(pair.runs) - 1
    error = (pair.seeds.high - pair.seeds.low) / (2 * float(stdtrit(free, (1 + LEVEL) / 2)))
    choice = (pair.windows.high - pair.windows.low) / (2 * 1.96)
    if error <= 0 or choice <= 0:
        return 1.0
    value = abs(pair.seeds.value)
    return 2 * max(float(stdtr(free, -value / error)), float(ndtr(-value / choice)))
