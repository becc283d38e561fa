"""Intervals of several differences that all hold at once.

Each is stretched by one factor, the 95 % quantile over resampled studies of the largest deviation in units of the
single intervals, each side by itself (max-t; Romano and Wolf 2005, Econometrica 73:1237). With one difference the
factor is 1. Correlations are in the resamples: labels that share a baseline cost less than as many without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encdec_jax.laws.interval import LEVEL, Interval

EXACT = 1e-12  # bits per byte: no interval is shorter to one side, and no noise smaller


@dataclass(frozen=True, eq=False)
class Gaps:
    """Several differences of one study.

    Attributes:
      values: the estimates, [k].
      draws: resampled, all in the same resampled studies, [resamples, k].
      luck: what may have to be added to each, or taken away if below 0, for one side chose the best of more, [k].
    """

    values: np.ndarray
    draws: np.ndarray
    luck: np.ndarray

    def __matmul__(self, weights: np.ndarray) -> Gaps:
        """Sums of them, weighted [k, sums]."""
        return Gaps(self.values @ weights, self.draws @ weights, self.luck @ weights)

    def intervals(self, part: float) -> list[Interval]:
        """Intervals that all hold at once in 95 % of studies.

        Args:
          part: of the errors that this leaves, those that these intervals may make.
        """
        low, high = np.quantile(self.draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="nearest")
        below, above = np.maximum(self.values - low, EXACT), np.maximum(high - self.values, EXACT)
        off = self.draws - self.values
        largest = np.where(off > 0, off / above, -off / below).max(1)
        stretch = max(1.0, float(np.quantile(largest, 1 - (1 - LEVEL) * part)))
        low = self.values - stretch * below + np.minimum(self.luck, 0.0)
        high = self.values + stretch * above + np.maximum(self.luck, 0.0)
        return [Interval(*map(float, ends)) for ends in zip(self.values, low, high, strict=True)]


def joined(parts: Sequence[Gaps]) -> Gaps:
    """The differences of all parts."""
    return Gaps(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.draws for part in parts], axis=1),
        np.concatenate([part.luck for part in parts]),
    )
