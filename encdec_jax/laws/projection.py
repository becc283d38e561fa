"""Variable projection: only the exponents are searched, coefficients and floor follow by non-negative least squares.

At given exponents a sum of terms is linear in its coefficients. So the five parameters of Approach 3 become two, whose
whole plane can be looked at: no start can miss the minimum, and none has to be chosen (Czech et al. 2026, arXiv
2603.22339). It minimises squares where `encdec_jax.laws.fit` minimises Huber's loss: where the two differ, outliers
say so. A coefficient that comes out as 0 says that the points don't show its term.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy.optimize import minimize

from encdec_jax.errors import require
from encdec_jax.laws.checks import checked
from encdec_jax.laws.form import Columns, Sum

_LEAST, _MOST = 0.01, 3.0  # exponents that are searched
_PER_AXIS = {1: 200, 2: 60, 3: 18}  # points of the grid, by the number of exponents
_REFINED = 5  # points of the grid that are refined, the best ones
_BLOCK = 4_000_000  # numbers in an array, at most


@dataclass(frozen=True, eq=False)
class Projected:
    """A sum of power laws fitted by variable projection.

    Attributes:
      form: the law.
      params: natural parameters by name; coefficients may be 0.
      objective: weighted sum of the squared relative residuals.
      n_points: points fitted to.
      converged: whether the search for the exponents ended at a minimum inside the range searched.
      residuals: loss/law - 1, [points].
      edges: exponents at the end of the range and coefficients of 0, in words.
    """

    form: Sum
    params: dict[str, float]
    objective: float
    n_points: int
    converged: bool
    residuals: np.ndarray
    edges: tuple[str, ...]

    @property
    def derived(self) -> dict[str, float]:
        """What follows from the parameters."""
        natural = np.array([self.params[name] for name in self.form.names])
        return {name: float(value) for name, value in self.form.derived(natural).items()}


def project(form: Sum, columns: Columns, loss: np.ndarray, weights: np.ndarray | None = None) -> Projected:
    """Fit a sum of power laws by least squares of the relative residuals: logarithmic ones, to first order.

    Args:
      form: a law that is a sum, with at most 3 exponents.
      columns: as in `encdec_jax.laws.fit.fit`.
      loss: above 0, [points].
      weights: of the points, at least 0, [points]; 1 unless given.

    Raises:
      UserError: as `encdec_jax.laws.fit.fit`, and if the law is none of these.
    """
    exponents = [name for term in form.terms for name, _ in term.powers] if isinstance(form, Sum) else []
    require(1 <= len(exponents) <= max(_PER_AXIS), "law", form.name, "a sum of power laws with 1 to 3 exponents")
    table, target, point_weights = checked(form, columns, loss, weights, {})
    plane = _Plane(form, exponents, table, target, point_weights)
    axis = np.geomspace(_LEAST, _MOST, _PER_AXIS[len(exponents)])
    grid = np.array(list(product(axis, repeat=len(exponents))))
    block = max(1, _BLOCK // (len(form.terms) * len(target)))
    values = np.concatenate([plane.solve(grid[i : i + block])[0] for i in range(0, len(grid), block)])
    ends = [
        minimize(
            plane.value_and_gradient,
            grid[i],
            jac=True,
            method="L-BFGS-B",
            bounds=[(_LEAST, _MOST)] * len(exponents),
            options={"ftol": 1e-14, "gtol": 1e-12},
        )
        for i in np.argsort(values)[:_REFINED]
    ]
    best = min(ends, key=lambda end: float(end.fun))
    objective, coefficients, residuals = (value[0] for value in plane.solve(best.x[None]))
    params = dict(zip(exponents, best.x.tolist(), strict=True))
    params |= dict(zip((term.coefficient for term in form.terms), coefficients.tolist(), strict=True))
    at_end = [n for n in exponents if not 1.001 * _LEAST < params[n] < _MOST / 1.001]
    vanished = [term for term in form.terms if params[term.coefficient] == 0]
    return Projected(
        form,
        {name: params[name] for name in form.names},
        float(objective),
        int((point_weights > 0).sum()),
        not at_end and not any(term.powers for term in vanished),  # without its term an exponent is anything
        residuals,
        (
            *(f"{name} = {params[name]:.3g} is at the end of the range searched" for name in at_end),
            *(f"{term.coefficient} = 0: the points don't show its term" for term in vanished),
        ),
    )


class _Plane:
    """The objective as a function of the exponents alone."""

    def __init__(self, form: Sum, exponents: list[str], table: Columns, loss: np.ndarray, weights: np.ndarray) -> None:
        self.logs = np.zeros((len(form.terms), len(exponents), len(loss)))  # by which each term falls with an exponent
        for k, term in enumerate(form.terms):
            for name, column in term.powers:
                # About the mean, so that terms are near 1; the coefficients are shifted back in the end.
                self.logs[k, exponents.index(name)] = np.log(table[column])
        self.centre = self.logs.mean(-1)
        self.logs -= self.centre[:, :, None]
        self.loss = loss
        self.weights = weights

    def solve(self, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Objective [k], coefficients [k, terms] and residuals [k, points] at exponents [k, exponents]."""
        basis = np.exp(-np.einsum("kq,tqn->ktn", exponents, self.logs)) / self.loss
        coefficients = nonnegative(basis, self.weights)
        residuals = 1 - np.einsum("kt,ktn->kn", coefficients, basis)
        objective = (self.weights * residuals**2).sum(-1)
        law = 1 - residuals  # over the loss
        return objective, coefficients * np.exp(exponents @ self.centre.T), (1 - law) / law

    def value_and_gradient(self, exponents: np.ndarray) -> tuple[float, np.ndarray]:
        """ln of the objective, and its gradient: the coefficients are at their best, so only the basis moves."""
        basis = np.exp(-np.einsum("q,tqn->tn", exponents, self.logs)) / self.loss
        terms = nonnegative(basis[None], self.weights)[0][:, None] * basis
        residuals = 1 - terms.sum(0)
        objective = float((self.weights * residuals**2).sum()) + 1e-300
        gradient = 2 * np.einsum("n,tn,tqn->q", self.weights * residuals, terms, self.logs)
        return np.log(objective), gradient / objective


def nonnegative(basis: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The least-squares coefficients of 1, none below 0, for many bases at once.

    With a handful of terms every set of them can be tried: the best that needs no coefficient below 0 is the answer.

    Args:
      basis: [k, terms, points].
      weights: of the points, [points].

    Returns:
      [k, terms].
    """
    count, terms, _ = basis.shape
    length = np.sqrt((basis**2 * weights).sum(-1))
    scaled = basis / length[..., None] * np.sqrt(weights)
    moment = scaled @ np.sqrt(weights)
    gram = scaled @ scaled.transpose(0, 2, 1)
    best = np.zeros((count, terms))
    gain = np.zeros(count)  # by which the sum of squares falls
    for size in range(1, terms + 1):
        for chosen in combinations(range(terms), size):
            own = np.array(chosen)
            part = gram[:, own[:, None], own]
            part = part + 1e-15 * np.eye(size)  # two terms that are alike
            solution = np.linalg.solve(part, moment[:, own, None])[..., 0]
            fall = (solution * moment[:, own]).sum(-1)
            better = (solution >= 0).all(-1) & (fall > gain)
            gain[better] = fall[better]
            best[better] = 0.0
            best[np.flatnonzero(better)[:, None], own] = solution[better]
    return best / length
