"""Laws of compute: y = E + A (C / C0)^slope, fitted in logarithms.

With E = 0 a power law, a straight line in log-log; else a saturating one. Three budgets cannot tell E from the slope:
the saturating law is fitted only to four or more.

These are the laws of a frontier: of the optima of a few budgets, each already the outcome of a fit, and of sizes and
tokens as well as losses. There least squares is right, and has closed forms that fit thousands of resampled frontiers
at once. Laws of the runs themselves, with Huber's loss against outliers, are `encdec_jax.laws.forms`; its `power`
and `saturating` are the same two for tables of losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

MIN_SATURATING = 4  # budgets that a saturating law needs: one more than it has parameters
_STEEPEST, _FLATTEST = 3.0, 1e-3  # slopes, without sign, that are searched
_POINTS, _ROUNDS = 33, 4  # of a search: each round narrows it 16 times

Kind = Literal["power", "saturating"]


@dataclass(frozen=True, eq=False)
class Law:
    """A law, or an array of laws [...] such as those of resampled studies.

    Attributes:
      kind: 'power' or 'saturating'.
      reference: C0, in FLOPs.
      floor: E, in the unit of y; 0 for power laws.
      scale: A, in the unit of y.
      slope: the exponent of C; negative for losses.
    """

    kind: Kind
    reference: float
    floor: np.ndarray
    scale: np.ndarray
    slope: np.ndarray

    def at(self, compute: np.ndarray | float) -> np.ndarray:
        """y at compute [k] (FLOPs), as [..., k]; at one number, as [...]."""
        ratio = np.asarray(compute) / self.reference
        if ratio.ndim:
            return self.floor[..., None] + self.scale[..., None] * ratio ** self.slope[..., None]
        return self.floor + self.scale * ratio**self.slope

    def tangent(self, compute: np.ndarray) -> np.ndarray:
        """Derivatives of one law's ln(y) at compute [k] by A, the slope, and E unless it is 0: [k, 2 or 3]."""
        y, x = self.at(compute), np.log(compute / self.reference)
        power = self.scale * np.exp(self.slope * x) / y
        return np.stack([power, power * x] + [1 / y] * bool(self.floor > 0), axis=-1)

    def compute_for(self, y: np.ndarray) -> np.ndarray:
        """FLOPs at which a falling law reaches y [...]: infinite at its floor or below, NaN where it does not fall."""
        above = np.asarray(y) - self.floor
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = self.reference * (above / self.scale) ** (1 / self.slope)
        return np.where((self.slope < 0) & (self.scale > 0), np.where(above > 0, found, np.inf), np.nan)


@dataclass(frozen=True, eq=False)
class Fit:
    """A law and how well it fits.

    Attributes:
      law: of shape [].
      objective: sum of the squared residuals.
      residuals: ln(y) - ln(law), [points].
      n_points: budgets fitted to.
      converged: False if the search for the slope ended at the end of its range, or the law does not fall.
    """

    law: Law
    objective: float
    residuals: np.ndarray
    n_points: int
    converged: bool


def fit_power(compute: np.ndarray, y: np.ndarray, reference: float, weights: np.ndarray | None = None) -> Law:
    """Least squares in log-log.

    Args:
      compute: FLOPs, [points], at least 2 distinct.
      y: above 0, [..., points].
      reference: C0, FLOPs.
      weights: of the squared residuals, such as 1 over the variance of ln(y), [points]; 1 unless given.
    """
    x = np.log(compute / reference)
    share = np.ones_like(x) / len(x) if weights is None else weights / weights.sum()
    middle = x @ share
    centred = share * (x - middle)
    log_y = np.log(y)
    slope = log_y @ centred / (x @ centred)
    return Law("power", reference, np.zeros_like(slope), np.exp(log_y @ share - slope * middle), slope)


def fit_saturating(compute: np.ndarray, y: np.ndarray, reference: float) -> Law:
    """Least squares of relative residuals, by variable projection: at each slope searched, E >= 0 and A are solved for.

    Relative residuals are logarithmic ones to first order, and make the law linear in E and A. Arguments as those of
    `fit_power`, with at least `MIN_SATURATING` points.
    """
    low = np.full(y.shape[:-1], np.log(_FLATTEST))
    high = np.full(y.shape[:-1], np.log(_STEEPEST))
    x = np.log(compute / reference)
    for _ in range(_ROUNDS):
        grid = low[..., None] + (high - low)[..., None] * np.linspace(0, 1, _POINTS)
        basis = np.exp(-np.exp(grid)[..., None] * x)  # [..., _POINTS, points]
        floor, scale = _project(basis, y[..., None, :])
        residuals = (floor[..., None] + scale[..., None] * basis) / y[..., None, :] - 1
        best = np.square(residuals).sum(-1).argmin(-1)[..., None]
        low = np.take_along_axis(grid, np.maximum(best - 1, 0), -1)[..., 0]
        high = np.take_along_axis(grid, np.minimum(best + 1, _POINTS - 1), -1)[..., 0]
    slope, floor, scale = (np.take_along_axis(values, best, -1)[..., 0] for values in (-np.exp(grid), floor, scale))
    return Law("saturating", reference, floor, scale, slope)


def fit_loss(compute: np.ndarray, loss: np.ndarray, reference: float) -> Law:
    """The law of losses [..., points]: saturating where there are points enough to tell, else a power law."""
    fitted = fit_saturating if len(compute) >= MIN_SATURATING else fit_power
    return fitted(compute, loss, reference)


def assess(law: Law, compute: np.ndarray, y: np.ndarray) -> Fit:
    """How well one law fits its points [points]."""
    residuals = np.log(y) - np.log(law.at(compute))
    slope = abs(float(law.slope))
    searched = law.kind == "power" or 1.01 * _FLATTEST < slope < _STEEPEST / 1.01
    return Fit(law, float(residuals @ residuals), residuals, len(compute), searched and float(law.scale) > 0)


def _project(basis: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E >= 0 and A that minimise the relative residuals of E + A basis, over the last axis."""
    one, base = 1 / y, basis / y
    oo, ob, bb = (one * one).sum(-1), (one * base).sum(-1), (base * base).sum(-1)
    o1, b1 = one.sum(-1), base.sum(-1)
    determinant = oo * bb - ob * ob
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(determinant > 0, (o1 * bb - b1 * ob) / determinant, 0.0)
    floor = np.maximum(floor, 0.0)
    return floor, (b1 - floor * ob) / bb
