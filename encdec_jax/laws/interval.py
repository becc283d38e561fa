"""A number and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
Kind = Literal["percentile", "basic", "bca"]
_WIDTH = 1e-9  # of the estimate: an interval that is narrower is rounding
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its 95 % interval; the ends are NaN where no interval can be given."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        ends = f" [{self.low:.3g}, {self.high:.3g}]" if self.known else ""
        return f"{self.value:.3g}{ends}"

    @classmethod
    def of(
        cls,
        value: float,
        draws: np.ndarray,
        kind: Kind = "percentile",
        jackknife: np.ndarray | None = None,
        units: int | None = None,
    ) -> Interval:
        """The interval of resampled estimates; without ends if one of them is NaN.

        Args:
          value: the estimate.
          draws: resampled estimates [resamples]; may be infinite, which 'basic' only takes on the side it reflects.
          kind: 'percentile' takes quantiles of the draws; 'basic' reflects them at the estimate, and wants estimates
            whose errors don't depend on their size (logarithms of sizes, exponents); 'bca' moves the quantiles by the
            draws' median bias and by the acceleration (Efron 1987, JASA 82:171), as case resampling of few runs needs.
          jackknife: of 'bca', estimates that leave out one resampled unit each, [units], finite; None takes the
            acceleration for 0, as under a model-based bootstrap, which has no units to leave out.
          units: of case resampling, how many it draws from, at least 2. Few units differ less among resamples than in
            truth: the quantiles are taken further out, by Student's t and by the degree of freedom that the mean takes
            (Hesterberg 2015, The American Statistician 69:371, section 5.3). None for draws that hold all uncertainty
            already, as the model-based ones do.
        """
        if draws.size == 0 or np.isnan(draws).any():
            return cls(float(value))
        tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        if units is not None:
            reach = float(stdtrit(units - 1, tails[1])) * math.sqrt(units / (units - 1))
            tails = (_NORMAL.cdf(-reach), _NORMAL.cdf(reach))
        if kind == "bca":
            tails = _bca(value, draws, tails, jackknife)
        # An order statistic, not a mean of two: draws may be infinite.
        low, high = (float(q) for q in np.quantile(draws, tails, method="nearest"))
        if kind == "basic":
            low, high = 2 * float(value) - high, 2 * float(value) - low
        return cls(float(value), low, high)

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def unless_flat(self) -> Interval:
        """Itself; without ends if it has no width: resamples that are all alike saw nothing of what may vary."""
        flat = self.known and not self.high - self.low > _WIDTH * abs(self.value)
        return Interval(self.value) if flat else self

    def joined(self, other: Interval) -> Interval:
        """The same estimate, with the interval that holds both; without ends if one has none."""
        known = self.known and other.known
        return (
            Interval(self.value, min(self.low, other.low), max(self.high, other.high))
            if known
            else Interval(self.value)
        )

    def above(self, bound: float) -> bool | None:
        """True if the whole interval lies above `bound`, False if the whole lies below, None if it holds `bound`."""
        if not self.known or self.low <= bound <= self.high:
            return None
        return self.low > bound

    def below(self, bound: float) -> bool | None:
        """True if the whole interval lies below `bound`, False if the whole lies above, None if it holds `bound`."""
        above = self.above(bound)
        return None if above is None else not above

    def within(self, width: float) -> bool | None:
        """True if the whole interval lies between -width and width, False if the whole lies outside, else None."""
        above, below = self.above(-width), self.below(width)
        return None if above is None or below is None else above and below

    def json(self) -> dict[str, float | None]:
        """Value, lo and hi; null stands for an end that is unknown or infinite."""
        ends = {"value": self.value, "lo": self.low, "hi": self.high}
        return {name: end if math.isfinite(end) else None for name, end in ends.items()}


def acceleration(jackknife: np.ndarray) -> float:
    """A sixth of the skewness of leave-one-out estimates [units], Efron's `a`; 0 where they do not differ."""
    deviations = jackknife.mean() - jackknife
    squares = float(deviations @ deviations)
    return float((deviations**3).sum() / (6 * squares**1.5)) if squares > 0 else 0.0


def _bca(
    value: float, draws: np.ndarray, tails: tuple[float, float], jackknife: np.ndarray | None
) -> tuple[float, float]:
    below = ((draws < value).sum() + 0.5 * (draws == value).sum() + 0.5) / (len(draws) + 1)  # never 0 or 1
    bias = _NORMAL.inv_cdf(float(below))
    a = 0.0 if jackknife is None else acceleration(jackknife)

    def moved(tail: float) -> float:
        if not 0 < tail < 1:
            return tail
        shifted = bias + _NORMAL.inv_cdf(tail)
        # Beyond the pole of 1 - a z there is nothing: the extreme draw is the end.
        scale = 1 - a * shifted
        return _NORMAL.cdf(bias + shifted / scale) if scale > 0 else float(shifted > 0)

    return moved(tails[0]), moved(tails[1])
