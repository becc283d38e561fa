"""Comparisons with a baseline at equal compute or equal loss: gaps, multipliers, crossovers.

Where the frontiers cross is read off the probability that one of them is better: the crossover's interval holds the
budgets at which that probability lies between 2.5 and 97.5 %, so that the two can't be told apart there. Of a ratio
(a gap's height over its slope) this set covers as often as the gaps' own intervals do, which quantiles of resampled
crossings don't (Fieller 1954, JRSS B 16:175). It may reach an end of the range, or be empty: no crossover there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encdec_jax.errors import require
from encdec_jax.laws.ahead import REACH
from encdec_jax.laws.frontier import Law
from encdec_jax.laws.interval import LEVEL, Interval

_GRID = 200  # budgets at which the frontiers are compared


@dataclass(frozen=True)
class Comparison:
    """A label beside the baseline at one budget.

    Attributes:
      label: that is compared.
      budget: training FLOPs.
      gap: its best loss minus the baseline's, bits per byte: above 0 where the baseline is better.
      multiplier: times the compute that it needs for the loss that the baseline reaches with 1/multiplier of it; None
        without a law of the baseline. Ends of the interval, or all of it, are `multiplier_least` or
        `multiplier_most` where the truth lies beyond.
      multiplier_least, multiplier_most: what can be said without extrapolating more than `REACH` times.
      better: probability that its best loss is below the baseline's.
      parameters: times the parameters that it needs for the baseline's loss, both at their best sizes; None without
        laws of both best sizes, or where the loss lies beyond what its law is trusted for. An end of 0 or infinity
        says that the trusted range does not bound it there.
      extrapolated: whether the budget lies more than `REACH` times above those measured.
    """

    label: str
    budget: float
    gap: Interval
    multiplier: Interval | None
    multiplier_least: float
    multiplier_most: float
    better: float
    parameters: Interval | None = None
    extrapolated: bool = False


@dataclass(frozen=True)
class Crossover:
    """Where two fitted frontiers cross within a range of budgets.

    Attributes:
      label: that is compared with the baseline.
      low, high: the range of budgets that was searched, FLOPs; without extrapolation, that both were measured in.
      compute: where they cross, FLOPs, with `possible` for its interval; None if they do not cross in the range, or
        can't be told apart anywhere in it. An end of 0 or infinity says that the range does not bound the crossover.
      possible: the least and the largest budget at which the frontiers can't be told apart, with ends as above. None
        if one is better throughout: then there is no crossover in the range.
      beyond: whether the label, not the baseline, is better above the crossover; without one, whether it is
        better throughout.
      share: of resampled studies whose frontiers cross in the range.
      extrapolated: whether the range reaches beyond the budgets measured.
    """

    label: str
    low: float
    high: float
    compute: Interval | None
    possible: tuple[float, float] | None
    beyond: bool
    share: float
    extrapolated: bool = False


def compare(
    label: str,
    budget: float,
    losses: tuple[float, float],
    draws: tuple[np.ndarray, np.ndarray],
    laws: tuple[Law, Law] | None,
    measured: tuple[float, float],
    parameters: Interval | None = None,
    luck: float = 0.0,
) -> Comparison:
    """Compare a label with the baseline at one budget.

    The multiplier walks along the baseline's law from the budget to where its loss has changed by the ratio of the two
    best losses; so gap and multiplier always agree on who is better, whatever the law's residual at that budget.

    Args:
      label: of the runs.
      budget: FLOPs.
      losses: best loss of the label and of the baseline.
      draws: the same, resampled, [resamples].
      laws: the baseline's law, and its resamples; None if there is none.
      measured: lowest and highest budget of the baseline.
      parameters: times the parameters needed, for the comparison to hold.
      luck: bits per byte that the label's loss may be too low by, or the baseline's if below 0, for one of them had
        more settings to choose the best of; intervals reach as far.
    """
    extrapolated = budget > measured[1] * REACH
    # What was asked for beyond trust is trusted as far beyond itself as the largest budget would be.
    top = budget if extrapolated else measured[1]
    least, most = budget / (top * REACH), budget / (measured[0] / REACH)
    multiplier = None
    if laws is not None:
        point = float(_multiplier(laws[0], budget, losses[0] / losses[1], least, most))
        drawn = [_multiplier(laws[1], budget, (draws[0] + by) / draws[1], least, most) for by in (0.0, luck)]
        multiplier = Interval.of(point, drawn[0]).joined(Interval.of(point, drawn[1]))
    gaps = draws[0] - draws[1]
    gap = Interval.of(losses[0] - losses[1], gaps)
    return Comparison(
        label,
        budget,
        gap.joined(Interval.of(gap.value, gaps + luck)),
        multiplier,
        least,
        most,
        min((float((gaps + by < 0).mean()) for by in (0.0, luck)), key=lambda share: abs(share - 0.5)),
        parameters,
        extrapolated,
    )


def crossover(
    label: str, laws: tuple[Law, Law], draws: tuple[Law, Law], searched: tuple[float, float], extrapolated: bool = False
) -> Crossover:
    """Where the law of a label crosses the baseline's, if within the range searched; the last, if twice.

    Args:
      label: of the runs.
      laws: of the label and of the baseline.
      draws: the same, resampled, [resamples].
      searched: the range of budgets, FLOPs.
      extrapolated: whether it reaches beyond the budgets measured.
    """
    compute = np.geomspace(*searched, _GRID)
    gap = laws[0].at(compute) - laws[1].at(compute)
    drawn = draws[0].at(compute) - draws[1].at(compute)
    below = drawn < 0
    share = float((below[:, 1:] != below[:, :-1]).any(-1).mean())
    point = _crossing(gap, np.log(compute))
    possible = _tied(below.mean(0), compute)
    beyond = bool(gap[-1] < 0)
    if point is None or possible == (0.0, np.inf):  # nowhere told apart: no budget is more likely than another
        return Crossover(label, *searched, None, possible, beyond, share, extrapolated)
    # The estimate belongs to its own interval, also where resamples are biased.
    possible = (point, point) if possible is None else (min(point, possible[0]), max(point, possible[1]))
    return Crossover(label, *searched, Interval(point, *possible), possible, beyond, share, extrapolated)


def trust(compute: float, measured: tuple[float, float], extrapolate: bool) -> bool:
    """Whether a compute lies beyond what laws are trusted for, `REACH` times beyond the budgets measured.

    Raises:
      UserError: it does, and no one asked to extrapolate; or it lies as far below them, where no one needs laws.
    """
    low, high = measured[0] / REACH, measured[1] * REACH
    accepted = f"{low:.3g} to {high:.3g} FLOPs, {REACH:g}x beyond the budgets measured; more with extrapolate=True"
    require(low <= compute and (compute <= high or extrapolate), "compute", compute, accepted)
    return compute > high


def parameter_ratio(
    budget: float,
    losses: tuple[np.ndarray | float, np.ndarray | float],
    own: tuple[Law, Law],
    base: Law,
    trusted: tuple[float, float],
) -> np.ndarray:
    """Times the parameters that a label needs for the loss the baseline reaches with a budget.

    Args:
      budget: FLOPs of the baseline.
      losses: best loss of the label and of the baseline at the budget, [...].
      own: the label's laws of loss and of best size, [...].
      base: the baseline's law of best size, [...].
      trusted: compute between which the label's laws are trusted, FLOPs.

    Returns:
      the ratio, [...]: 0 and infinity where it lies beyond what is trusted.
    """
    loss, n = own
    reached = loss.compute_for(loss.at(budget) * np.asarray(losses[1]) / np.asarray(losses[0]))
    with np.errstate(divide="ignore", over="ignore"):  # of no compute and of endless: neither is trusted
        needed = n.floor + n.scale * (reached / n.reference) ** n.slope
    ratio = np.where(reached < trusted[0], 0.0, needed / base.at(budget))
    # NaN, of a law that does not fall, bounds nothing either.
    return np.where(reached <= trusted[1], ratio, np.inf)


def _multiplier(law: Law, budget: float, ratio: np.ndarray | float, least: float, most: float) -> np.ndarray:
    reached = law.compute_for(law.at(budget) * ratio)
    # A law that does not fall, as a few resamples may give, bounds nothing: no compute makes up for a gap.
    reached = np.where(np.isnan(reached), np.where(np.asarray(ratio) > 1, 0.0, np.inf), reached)
    with np.errstate(divide="ignore", over="ignore"):
        return np.clip(budget / reached, least, most)


def _crossing(gap: np.ndarray, ln_c: np.ndarray) -> float | None:
    """Compute of the last change of sign of gaps on a grid, interpolated; None if there is none."""
    (changes,) = np.nonzero(np.sign(gap[1:]) != np.sign(gap[:-1]))
    if not len(changes):
        return None
    i = int(changes[-1])
    return float(np.exp(ln_c[i] + (ln_c[i + 1] - ln_c[i]) * gap[i] / (gap[i] - gap[i + 1])))


def _tied(better: np.ndarray, compute: np.ndarray) -> tuple[float, float] | None:
    """The ends of the budgets where neither is better for sure; 0 and infinity where that holds at the range's end."""
    (tied,) = np.nonzero(np.abs(better - 0.5) <= LEVEL / 2)
    if not len(tied):
        return None
    first, last = int(tied[0]), int(tied[-1])
    # The ends lie between two budgets of the grid: the outer one is taken.
    return (
        float(compute[first - 1]) if first > 0 else 0.0,
        float(compute[last + 1]) if last + 1 < len(compute) else np.inf,
    )
