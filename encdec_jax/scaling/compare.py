"""Comparisons with a baseline at equal compute: gaps, compute multipliers, crossovers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encdec_jax.scaling.interval import Interval
from encdec_jax.scaling.laws import Law

REACH = 3.0  # times beyond the measured budgets, either way, that a law is trusted
_GRID = 400  # budgets at which the frontiers are compared


@dataclass(frozen=True)
class Comparison:
    """An architecture beside the baseline at one budget.

    Attributes:
      arch: the architecture that is compared.
      budget: training FLOPs.
      gap: its best loss minus the baseline's, bits per byte: above 0 where the baseline is better.
      multiplier: times the compute that it needs for the loss that the baseline reaches with 1/multiplier of it; None
        without a law of the baseline. Ends of the interval, or all of it, are `multiplier_least` or
        `multiplier_most` where the truth lies beyond.
      multiplier_least, multiplier_most: what can be said without extrapolating more than `REACH` times.
      better: probability that its best loss is below the baseline's.
    """

    arch: str
    budget: float
    gap: Interval
    multiplier: Interval | None
    multiplier_least: float
    multiplier_most: float
    better: float


@dataclass(frozen=True)
class Crossover:
    """Where two fitted frontiers cross within the measured budgets.

    Attributes:
      arch: the architecture that is compared with the baseline.
      low, high: the range of budgets that both were measured in, FLOPs.
      compute: where they cross, FLOPs; None if they do not cross in the range. An end of 0 or infinity says that the
        range does not bound the crossover there.
      beyond: whether the architecture, not the baseline, is better above the crossover; without one, whether it is
        better throughout.
      share: of resampled studies whose frontiers cross in the range.
    """

    arch: str
    low: float
    high: float
    compute: Interval | None
    beyond: bool
    share: float


def compare(
    arch: str,
    budget: float,
    losses: tuple[float, float],
    draws: tuple[np.ndarray, np.ndarray],
    laws: tuple[Law, Law] | None,
    measured: tuple[float, float],
) -> Comparison:
    """Compare an architecture with the baseline at one budget.

    The multiplier walks along the baseline's law from the budget to where its loss has changed by the ratio of the two
    best losses; so gap and multiplier always agree on who is better, whatever the law's residual at that budget.

    Args:
      arch: the architecture.
      budget: FLOPs.
      losses: best loss of the architecture and of the baseline.
      draws: the same, resampled, [resamples].
      laws: the baseline's law, and its resamples; None if there is none.
      measured: lowest and highest budget of the baseline.
    """
    least, most = budget / (measured[1] * REACH), budget / (measured[0] / REACH)
    multiplier = None
    if laws is not None:
        point = _multiplier(laws[0], budget, losses[0] / losses[1], least, most)
        multiplier = Interval.of(float(point), _multiplier(laws[1], budget, draws[0] / draws[1], least, most))
    return Comparison(
        arch,
        budget,
        Interval.of(losses[0] - losses[1], draws[0] - draws[1]),
        multiplier,
        least,
        most,
        float((draws[0] < draws[1]).mean()),
    )


def crossover(arch: str, laws: tuple[Law, Law], draws: tuple[Law, Law], measured: tuple[float, float]) -> Crossover:
    """Where the law of an architecture crosses the baseline's, if within the measured range.

    A resample whose frontiers do not cross in the range counts as crossing below it if the architecture that is better
    above the crossover is better throughout, else as crossing above it.

    Args:
      arch: the architecture.
      laws: of the architecture and of the baseline.
      draws: the same, resampled, [resamples].
      measured: the range of budgets, FLOPs.
    """
    ln_c = np.linspace(np.log(measured[0]), np.log(measured[1]), _GRID)
    point, end = _crossing(laws, ln_c)
    found, ends = _crossing(draws, ln_c)
    crossed = np.isfinite(found)
    share = float(crossed.mean())
    if not np.isfinite(point):
        return Crossover(arch, *measured, None, bool(end < 0), share)
    outside = np.where(np.sign(ends) == np.sign(end), -np.inf, np.inf)
    interval = Interval.of(float(np.exp(point)), np.exp(np.where(crossed, found, outside)))
    return Crossover(arch, *measured, interval, bool(end < 0), share)


def _multiplier(law: Law, budget: float, ratio: np.ndarray | float, least: float, most: float) -> np.ndarray:
    reached = law.compute_for(law.at(budget) * ratio)
    # A law that does not fall, as a few resamples may give, bounds nothing: no compute makes up for a gap.
    reached = np.where(np.isnan(reached), np.where(np.asarray(ratio) > 1, 0.0, np.inf), reached)
    with np.errstate(divide="ignore", over="ignore"):
        return np.clip(budget / reached, least, most)


def _crossing(laws: tuple[Law, Law], ln_c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln of the compute of the last crossing on the grid, NaN if there is none, and the gap at the grid's end."""
    gap = laws[0].at(np.exp(ln_c)) - laws[1].at(np.exp(ln_c))
    changes = np.sign(gap[..., 1:]) != np.sign(gap[..., :-1])
    place = changes.shape[-1] - 1 - changes[..., ::-1].argmax(-1)
    before, after = (np.take_along_axis(gap, (place + i)[..., None], -1)[..., 0] for i in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = ln_c[place] + (ln_c[1] - ln_c[0]) * before / (before - after)
    return np.where(changes.any(-1), crossing, np.nan), gap[..., -1]
