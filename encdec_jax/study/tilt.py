"""How much steeper the curves of a label are on one side: one number, common to all its budgets, found with the fits.

A tilt takes a degree of freedom of all residuals. Where few are left it would follow the noise: curves are then taken
for parabolas, and the bias of that is what `encdec_jax.study.bias` says. Where there is freedom enough, the data choose
among tilts that hold 0, and resampled studies choose again, so that intervals hold what the choice leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encdec_jax.study.curves import Curve
from encdec_jax.study.isoflop import IsoFlop, design, parabola, solver

FREEDOM = 6  # residuals of all curves of a label, from where on their tilt is sought
_TILTS = np.linspace(-0.8, 0.8, 41)


def fits(curves: Sequence[Curve]) -> list[IsoFlop]:
    """The fits of a study's curves, those of one label with one tilt."""
    of: dict[str, float | None] = {}
    for label in {curve.label for curve in curves}:
        own = [curve for curve in curves if curve.label == label]
        of[label] = float(tilts(own, [curve.loss for curve in own])) if sought(own) else None
    return [parabola(curve, of[curve.label]) for curve in curves]


def sought(curves: Sequence[Curve]) -> bool:
    """Whether the curves of a label leave enough residuals to find their tilt."""
    return sum(max(0, len(curve.n) - 3) for curve in curves) >= FREEDOM


def tilts(curves: Sequence[Curve], losses: Sequence[np.ndarray]) -> np.ndarray:
    """The tilt with the least squares of residuals, [...].

    Args:
      curves: of one label.
      losses: of each curve's sizes, [..., sizes].
    """
    squares = np.zeros((*losses[0].shape[:-1], len(_TILTS)))
    for curve, loss in zip(curves, losses, strict=True):
        if len(curve.n) > 3:
            root = np.sqrt(curve.seeds)[:, None]
            hats = [design(curve, curve.n, tilt) @ solver(curve, tilt) for tilt in _TILTS]
            rows = np.concatenate([root * (np.eye(len(curve.n)) - hat) for hat in hats])
            squares += np.square(loss @ rows.T).reshape(*squares.shape, len(curve.n)).sum(-1)
    return _TILTS[squares.argmin(-1)]


def solvers(curve: Curve, tilt: np.ndarray) -> np.ndarray:
    """The matrix that takes losses to coefficients for each tilt [draws] of the grid, [draws, 3, sizes]."""
    values, place = np.unique(tilt, return_inverse=True)
    return np.stack([solver(curve, value) for value in values])[place]
