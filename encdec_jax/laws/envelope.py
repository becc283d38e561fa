"""The best size at a compute, from learning curves: Chinchilla's Approach 1 (arXiv 2203.15556, section 3.1).

Every run is a curve of loss against the compute spent so far. Their lower envelope shows which size is best at which
compute. It uses each curve's inside, where a learning rate that decays towards the run's end has not decayed yet, so it
favours runs that were planned short; and it takes the least of noisy curves, which is too low by about their noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encdec_jax.errors import UserError, require
from encdec_jax.laws.frontier import Law, fit_power

POINTS = 1500  # of compute, as Chinchilla


@dataclass(frozen=True, eq=False)
class Envelope:
    """The lower envelope of learning curves; arrays are [points], by rising compute.

    Attributes:
      compute: FLOPs, evenly spaced in the logarithm.
      run: the run that is best there.
      n, d, loss: its parameters, the tokens it had seen, its loss.
      inside: whether both smaller and larger sizes had been trained with as much compute. Elsewhere the best size of
        the grid need not be the best one.
      n_law, d_law: power laws of n and d over compute, of the points inside. Neighbouring points belong to the same
        curves, so their residuals don't tell how sure these are.
    """

    compute: np.ndarray
    run: np.ndarray
    n: np.ndarray
    d: np.ndarray
    loss: np.ndarray
    inside: np.ndarray
    n_law: Law
    d_law: Law


def envelope(run: np.ndarray, compute: np.ndarray, n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> Envelope:
    """The envelope of learning curves, each interpolated in the logarithms of compute and loss.

    Args:
      run: which curve a row belongs to, [rows].
      compute: FLOPs spent so far, above 0, [rows].
      n: parameters, one value a run, [rows].
      d: tokens seen so far, [rows].
      loss: above 0, [rows].

    Raises:
      UserError: a value that is not finite and above 0, or curves that overlap too little to show how the best size
        changes with compute.
    """
    for name, values in (("compute", compute), ("n", n), ("d", d), ("loss", loss)):
        require(bool((np.isfinite(values) & (values > 0)).all()), name, "a value", "finite and above 0 everywhere")
    names = np.unique(run)
    ln_c = np.linspace(np.log(compute.min()), np.log(compute.max()), POINTS)
    losses = np.full((len(names), POINTS), np.inf)
    tokens = np.zeros_like(losses)
    sizes = np.empty(len(names))
    for i, name in enumerate(names):
        rows = np.flatnonzero(run == name)
        rows = rows[np.argsort(compute[rows], kind="stable")]
        at = np.log(compute[rows])
        covered = (ln_c >= at[0]) & (ln_c <= at[-1])
        losses[i, covered] = np.interp(ln_c[covered], at, np.log(loss[rows]))
        tokens[i, covered] = np.interp(ln_c[covered], at, np.log(d[rows]))
        sizes[i] = n[rows[0]]
    best = losses.argmin(0)
    reached = np.isfinite(losses)
    smallest = np.where(reached, sizes[:, None], np.inf).min(0)
    largest = np.where(reached, sizes[:, None], 0.0).max(0)
    inside = (sizes[best] > smallest) & (sizes[best] < largest)
    shown = len(np.unique(sizes[best[inside]]))
    if shown < 2:
        text = f"{('no size', 'one size')[shown]} has the best learning curve anywhere"
        raise UserError(f"{text} between a smaller and a larger one: at least 2 sizes must, each somewhere")
    place = (best, np.arange(POINTS))
    found_c, found_n, found_d = np.exp(ln_c), sizes[best], np.exp(tokens[place])
    reference = float(found_c[-1])
    return Envelope(
        found_c,
        names[best],
        found_n,
        found_d,
        np.exp(losses[place]),
        inside,
        fit_power(found_c[inside], found_n[inside], reference),
        fit_power(found_c[inside], found_d[inside], reference),
    )
