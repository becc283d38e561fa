"""The best size for a budget: a parabola through the losses of one budget, in the logarithm of the parameters.

Chinchilla's Approach 2 (arXiv 2203.15556, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from encdec_jax.study.curves import Curve

Shape = Literal["inside", "edge", "not convex", "too few sizes"]


@dataclass(frozen=True, eq=False)
class IsoFlop:
    """What one budget shows of one architecture.

    Attributes:
      curve: that was fitted.
      shape: 'inside' if the parabola's minimum lies between the smallest and the largest size. Else the minimum is
        not to be trusted, and the best size trained stands for it: it is the grid's edge or beyond, there is no
        minimum, or fewer than 3 sizes give no parabola.
      coefficients: of 1, x and x^2 for x = ln(N) - mean ln(N), [3]; None with too few sizes.
      n, d, loss: of the optimum: parameters, tokens, bits per byte.
    """

    curve: Curve
    shape: Shape
    coefficients: np.ndarray | None
    n: float
    d: float
    loss: float

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
        }[self.shape]

    def fitted(self, n: np.ndarray) -> np.ndarray:
        """The parabola's loss at sizes `n`, which needs coefficients."""
        assert self.coefficients is not None
        return design(self.curve, n) @ self.coefficients


def parabola(curve: Curve) -> IsoFlop:
    """Fit the parabola by least squares, each size weighted by its number of seeds."""
    best = int(curve.loss.argmin())
    coefficients: np.ndarray | None = None
    shape: Shape = "too few sizes"
    if len(curve.n) >= 3:
        coefficients = solver(curve) @ curve.loss
        x, loss, inside = minimum(curve, coefficients)
        if inside:
            return IsoFlop(curve, "inside", coefficients, float(np.exp(x)), float(tokens_at(curve, x)), float(loss))
        shape = "edge" if coefficients[2] > 0 else "not convex"
    return IsoFlop(curve, shape, coefficients, float(curve.n[best]), float(curve.d[best]), float(curve.loss[best]))


def design(curve: Curve, n: np.ndarray) -> np.ndarray:
    """1, x and x^2 of sizes `n` [sizes], as [sizes, 3]."""
    return np.vander(np.log(n) - np.log(curve.n).mean(), 3, increasing=True)


def solver(curve: Curve) -> np.ndarray:
    """The matrix [3, sizes] that takes losses to the least-squares coefficients."""
    root = np.sqrt(curve.seeds)
    return np.linalg.pinv(design(curve, curve.n) * root[:, None]) * root


def minimum(curve: Curve, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where parabolas [..., 3] are least within the curve's sizes: ln(N), the loss there, and whether inside."""
    c0, c1, c2 = np.moveaxis(coefficients, -1, 0)
    x = np.log(curve.n) - np.log(curve.n).mean()
    low, high = x[0], x[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.where(c2 > 0, -c1 / (2 * c2), np.nan)
    inside = (vertex > low) & (vertex < high)
    end = np.where(c1 * (high - low) + c2 * (high**2 - low**2) > 0, low, high)  # the lower end of the two
    place = np.where(inside, vertex, end)
    return place + np.log(curve.n).mean(), c0 + c1 * place + c2 * place**2, inside


def tokens_at(curve: Curve, ln_n: float | np.ndarray) -> np.ndarray:
    """Tokens that the budget buys at a size: log-linear between the sizes trained."""
    return np.exp(np.interp(ln_n, np.log(curve.n), np.log(curve.d)))
