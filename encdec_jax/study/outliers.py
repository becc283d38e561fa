"""Runs that lie off their curve by more than noise explains, named instead of taken for noise.

The parabola of a budget with four sizes leaves one residual, which can't say whose it is. So each label is looked at as
a whole: every budget has a level and a slope of its own, and the bend, which changes slowly, is linear in ln(budget);
so is the tilt, and a fourth power is alike at all budgets, where there are sizes enough.
A run's residual is divided by its standard error, which the noise is estimated for without the run (an externally
studentised residual; Cook and Weisberg 1982, Residuals and Influence in Regression, section 2.2.1), and compared with
the largest that as many runs without an outlier would have, once in 100 studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy.special import stdtr

from encdec_jax.study.curves import Curve
from encdec_jax.study.tilt import sought

_RARE = 0.01  # of studies without an outlier that one is named in
_LEAST = 0.01  # of the loss: what lies nearer to its curve is no outlier, however exact the others are
_ENOUGH = 8.0  # residuals from where on a label's own noise is relied on, be it less than the others'
_SAME = 0.999  # of the largest studentised residual, another's that can't be told from it
_FREE = 1e-6  # of a run's residual that the fit leaves it, from where on there is a residual


@dataclass(frozen=True)
class Outlier:
    """A run off its curve.

    Attributes:
      run_id, label: of the run.
      budget: training FLOPs.
      off: bits per byte that it lies above the curve of the other runs.
      studentised: the same in standard errors.
    """

    run_id: str
    label: str
    budget: float
    off: float
    studentised: float


def outlier(curves: Sequence[Curve]) -> Outlier | None:
    """The run that is furthest off its curve, if it is off by more than noise explains; of the curves of a study."""
    ordered = sorted(curves, key=lambda curve: (curve.label, curve.budget))
    parts = [_residuals(list(of)) for _, of in groupby(ordered, key=lambda curve: curve.label)]
    squares = [float(residual @ residual) for residual, _, _ in parts]
    free = [dof for _, _, dof in parts]
    everything, freedom = sum(squares), sum(free)
    runs = sum(int((leverage < 1 - _FREE).sum()) for _, leverage, _ in parts)
    found: list[tuple[float, Outlier]] = []
    for (residual, leverage, dof), own, label in zip(
        parts, squares, dict.fromkeys(c.label for c in ordered), strict=True
    ):
        names = [(run, c) for c in ordered if c.label == label for run in zip(c.run_ids, c.run_loss, strict=True)]
        for e, h, ((identity, loss), curve) in zip(residual, leverage, names, strict=True):
            if h >= 1 - _FREE or freedom < 3 or abs(e) < _LEAST * loss * (1 - h):
                continue
            without = e**2 / (1 - h)
            pooled = max(0.0, everything - without) / (freedom - 1)
            alone = max(0.0, own - without) / (dof - 1) if dof > 1 else 0.0
            trusted = dof - 1 >= _ENOUGH
            error = np.sqrt((alone if trusted else max(alone, pooled)) * (1 - h))
            t = float(e / error) if error > 0 else np.inf * np.sign(e)
            chance = 2 * float(stdtr(dof - 1 if trusted else freedom - 1, -abs(t)))
            if chance * runs < _RARE:
                found.append((chance, Outlier(identity, label, curve.budget, float(e / (1 - h)), t)))
    first, *others = (one for _, one in sorted(found, key=lambda pair: pair[0])) if found else (None,)
    # Runs that share the one residual of their curve: nobody can say whose it is.
    if first is None or any(abs(one.studentised) > _SAME * abs(first.studentised) for one in others):
        return None
    return first


def _residuals(curves: list[Curve]) -> tuple[np.ndarray, np.ndarray, float]:
    """Residuals [runs] of one label's runs, their leverages [runs], and the degrees of freedom."""
    runs = sum(len(curve.run_loss) for curve in curves)
    columns = []
    place = 0
    wide = sought(curves)
    bends = np.zeros((runs, 5 if wide else 2))
    middle = np.mean([np.log(curve.budget) for curve in curves])
    for curve in curves:
        here = slice(place, place := place + len(curve.run_loss))
        x = (np.log(curve.n) - np.log(curve.n).mean())[curve.run_size]
        level, slope = np.zeros(runs), np.zeros(runs)
        level[here], slope[here] = 1.0, x
        columns += [level, slope]
        drift = np.log(curve.budget) - middle
        bends[here] = np.stack([x**2, x**2 * drift, *([x**3, x**3 * drift, x**4] if wide else [])], axis=-1)
    design = np.concatenate([np.stack(columns, axis=-1), bends], axis=1)
    u, s, _ = np.linalg.svd(design, full_matrices=False)
    u = u[:, s > 1e-9 * s[0]]
    loss = np.concatenate([curve.run_loss for curve in curves])
    return loss - u @ (u.T @ loss), np.square(u).sum(1), float(runs - u.shape[1])
