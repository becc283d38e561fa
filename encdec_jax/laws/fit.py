"""Fits of the laws in `encdec_jax.laws.forms`: Huber loss of the log-residuals, summed, from many starts.

Chinchilla's Approach 3 (Hoffmann et al. 2022, arXiv 2203.15556, section 3.3), for any law. The Huber losses are summed:
averaged, they are so small that optimisers stop early (Besiroglu et al. 2024, arXiv 2404.10102).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from encdec_jax.errors import require
from encdec_jax.laws.checks import checked
from encdec_jax.laws.form import Columns, Form
from encdec_jax.laws.joint import GROUP, Joint
from encdec_jax.laws.solve import Problem, Solved, minimise
from encdec_jax.laws.units import tokens_per_parameter

DELTA = 1e-3
BASINS = 20  # at most, that a resample is fitted from
_SAME = 1e-4  # relative difference of objectives below which two starts agree
_VANISHED = 1e-6  # of the loss: a term that is less than this at every point is not determined
_STEEP = 5.0  # exponents beyond are a step, not a power law


@dataclass(frozen=True, eq=False)
class Fitted:
    """A law fitted to a table.

    Attributes:
      form: the law.
      internal: parameters as the solver sees them, [params].
      objective: weighted sum of the Huber losses of the log-residuals.
      converged: whether the best start ended at a minimum. Parameters of a fit that did not converge are no result.
      condition: of the weighted Jacobian at the optimum, its columns scaled to length 1: large where the points don't
        tell parameters apart. Infinite where one of them is not determined at all.
      residuals: ln(loss) - ln(law), or loss - law, as the law has them, [points].
      starts: number of starts.
      agree: how many of them ended at the objective, to 1e-4 of it.
      edges: parameters at the edge of what the law allows, in words; they are not determined by the table.
      warnings: of the table, in words.
      columns: of the table, each [points].
      loss: [points].
      weights: of the points, [points].
      fixed: natural parameters that were held.
      delta: of the Huber loss.
      basins: the best distinct minima that starts ended in, internal, [basins, params]; the best first.
    """

    form: Form
    internal: np.ndarray
    objective: float
    converged: bool
    condition: float
    residuals: np.ndarray
    starts: int
    agree: int
    edges: tuple[str, ...]
    warnings: tuple[str, ...]
    columns: dict[str, np.ndarray]
    loss: np.ndarray
    weights: np.ndarray
    fixed: dict[str, float]
    delta: float
    basins: np.ndarray

    @property
    def n_points(self) -> int:
        """Points fitted to: those whose weight is not 0."""
        return int((self.weights > 0).sum())

    @property
    def natural(self) -> np.ndarray:
        """Natural parameters, [params]."""
        return self.form.to_natural(self.internal)

    @property
    def params(self) -> dict[str, float]:
        """Natural parameters by name."""
        return dict(zip(self.form.names, self.natural.tolist(), strict=True))

    def runs(self, laws: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Losses of runs [draws, points] where laws say `laws` [draws, points]: each with a residual of the fit.

        Residuals are smaller than the noise, as the parameters were fitted to it: they are widened for that.
        """
        free = len(self.form.names) - len(self.fixed)
        widened = self.residuals[self.weights > 0] * np.sqrt(self.n_points / (self.n_points - free))
        return self.form.moved(laws, random.choice(widened, laws.shape))

    @property
    def derived(self) -> dict[str, float]:
        """What follows from the parameters, such as the exponents of N*(C) and D*(C)."""
        return {name: float(value) for name, value in self.form.derived(self.natural).items()}

    def predict(self, columns: Columns) -> np.ndarray:
        """The law's loss at points, [points]."""
        return self.form.predict(self.natural, columns)


@dataclass(frozen=True, eq=False)
class Refits:
    """The same law fitted to resamples.

    Attributes:
      form: the law.
      params: natural, [resamples, params].
      objective: [resamples].
      converged: [resamples]; parameters of the others are no result.
    """

    form: Form
    params: np.ndarray
    objective: np.ndarray
    converged: np.ndarray

    @property
    def derived(self) -> dict[str, np.ndarray]:
        """What follows from the parameters, each [resamples]."""
        return self.form.derived(self.params)

    def predict(self, columns: Columns) -> np.ndarray:
        """The loss by each resample's law, [resamples, points]."""
        return self.form.predict(self.params, columns)


def fit(
    form: Form,
    columns: Columns,
    loss: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    fixed: Mapping[str, float] | None = None,
    delta: float = DELTA,
    starts: np.ndarray | None = None,
) -> Fitted:
    """Fit a law to a table.

    Args:
      form: one of `encdec_jax.laws.forms.FORMS`, or a joint one.
      columns: at least those that the law reads, each [points], above 0.
      loss: above 0, [points].
      weights: of the points, at least 0, [points]; 1 unless given.
      fixed: natural parameters that are held, by name.
      delta: of the Huber loss, in units of the residuals.
      starts: internal, [starts, params]; the law's own grid unless given.

    Raises:
      UserError: the table cannot determine the law: too few points, sizes that don't differ, one budget, or a value
        that is not a finite number above 0.
    """
    held = dict(fixed or {})
    table, target, point_weights = checked(form, columns, loss, weights, held)
    require(np.isfinite(delta) and delta > 0, "delta", delta, "a number above 0")
    free = np.array([name not in held for name in form.names])
    problem = Problem(form.bind(table), _aim(form, target), point_weights[None], free, delta)
    grid = np.array(_starts(form, problem, table) if starts is None else starts, np.float64)
    grid[:, ~free] = form.to_internal(np.array([held.get(name, 1.0) for name in form.names]))[~free]
    grid = np.unique(grid, axis=0)
    solved = minimise(problem, grid, np.zeros(len(grid), int))
    best = int(solved.objective.argmin())
    value, jacobian = problem.evaluate(solved.params[best : best + 1])
    scale = 1.0 if form.logarithmic else float(np.abs(target).mean())
    bound = solved.objective[best] * (1 + _SAME) + np.finfo(float).eps * len(target)
    return Fitted(
        form=form,
        internal=solved.params[best],
        objective=float(solved.objective[best]),
        converged=bool(solved.converged[best]),
        condition=_condition(jacobian[0, free] * np.sqrt(point_weights)),
        residuals=problem.target - value[0],
        starts=len(grid),
        agree=int((solved.objective <= bound).sum()),
        edges=_edges(form, solved.params[best], jacobian[0] / scale, free),
        warnings=tuple(filter(None, [tokens_per_parameter(table)])),
        columns=table,
        loss=target,
        weights=point_weights,
        fixed=held,
        delta=delta,
        basins=_basins(solved),
    )


def refit(fitted: Fitted, weights: np.ndarray, basins: int = BASINS) -> Refits:
    """Fit the same law to resamples of the table, each from the best basins of the fit to all of it.

    Args:
      fitted: the fit to all points.
      weights: how often each resample holds each point, [resamples, points]; the fit's own weights multiply them.
      basins: how many of the fit's basins each resample is fitted from, at most.
    """
    rows = np.asarray(weights, np.float64)
    require(
        rows.ndim == 2 and rows.shape[1] == len(fitted.loss) and bool((rows >= 0).all()),
        "weights",
        rows.shape,
        f"numbers of at least 0, [resamples, {len(fitted.loss)}]",
    )
    free = np.array([name not in fitted.fixed for name in fitted.form.names])
    evaluate = fitted.form.bind(fitted.columns)
    problem = Problem(evaluate, _aim(fitted.form, fitted.loss), rows * fitted.weights, free, fitted.delta)
    starts = fitted.basins[:basins]
    count, tried = len(rows), len(starts)
    solved = minimise(problem, np.tile(starts, (count, 1)), np.repeat(np.arange(count), tried))
    best = solved.objective.reshape(count, tried).argmin(1) + tried * np.arange(count)
    natural = fitted.form.to_natural(solved.params[best])
    return Refits(fitted.form, natural, solved.objective[best], solved.converged[best])


def _aim(form: Form, loss: np.ndarray) -> np.ndarray:
    return np.log(loss) if form.logarithmic else loss


def _starts(form: Form, problem: Problem, table: Columns) -> np.ndarray:
    """The law's grid; for a joint law also what each group, fitted alone from the whole grid, comes to."""
    if not isinstance(form, Joint):
        return form.grid()
    alone = {}
    for group in form.groups:
        here = np.asarray(table[GROUP]) == group
        base = form.form
        part = Problem(
            base.bind({name: table[name][here] for name in base.columns}),
            problem.target[here],
            problem.weights[:, here],
            np.ones(len(base.names), bool),
            problem.delta,
        )
        solved = minimise(part, base.grid(), np.zeros(len(base.grid()), int))
        alone[group] = solved.params[solved.objective.argmin()]
    return np.concatenate([form.grid(), form.composed(alone)])


def _basins(solved: Solved) -> np.ndarray:
    """Minima whose objectives differ in the sixth digit, the best first."""
    order = np.argsort(solved.objective, kind="stable")
    order = order[np.isfinite(solved.objective[order])]
    with np.errstate(divide="ignore"):
        level = np.round(np.log(solved.objective[order] + np.finfo(float).tiny), 5)
    kept = order[np.unique(level, return_index=True)[1]]
    converged = kept[solved.converged[kept]]
    return solved.params[converged if len(converged) else kept][:BASINS]


def _condition(jacobian: np.ndarray) -> float:
    lengths = np.linalg.norm(jacobian, axis=1, keepdims=True)
    if not len(jacobian):
        return 1.0
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        return float("inf")
    return float(np.linalg.cond(jacobian / lengths))


def _edges(form: Form, internal: np.ndarray, jacobian: np.ndarray, free: np.ndarray) -> tuple[str, ...]:
    """Parameters that are not determined: no point feels them, or they left what makes a power law."""
    found = []
    for parameter, value, felt, moves in zip(
        form.parameters, form.to_natural(internal), np.abs(jacobian).max(1), free, strict=True
    ):
        if not moves:
            continue
        if felt < _VANISHED:
            found.append(f"{parameter.name} is not determined: no point's loss depends on it")
        elif parameter.log or parameter.any_sign:
            continue
        elif value <= 0:
            found.append(f"{parameter.name} = {value:.3g} is not above 0: the loss does not fall with its column")
        elif value > _STEEP:
            found.append(f"{parameter.name} = {value:.3g} is a step, not a power law")
    return tuple(found)
