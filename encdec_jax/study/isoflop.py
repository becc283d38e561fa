"""The best size for a budget: a parabola through the losses of one budget, in the logarithm of the parameters.

Chinchilla's Approach 2 (arXiv 2203.15556, section 3.2). Curves that are steeper on one side than on the other are no
parabolas, and over a wide grid a parabola misplaces their minimum (`encdec_jax.study.bias`). So the third function of
the fit, beside 1 and x, is 2 (exp(t x) - 1 - t x) / t^2, which is x^2 at t = 0: the third derivative of such a curve is
t times the second, as that of a law E + A/N^alpha + B/D^beta is beta - alpha times it at the minimum, at every budget.
One tilt t is common to all curves of a label, and found with them where they leave enough freedom for it
(`encdec_jax.study.tilt`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from encdec_jax.study.curves import Curve

Shape = Literal["inside", "edge", "not convex", "too few sizes", "too close"]
SPREAD = 2.0  # largest size over the smallest, from where on a parabola is fitted


@dataclass(frozen=True, eq=False)
class IsoFlop:
    """What one budget shows of one label.

    Attributes:
      curve: that was fitted.
      shape: 'inside' if the parabola's minimum lies between the smallest and the largest size. Else the minimum is
        not to be trusted, and the best size trained stands for it: it is the grid's edge or beyond, there is no
        minimum, or fewer than 3 sizes give no parabola.
      coefficients: of 1, x and x^2 for x = ln(N) - mean ln(N), [3]; None with too few sizes.
      n, d, loss: of the optimum: parameters, tokens, bits per byte.
      tilt: of the label's curves; None where it was not sought, and the curve is a parabola.
    """

    curve: Curve
    shape: Shape
    coefficients: np.ndarray | None
    n: float
    d: float
    loss: float
    tilt: float | None = None

    @property
    def checked(self) -> bool:
        """Whether the curve has more sizes than the parabola has parameters, so that it leaves residuals."""
        return self.coefficients is not None and len(self.curve.n) > 3

    @property
    def converged(self) -> bool:
        """Whether the optimum is the parabola's own."""
        return self.shape == "inside"

    @property
    def reason(self) -> str:
        """Why the optimum is not the parabola's own, for the list of exclusions; empty if it is."""
        end = "smallest" if self.n == self.curve.n[0] else "largest" if self.n == self.curve.n[-1] else "best"
        return {
            "inside": "",
            "edge": f"the parabola's minimum lies at the edge of the sizes or beyond; the {end} size stands for it",
            "not convex": f"the losses do not curve upwards; the {end} size stands for the optimum",
            "too few sizes": f"fewer than 3 sizes give no parabola; the {end} one done stands for the optimum",
            "too close": f"sizes within a factor of {SPREAD:g} give no parabola; the {end} one stands for the optimum",
        }[self.shape]

    def fitted(self, n: np.ndarray) -> np.ndarray:
        """The parabola's loss at sizes `n`, which needs coefficients."""
        assert self.coefficients is not None
        return design(self.curve, n, self.tilt or 0.0) @ self.coefficients


def parabola(curve: Curve, tilt: float | None = None, spread: float = SPREAD) -> IsoFlop:
    """Fit the parabola by least squares, each size weighted by its number of seeds.

    Args:
      curve: the losses.
      tilt: of the label's curves, if it was sought.
      spread: the largest size over the smallest that a parabola needs.
    """
    best = int(curve.loss.argmin())
    coefficients: np.ndarray | None = None
    shape: Shape = "too few sizes"
    if len(curve.n) >= 3:
        shape = "too close"
    if len(curve.n) >= 3 and curve.n[-1] >= spread * curve.n[0]:
        coefficients = solver(curve, tilt or 0.0) @ curve.loss
        x, loss, inside = minimum(curve, coefficients, tilt or 0.0)
        if inside:
            tokens = float(tokens_at(curve, x))
            return IsoFlop(curve, "inside", coefficients, float(np.exp(x)), tokens, float(loss), tilt)
        shape = "edge" if coefficients[2] > 0 else "not convex"
    place = float(curve.n[best]), float(curve.d[best]), float(curve.loss[best])
    return IsoFlop(curve, shape, coefficients, *place, tilt)


def design(curve: Curve, n: np.ndarray, tilt: float = 0.0) -> np.ndarray:
    """1, x and x^2 for x = ln(n) - mean ln(N) of sizes `n` [sizes], as [sizes, 3]; x^2 tilted."""
    x = np.log(n) - np.log(curve.n).mean()
    return np.stack([np.ones_like(x), x, _square(x, tilt)], axis=-1)


def solver(curve: Curve, tilt: float = 0.0) -> np.ndarray:
    """The matrix [3, sizes] that takes losses to the least-squares coefficients."""
    root = np.sqrt(curve.seeds)
    return np.linalg.pinv(design(curve, curve.n, tilt) * root[:, None]) * root


def minimum(
    curve: Curve, coefficients: np.ndarray, tilt: np.ndarray | float = 0.0, beyond: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where parabolas [..., 3] are least within the curve's sizes: ln(N), the loss there, and whether inside.

    Args:
      curve: whose sizes are meant.
      coefficients: of `design`.
      tilt: of each, [...].
      beyond: times beyond the sizes, either way, that the minimum may lie.
    """
    c0, c1, c2 = np.moveaxis(coefficients, -1, 0)
    t = np.asarray(tilt, np.float64)
    x = np.log(curve.n) - np.log(curve.n).mean()
    low, high = x[0] - np.log(beyond), x[-1] + np.log(beyond)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(c2 > 0, -c1 / (2 * c2), np.nan)
        vertex = np.where(t == 0, level, np.log1p(t * level) / np.where(t == 0, 1.0, t))
    inside = (vertex > low) & (vertex < high)
    ends = [c1 * end + c2 * _square(end, t) for end in (low, high)]
    place = np.where(inside, vertex, np.where(ends[0] < ends[1], low, high))
    return place + np.log(curve.n).mean(), c0 + c1 * place + c2 * _square(place, t), inside


def tokens_at(curve: Curve, ln_n: float | np.ndarray) -> np.ndarray:
    """Tokens that the budget buys at a size: log-linear between the sizes trained, and beyond them as at the ends."""
    n, d = np.log(curve.n), np.log(curve.d)
    found = np.interp(ln_n, n, d)
    if len(n) > 1:
        found += np.minimum(ln_n - n[0], 0) * (d[1] - d[0]) / (n[1] - n[0])
        found += np.maximum(ln_n - n[-1], 0) * (d[-1] - d[-2]) / (n[-1] - n[-2])
    return np.exp(found)


def _square(x: np.ndarray | float, tilt: np.ndarray | float) -> np.ndarray:
    """x^2, tilted."""
    t = np.asarray(tilt, np.float64)
    safe = np.where(t == 0, 1.0, t)
    return np.where(t == 0, np.square(x), 2 * (np.expm1(safe * x) - safe * x) / safe**2)
