"""What a law of the loss is: a prediction of ln L with its Jacobian, and a grid of starts.

Internal parameters are unconstrained: what must be above 0 by its natural logarithm, the rest as it is. Exponents are
of the second kind wherever the formula allows it, so that one that comes out below 0 is seen, not hidden by a bound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

Columns = Mapping[str, np.ndarray]
# Takes internal parameters [k, params]; returns ln L [k, points] and its Jacobian [k, params, points]. Of a law that is
# not logarithmic, L and its Jacobian.
Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# The grid of Chinchilla's Approach 3 (Hoffmann et al. 2022, arXiv 2203.15556, appendix D.3).
_COEFFICIENTS = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
_EXPONENTS = (0.0, 0.5, 1.0, 1.5, 2.0)
_FLOORS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law.

    Attributes:
      name: natural, such as 'A' or 'alpha'.
      log: whether the internal parameter is the logarithm of the natural one.
      starts: internal values, of which the grid of starts is made.
      any_sign: whether it may as well be below 0: a floor of such losses, the exponent of what rises with its column.
    """

    name: str
    log: bool
    starts: tuple[float, ...]
    any_sign: bool = False


def coefficient(name: str, starts: tuple[float, ...] = _COEFFICIENTS) -> Parameter:
    """A factor above 0."""
    return Parameter(name, True, starts)


def floor(name: str = "E", starts: tuple[float, ...] = _FLOORS) -> Parameter:
    """A loss that is never undercut, above 0."""
    return Parameter(name, True, starts)


def exponent(name: str, starts: tuple[float, ...] = _EXPONENTS) -> Parameter:
    """An exponent of any sign."""
    return Parameter(name, False, starts)


@dataclass(frozen=True)
class Form(ABC):
    """A law.

    Attributes:
      name: the key in `encdec_jax.laws.forms.FORMS`.
      formula: in natural parameters and columns.
      source: the paper and section.
      columns: that the formula reads, each [points], above 0.
      varied: columns whose logarithms must not lie on one line or plane: else exponents are not determined.
      parameters: in the order of all arrays [..., params].
    """

    name: str
    formula: str
    source: str
    columns: tuple[str, ...]
    varied: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The natural names of the parameters."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def logs(self) -> np.ndarray:
        """Which internal parameters are logarithms, [params]."""
        return np.array([parameter.log for parameter in self.parameters])

    @property
    def group(self) -> str | None:
        """The column, of any type, that says which parameters a point has; None if all have the same."""
        return None

    @property
    def logarithmic(self) -> bool:
        """Whether residuals are those of ln L, and L is above 0."""
        return True

    @abstractmethod
    def bind(self, columns: Columns) -> Evaluate:
        """The law at given points, each column [points]."""

    def derived(self, natural: np.ndarray) -> dict[str, np.ndarray]:
        """What follows from natural parameters [..., params], each [...]: exponents of N*(C) and D*(C), for example."""
        return {}

    def grid(self) -> np.ndarray:
        """Internal starts: every combination of the parameters' own, [starts, params]."""
        return np.array(list(product(*(parameter.starts for parameter in self.parameters))))

    def to_natural(self, internal: np.ndarray) -> np.ndarray:
        """Natural parameters [..., params] of internal ones."""
        with np.errstate(over="ignore"):
            return np.where(self.logs, np.exp(np.where(self.logs, internal, 0.0)), internal)

    def to_internal(self, natural: np.ndarray) -> np.ndarray:
        """Internal parameters [..., params] of natural ones; NaN where one that must be above 0 is not."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.logs, np.log(np.where(self.logs, natural, 1.0)), natural)

    def predict(self, natural: np.ndarray, columns: Columns) -> np.ndarray:
        """The loss [..., points] by natural parameters [..., params]."""
        internal = self.to_internal(np.asarray(natural, np.float64))
        with np.errstate(all="ignore"):  # resamples may lie where a law overflows
            value, _ = self.bind(columns)(internal.reshape(-1, internal.shape[-1]))
            return (np.exp(value) if self.logarithmic else value).reshape(*internal.shape[:-1], -1)

    def residuals(self, loss: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """ln(loss / predicted), or loss - predicted of a law that is not logarithmic."""
        return np.log(loss / predicted) if self.logarithmic else loss - predicted

    def moved(self, predicted: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        """The losses that have these residuals."""
        return predicted * np.exp(residuals) if self.logarithmic else predicted + residuals


def compute_optimal(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where E + A / n^alpha + B / d^beta is least at C = 6 n d: n = G (C/6)^a, d = (C/6)^b / G.

    Hoffmann et al. 2022, eq. 4.

    Args:
      values: A, B, alpha and beta, each [...].
    """
    both = values["alpha"] + values["beta"]
    with np.errstate(all="ignore"):
        return {
            "n_exponent": values["beta"] / both,
            "d_exponent": values["alpha"] / both,
            "loss_exponent": values["alpha"] * values["beta"] / both,
            "G": ((values["alpha"] * values["A"]) / (values["beta"] * values["B"])) ** (1 / both),
        }


@dataclass(frozen=True)
class Term:
    """One term of a sum: a coefficient over powers of columns.

    Attributes:
      coefficient: the name of a parameter.
      powers: pairs of an exponent's name and the column that it belongs to.
    """

    coefficient: str
    powers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Sum(Form):
    """A sum of terms c / (x^p y^q ...). Its logarithm is a log-sum-exp of functions linear in the internal parameters.

    Attributes:
      terms: of the sum; every parameter belongs to one of them.
      derive: takes natural parameters by name to what `derived` returns.
    """

    terms: tuple[Term, ...]
    derive: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None

    def bind(self, columns: Columns) -> Evaluate:
        """See `Form.bind`."""
        place = {name: i for i, name in enumerate(self.names)}
        points = len(columns[self.columns[0]])
        terms = [
            (place[term.coefficient], [(place[name], -np.log(columns[column])) for name, column in term.powers])
            for term in self.terms
        ]

        def evaluate(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            # Written term by term and in place: for small batches this takes a third of the time of an einsum.
            jacobian = np.empty((len(params), params.shape[1], points))
            for scale, powers in terms:
                z = jacobian[:, scale]
                z[:] = params[:, scale, None]
                for i, feature in powers:
                    z += params[:, i, None] * feature
            top = jacobian[:, terms[0][0]].copy()
            for scale, _ in terms[1:]:
                np.maximum(top, jacobian[:, scale], out=top)
            total = np.zeros_like(top)
            for scale, _ in terms:
                z = jacobian[:, scale]
                z -= top
                np.exp(z, out=z)
                total += z
            for scale, powers in terms:
                jacobian[:, scale] /= total
                for i, feature in powers:
                    np.multiply(jacobian[:, scale], feature, out=jacobian[:, i])
            np.log(total, out=total)
            total += top
            return total, jacobian

        return evaluate

    def derived(self, natural: np.ndarray) -> dict[str, np.ndarray]:
        """See `Form.derived`."""
        if self.derive is None:
            return {}
        return self.derive(dict(zip(self.names, np.moveaxis(np.asarray(natural), -1, 0), strict=True)))
