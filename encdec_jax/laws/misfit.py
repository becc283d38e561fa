"""Whether a law fits its table, and the table determines the law: do residuals say no more than that runs differ?

Where runs are repeated their differences say how large residuals may be (the lack-of-fit test; Draper and Smith 1998,
Applied Regression Analysis, chapter 2). Where they are not, residuals that bend with the law's columns say that
another law fits better: the squares and products of their logarithms are added to the law's tangent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import fdtrc

from encdec_jax.laws.fit import Fitted
from encdec_jax.laws.form import Form
from encdec_jax.laws.interval import Interval

_RARE = 1e-3  # of tables that a law fits, that are said not to be
_FAR = 4.0  # robust standard deviations at which residuals are cut: an outlier is no bend
_NORMAL = 0.6745  # of a standard normal number, the median size
_TIMES = 100.0  # between the ends of a factor's interval, and
_SHARE = 1.0  # of an exponent, the width of its interval, from where on it is called hardly determined


def repeated(fitted: Fitted) -> np.ndarray:
    """Which of the distinct places of the law's columns each point stands at, counted from 0, [points]."""
    rows = np.stack([np.unique(fitted.columns[name], return_inverse=True)[1] for name in fitted.form.columns], axis=-1)
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def off(fitted: Fitted) -> float:
    """Times as far off the law as runs of one place are off each other that places are; 1 where chance explains it."""
    used = fitted.weights > 0
    place, residual, weight = repeated(fitted)[used], fitted.residuals[used], fitted.weights[used]
    sums = np.bincount(place, weight)
    means = np.bincount(place, weight * residual) / np.where(sums > 0, sums, 1.0)
    within = float(weight @ np.square(residual - means[place]))
    about = float(sums @ np.square(means))
    places = int((sums > 0).sum())
    free, left = len(residual) - places, places - len(fitted.form.names) + len(fitted.fixed)
    if min(free, left, within) <= 0:
        return 1.0
    ratio = about / left / (within / free)
    return float(np.sqrt(ratio)) if fdtrc(left, free, ratio) < _RARE else 1.0


def bends(fitted: Fitted) -> bool:
    """Whether residuals bend with the law's columns, by more than chance explains."""
    used = fitted.weights > 0
    root = np.sqrt(fitted.weights[used])
    residual = fitted.residuals[used]
    size = float(np.median(np.abs(residual))) / _NORMAL
    target = root * np.clip(residual, -_FAR * size, _FAR * size)
    form, group = fitted.form, fitted.form.group
    logs = [np.log(fitted.columns[name][used]) for name in form.columns if name != group]
    x = [(one - one.mean()) / max(float(one.std()), 1e-9) for one in logs]
    added = [*x, *(a * b for place, a in enumerate(x) for b in x[place:])]
    if group is not None:
        of = np.asarray(fitted.columns[group])[used]
        added = [row * (of == one) for row in added for one in sorted(set(of))]
    free = np.array([name not in fitted.fixed for name in form.names])
    tangent = form.bind(fitted.columns)(fitted.internal[None])[1][0][free][:, used]
    small, large = (_left(target, root * np.array(rows)) for rows in (tangent, [*tangent, *added]))
    more, freedom = small[1] - large[1], large[1]
    if more <= 0 or freedom <= 0 or large[0] <= 0:
        return False
    return bool(fdtrc(more, freedom, (small[0] - large[0]) / more / (large[0] / freedom)) < _RARE)


def _left(target: np.ndarray, rows: np.ndarray) -> tuple[float, int]:
    """Sum of squares of what least squares by rows [k, points] leaves of a target [points], and its freedom."""
    scale = np.linalg.norm(rows, axis=1, keepdims=True)
    u, s, _ = np.linalg.svd((rows / np.where(scale > 0, scale, 1.0)).T, full_matrices=False)
    u = u[:, s > 1e-8 * s[0]]
    return float(np.square(target - u @ (u.T @ target)).sum()), len(target) - u.shape[1]


def weak(form: Form, intervals: Mapping[str, Interval]) -> list[str]:
    """A line on what the points hardly determine, by the width of the intervals; none if all is determined."""
    exponents = {parameter.name for parameter in form.parameters if not parameter.log}
    any_sign = {parameter.name for parameter in form.parameters if parameter.any_sign}

    def wide(name: str, one: Interval) -> bool:
        if name in exponents or name.partition("[")[0].endswith(("exponent", "share")):
            return one.high - one.low > _SHARE * abs(one.value)
        return one.high > _TIMES * one.low

    found = [name for name, one in intervals.items() if one.known and name not in any_sign and wide(name, one)]
    return [f"hardly determined by these points, as the intervals show: {', '.join(found)}"] if found else []
