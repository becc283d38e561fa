"""Which law to trust beyond the runs: fit each to the small budgets, predict the largest, see who is right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr

from encdec_jax.errors import require
from encdec_jax.laws.bootstrap import Scheme
from encdec_jax.laws.bootstrap import weights as resampled
from encdec_jax.laws.fit import BASINS, DELTA, Fitted, fit, refit
from encdec_jax.laws.form import Columns, Form
from encdec_jax.laws.interval import LEVEL

_LARGEST = 0.95  # of the largest budget: points at or above belong to it
_ENOUGH = 0.9  # of the resamples, that converge: intervals of fewer would be those of the easy ones
_SEED = 20_220_329


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A law fitted to the smaller budgets, and the runs of the largest; arrays are [points held out].

    Attributes:
      fitted: to the smaller budgets.
      start: the budget, FLOPs, from which on runs were held out.
      held: which points of the table were held out.
      loss: what these runs came to.
      predicted: what the law said.
      low, high: ends of the 95 % prediction interval of a run: the law's parameters resampled, and a run's residual.
        NaN without resamples, or where more than a tenth of them do not converge.
      error: root mean square of ln(loss/predicted).
      bias: mean of it: above 0 where the law was too hopeful.
      coverage: share of the runs inside their interval, to be compared with 0.95; NaN without intervals.
    """

    fitted: Fitted
    start: float
    held: np.ndarray
    loss: np.ndarray
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: float
    bias: float
    coverage: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line where fewer runs lie in their intervals than chance would leave out, once in 40 times."""
        inside = round(self.coverage * len(self.loss)) if math.isfinite(self.coverage) else len(self.loss)
        if bdtr(inside, len(self.loss), LEVEL) > (1 - LEVEL) / 2:
            return ()
        what = f"{inside} of {len(self.loss)} runs held out lie in their {LEVEL:.0%} intervals ({self.coverage:.0%})"
        return (f"only {what}: beyond the runs fitted, this law is less sure than its intervals say",)

    def json(self) -> dict[str, Any]:
        """One object; null stands for what is not known."""
        known = math.isfinite(self.coverage)
        ends = zip(self.low.tolist(), self.high.tolist(), strict=True)
        return {
            "from": self.start,
            "n_fitted": self.fitted.n_points,
            "n_held_out": len(self.loss),
            "error": self.error,
            "bias": self.bias,
            "coverage": self.coverage if known else None,
            "runs": [
                {"loss": loss, "predicted": predicted, "lo": low if known else None, "hi": high if known else None}
                for loss, predicted, (low, high) in zip(self.loss.tolist(), self.predicted.tolist(), ends, strict=True)
            ],
        }


def hold_out(
    form: Form,
    columns: Columns,
    loss: np.ndarray,
    budget: np.ndarray,
    resamples: int = 1000,
    *,
    start: float | None = None,
    weights: np.ndarray | None = None,
    fixed: Mapping[str, float] | None = None,
    groups: Mapping[str, np.ndarray] | None = None,
    scheme: Scheme = "run",
    delta: float = DELTA,
    starts: np.ndarray | None = None,
    basins: int = BASINS,
) -> HeldOut:
    """Fit a law to all but the largest budget, and predict its runs.

    Args:
      form: the law.
      columns: those that it reads, each [points].
      loss: [points].
      budget: training FLOPs of each point, [points].
      resamples: of the smaller budgets' runs; 0 gives no intervals.
      start: runs at this budget or above are held out; 95 % of the largest unless given.
      weights: of the points in the fit, at least 0, [points]; points of weight 0 are not predicted either.
      fixed: natural parameters that are held, by name.
      groups, scheme: what is resampled, as in `encdec_jax.laws.bootstrap.weights`; single runs unless given.
      delta, starts, basins: as in `encdec_jax.laws.fit`.

    Raises:
      UserError: there is one budget, no run lies at `start` or none below, the smaller budgets do not determine the
        law, or the fit does not converge.
    """
    budget, loss = np.asarray(budget, np.float64), np.asarray(loss, np.float64)
    begin = _LARGEST * float(budget.max()) if start is None else start
    above = budget >= begin
    ends = f"from {budget.min():.4g} to {budget.max():.4g}"
    require(start is None or bool(above.any()), "hold-out", start, f"a budget that runs reach: they are {ends}")
    require(not above.all(), "budget", ends, f"at least two budgets, one of them below {begin:.4g}")
    below = ~above
    if form.group is not None:
        new = sorted(set(np.asarray(columns[form.group])[above]) - set(np.asarray(columns[form.group])[below]))
        require(not new, form.group, ", ".join(map(str, new)), f"architectures with runs below {begin:.4g} FLOPs")
    point_weights = None if weights is None else np.asarray(weights, np.float64)[below]
    smaller = {name: np.asarray(columns[name])[below] for name in form.columns}
    fitted = fit(form, smaller, loss[below], weights=point_weights, fixed=fixed, delta=delta, starts=starts)
    require(fitted.converged, "law", form.name, "one whose fit to the smaller budgets converges")
    held = above if weights is None else above & (np.asarray(weights) > 0)
    require(bool(held.any()), "weights", 0, "a weight above 0 of a run that is held out")
    ahead = {name: np.asarray(columns[name])[held] for name in form.columns}
    predicted = fitted.predict(ahead)
    units = {name: np.asarray(values)[below] for name, values in (groups or {"run": np.arange(len(loss))}).items()}
    low, high = _ends(fitted, ahead, resampled(units, scheme, resamples) if resamples else None, basins)
    miss = form.residuals(loss[held], predicted)
    known = bool(np.isfinite(low).all())
    return HeldOut(
        fitted,
        begin,
        held,
        loss[held],
        predicted,
        low,
        high,
        float(np.sqrt(np.mean(miss**2))),
        float(miss.mean()),
        float(((low <= loss[held]) & (loss[held] <= high)).mean()) if known else math.nan,
    )


def _ends(fitted: Fitted, ahead: Columns, times: np.ndarray | None, basins: int) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the prediction intervals of runs, each [points held out]; NaN where there are none."""
    none = np.full(len(ahead[fitted.form.columns[0]]), math.nan)
    if times is None:
        return none, none
    refits = refit(fitted, times, basins)
    if refits.converged.mean() < _ENOUGH:
        return none, none
    draws = fitted.runs(refits.predict(ahead)[refits.converged], np.random.default_rng(_SEED))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
