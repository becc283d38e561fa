"""Minimises summed Huber losses of log-residuals: many starts of many weighted problems, side by side, in float64.

Levenberg-Marquardt on iteratively reweighted least squares. Huber's loss of a residual r lies below the parabola with
curvature min(1, delta/|r|) that touches it there, so the first steps lower the loss surely, from far away; later ones
take the square of that curvature, which lies between it and the Hessian's (0 beyond delta), and need a third fewer
evaluations. Where residuals are small both are Gauss-Newton. With delta = 1e-3 nearly all residuals are beyond delta:
the loss is close to the sum of their absolute values, and the Hessian that L-BFGS has to learn jumps from point to
point. LOG.md has what was measured.

Problems that have ended leave the batch. Work goes in blocks that fit in a core's cache, one thread a core; a problem's
arithmetic doesn't depend on the others beside it, so results don't depend on the number of cores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from encdec_jax.cpus import available
from encdec_jax.laws.form import Evaluate

MAX_STEPS = 1000
_MAJORISED = 10  # steps on parabolas that lie above the loss
_BLOCK_BYTES = 300_000  # of a block's Jacobian; larger ones are slower, as their pages are new at every step
_LITTLE = 1e-10  # relative decrease of a step that counts as none; the second in a row ends a problem
_DECREMENT = 1e-6  # relative decrease that an undamped step promises at a minimum, at most
_EXACT = 1e-24  # objective a point at which residuals are rounding
_STUCK = 1e15  # damping at which no step helps


@dataclass(frozen=True, eq=False)
class Solved:
    """Where the problems ended.

    Attributes:
      params: internal, [problems, params].
      objective: [problems]; infinite where the law cannot be evaluated at the start.
      converged: whether an undamped step promises no further decrease, [problems].
    """

    params: np.ndarray
    objective: np.ndarray
    converged: np.ndarray


@dataclass(frozen=True, eq=False)
class Problem:
    """What is minimised, over the free ones of a law's internal parameters.

    Attributes:
      evaluate: the law at its points.
      target: ln(loss), [points].
      weights: of the points, one row a data set, [rows, points].
      free: which parameters move, [params].
      delta: of the Huber loss.
    """

    evaluate: Evaluate
    target: np.ndarray
    weights: np.ndarray
    free: np.ndarray
    delta: float

    def quadratic(
        self, params: np.ndarray, rows: np.ndarray, power: int = 1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Objective [k], gradient [k, free] and curvature [k, free, free] of the parabolas.

        Args:
          params: internal, [k, params].
          rows: the row of weights of each problem, [k].
          power: of min(1, delta/|r|) in the curvature of a residual r.
        """
        log_loss, jacobian = self.evaluate(params)
        if not self.free.all():
            jacobian = jacobian[:, self.free]
        residual = log_loss - self.target
        weights = self.weights[rows]
        clipped = np.clip(residual, -self.delta, self.delta)
        weighted = weights * clipped
        objective = (weighted * (residual - 0.5 * clipped)).sum(1)
        gradient = np.matmul(jacobian, weighted[:, :, None])[:, :, 0]
        np.abs(residual, out=residual)
        np.maximum(residual, self.delta, out=residual)
        weights = weights * (self.delta / residual) ** power
        curvature = np.matmul(jacobian * weights[:, None, :], jacobian.transpose(0, 2, 1))
        return np.where(np.isnan(objective), np.inf, objective), gradient, curvature


def minimise(problem: Problem, starts: np.ndarray, rows: np.ndarray) -> Solved:
    """Minimise from every start.

    Args:
      problem: what is minimised.
      starts: internal, [problems, params].
      rows: the row of weights of each, [problems].
    """
    params = np.array(starts, np.float64)
    count, free = len(params), np.flatnonzero(problem.free)
    block = max(1, _BLOCK_BYTES // (8 * params.shape[1] * len(problem.target)))
    objective = np.empty(count)
    gradient = np.empty((count, len(free)))
    curvature = np.empty((count, len(free), len(free)))
    damping, growth = np.full(count, 1e-2), np.full(count, 2.0)
    little = np.zeros(count, int)
    exact = _EXACT * problem.weights.sum(1)[rows]

    def evaluate(pool: ThreadPoolExecutor, at: np.ndarray, which: np.ndarray, power: int) -> tuple[np.ndarray, ...]:
        parts = [slice(i, i + block) for i in range(0, len(which), block)]
        found = pool.map(lambda part: _quiet(problem, at[part], rows[which[part]], power), parts)
        return tuple(np.concatenate(values) for values in zip(*found, strict=True))

    with ThreadPoolExecutor(len(available())) as pool:
        active = np.arange(count)
        objective, gradient, curvature = evaluate(pool, params, active, 1)
        active = active[np.isfinite(objective)]
        for taken in range(MAX_STEPS):
            if not len(active):
                break
            step, promised = _step(gradient[active], curvature[active], damping[active])
            candidate = params[active]
            candidate[:, free] += step
            found = evaluate(pool, candidate, active, 1 if taken < _MAJORISED else 2)
            fall = objective[active] - found[0]
            better = fall > 0
            # Nielsen's rule: damping falls smoothly with the ratio of the fall to what the parabolas promised.
            ratio = fall[better] / np.maximum(promised[better], np.finfo(float).tiny)
            went, stayed = active[better], active[~better]
            damping[went] = np.maximum(damping[went] * np.maximum(0.1, 1 - (2 * ratio - 1) ** 3), 1e-12)
            growth[went] = 2.0
            damping[stayed] *= growth[stayed]
            growth[stayed] *= 2.0
            none = np.where(better, fall, promised) <= _LITTLE * np.where(better, 1.0, 1e-4) * objective[active]
            little[active] = np.where(none, little[active] + 1, np.where(better, 0, little[active]))
            params[went] = candidate[better]
            objective[went], gradient[went], curvature[went] = (values[better] for values in found)
            ended = (little[active] >= 2) | (damping[active] > _STUCK) | (objective[active] <= exact[active])
            active = active[~ended]
    return Solved(params, objective, _converged(objective, gradient, curvature, exact))


def _quiet(
    problem: Problem, params: np.ndarray, rows: np.ndarray, power: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # A step too far overflows and is refused for its objective; NumPy's warnings are set by thread.
    with np.errstate(all="ignore"):
        return problem.quadratic(params, rows, power)


def _step(gradient: np.ndarray, curvature: np.ndarray, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The damped step [k, free] and the decrease that the parabolas promise [k]."""
    size = np.einsum("kii->ki", curvature)
    # A parameter that no point sees, such as the exponent of a term that has vanished, must not make this singular.
    scale = np.maximum(size, 1e-12 * size.max(1, keepdims=True) + 1e-300)
    root = np.sqrt(scale)
    damped = curvature / (root[:, :, None] * root[:, None, :])
    diagonal = np.arange(size.shape[1])
    damped[:, diagonal, diagonal] += damping[:, None]
    with np.errstate(all="ignore"):
        step = -np.linalg.solve(damped, (gradient / root)[:, :, None])[:, :, 0] / root
        promised = -(gradient * step).sum(1) - 0.5 * np.einsum("ki,kij,kj->k", step, curvature, step)
    return step, promised


def _converged(objective: np.ndarray, gradient: np.ndarray, curvature: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Whether each problem is at a minimum: all but undamped, a step promises next to nothing."""
    known = np.isfinite(objective)
    out = np.zeros(len(objective), bool)
    _, promised = _step(gradient[known], curvature[known], np.full(int(known.sum()), 1e-10))
    out[known] = (promised <= _DECREMENT * objective[known]) | (objective[known] <= exact[known])
    return out
