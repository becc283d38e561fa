"""A number and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its 95 % interval; the ends are NaN where no interval can be given."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(cls, value: float, draws: np.ndarray) -> Interval:
        """The percentile interval of resampled estimates [resamples]; without ends if one of them is NaN."""
        if draws.size == 0 or np.isnan(draws).any():
            return cls(float(value))
        # An order statistic, not a mean of two: draws may be infinite.
        low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
        return cls(float(value), float(low), float(high))

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def above(self, bound: float) -> bool | None:
        """True if the whole interval lies above `bound`, False if the whole lies below, None if it holds `bound`."""
        if not self.known or self.low <= bound <= self.high:
            return None
        return self.low > bound

    def below(self, bound: float) -> bool | None:
        """True if the whole interval lies below `bound`, False if the whole lies above, None if it holds `bound`."""
        above = self.above(bound)
        return None if above is None else not above
