"""A law of anybody's table with its intervals: checked, fitted, fitted again to resamples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from encdec_jax.errors import UserError, require
from encdec_jax.laws import table
from encdec_jax.laws.ahead import Ahead, ahead, near
from encdec_jax.laws.bootstrap import MIN_UNITS, Scheme, leave_out, units, weights
from encdec_jax.laws.checks import checked
from encdec_jax.laws.fit import BASINS, DELTA, Fitted, fit, refit
from encdec_jax.laws.form import Form
from encdec_jax.laws.forms import FORMS
from encdec_jax.laws.holdout import HeldOut
from encdec_jax.laws.holdout import hold_out as predicted_from_below
from encdec_jax.laws.interval import Interval, Kind
from encdec_jax.laws.joint import GROUP, Joint, joint
from encdec_jax.laws.linear import in_loss
from encdec_jax.laws.misfit import bends, off, repeated, weak
from encdec_jax.laws.read import read
from encdec_jax.laws.table import Points

RESAMPLES = 1000
Residuals = Literal["log", "loss"]
D_FROM = "c/6n"
_UNKNOWN = Interval(math.nan)
_ENOUGH = 0.9  # of the resamples, that converge: intervals of fewer would be those of the easy ones


@dataclass(frozen=True, eq=False)
class Estimate:
    """A law with intervals. One that did not converge has no numbers: `params`, `derived` and `draws` are empty.

    Attributes:
      fitted: the fit to all points.
      points: that it was fitted to, what was left out and why.
      params: natural parameters by name.
      derived: what follows from them, such as the exponents of N*(C) and D*(C), by name.
      draws: natural parameters of the resamples that converged, [draws, params].
      scheme: what was resampled.
      kind: of the intervals.
      warnings: a line each.
      held_out: how the law, fitted to the budgets below, predicts the largest; None unless asked for.
      predicted: runs that are not in the table.
    """

    fitted: Fitted
    points: Points
    params: dict[str, Interval]
    derived: dict[str, Interval]
    draws: np.ndarray
    scheme: Scheme
    kind: Kind
    warnings: tuple[str, ...]
    held_out: HeldOut | None = None
    predicted: tuple[Ahead, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether there is a law at all."""
        return self.fitted.converged

    def curve(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The law's loss at points, and the ends of its 95 % interval (NaN without resamples), each [points]."""
        value = self.fitted.predict(columns)
        if not len(self.draws):
            return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
        low, high = np.quantile(self.fitted.form.predict(self.draws, columns), [0.025, 0.975], axis=0)
        return value, low, high

    def _spread(self) -> dict[str, Any]:
        """Standard errors of parameters and of what follows from them, and the parameters' covariance, of the draws."""
        drawn = _quantities(self.fitted.form, self.draws)
        sure = len(self.draws) > 1 and self.converged
        with np.errstate(all="ignore"):
            errors = {name: float(values.std(ddof=1)) if sure else math.nan for name, values in drawn.items()}
            matrix = np.atleast_2d(np.cov(self.draws.T)).tolist() if sure else []
        return {
            "standard_errors": {name: error if math.isfinite(error) else None for name, error in errors.items()},
            "covariance": [[one if math.isfinite(one) else None for one in row] for row in matrix] or None,
        }

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns that the law reads, at the points, [points]."""
        return {name: self.fitted.columns[name] for name in self.fitted.form.columns}

    def json(self) -> dict[str, Any]:
        """One object; null stands for what is not known."""
        found = self.fitted
        return {
            "law": found.form.form.name if isinstance(found.form, Joint) else found.form.name,
            "formula": found.form.formula,
            "params": {name: self.params.get(name, _UNKNOWN).json() for name in found.form.names},
            "derived": {name: interval.json() for name, interval in self.derived.items()},
            **self._spread(),
            "fixed": found.fixed,
            "residuals": "log" if found.form.logarithmic else "loss",
            "objective": found.objective if self.converged else None,
            "converged": found.converged,
            "condition": found.condition if math.isfinite(found.condition) else None,
            "n_points": found.n_points,
            "n_excluded": self.points.n_excluded,
            "excluded": {rule: list(rows) for rule, rows in self.points.excluded.items()},
            "bootstrap": self.scheme,
            "interval": self.kind,
            "resamples": len(self.draws),
            "starts": found.starts,
            "starts_that_agree": found.agree,
            "hold_out": None if self.held_out is None else self.held_out.json(),
            "predicted": [run.json() for run in self.predicted],
            "warnings": list(self.warnings),
        }


def estimate(
    source: Any,
    law: str,
    loss: str = "loss",
    *,
    weight: str | None = None,
    arch: str | None = None,
    shared: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    scheme: Scheme = "run",
    resamples: int = RESAMPLES,
    kind: Kind = "percentile",
    delta: float = DELTA,
    fixed: Mapping[str, float] | None = None,
    residuals: Residuals = "log",
    d_from: str | None = None,
    hold_out: float | Literal["largest"] | None = None,
    predict: Sequence[Mapping[str, float | str]] = (),
    extrapolate: bool = False,
    **columns: str,
) -> Estimate:
    """Fit a law to a table, with intervals by the bootstrap.

    Args:
      source: the path of a CSV or Parquet file, or a polars or pandas frame; a row a run.
      law: a name of `encdec_jax.laws.forms.FORMS`.
      loss: name of the loss's column.
      weight: name of the column of weights, if any.
      arch: name of the column of architectures: each gets parameters of its own, but for the `shared`.
      shared: natural parameters that the architectures have in common.
      labels: what `scheme` resamples by: role (seed, budget, trunk) -> name of its column.
      where: conditions on rows, as in 'arch=enc_dec'.
      scheme: what is resampled: 'run', 'seed', 'budget' or 'hierarchical'; runs of one trunk stay together.
      resamples: at least 0; 0 gives no intervals.
      kind: of the intervals: 'percentile', 'basic' or 'bca'.
      delta: of the Huber loss, in units of the residuals.
      fixed: natural parameters that are held, by name.
      residuals: 'log', of ln(loss), or 'loss', of the loss itself, which may then be negative.
      d_from: 'c/6n' takes tokens for training FLOPs over 6 n, where the table has no column of them.
      hold_out: fit the law also to the runs below a budget (FLOPs; 'largest': below 95 % of the largest), and predict
        those from it on. Their budgets are the column c, or 6 n d where there is none.
      predict: runs to predict the loss of, each with a value for every column that the law reads.
      extrapolate: predict runs more than 3 times beyond those fitted, too.
      **columns: the law's columns: role -> name, as in n="params", d="tokens".

    Raises:
      UserError: the table, a name or a number is not accepted, or the points can't tell the law's parameters.
    """
    require(law in FORMS, "law", law, f"one of {', '.join(FORMS)}")
    form = FORMS[law]
    require(d_from in (None, D_FROM), "d-from", d_from, f"{D_FROM}: training FLOPs over 6 parameters")
    if d_from is not None:
        sound = {"c", "n"} <= set(columns) and "d" not in columns
        require(sound, "d-from", d_from, "a table with columns c and n, and none named for d")
    missing = [name for name in form.columns if name not in columns and not (name == "d" and d_from)]
    require(not missing, "columns", ", ".join(columns) or "none", f"{law} reads {', '.join(form.columns)}")
    require(kind in get_args(Kind), "interval", kind, f"one of {', '.join(get_args(Kind))}")
    require(residuals in get_args(Residuals), "residuals", residuals, f"one of {', '.join(get_args(Residuals))}")
    require(resamples >= 0, "resamples", resamples, "at least 0")
    named = {**(labels or {}), **({} if arch is None else {GROUP: arch})}
    signed = residuals == "loss"
    found = table.points(read(source), columns, loss, weight=weight, labels=named, where=where, signed=signed)
    if d_from is not None:
        found = replace(found, columns={**found.columns, "d": found.columns["c"] / (6 * found.columns["n"])})
    if signed:
        form = in_loss(form, found.loss)
    require(
        arch is not None or not shared, "shared", ", ".join(shared), "parameters in common of architectures: name arch"
    )
    if arch is not None:
        archs = found.labels[GROUP]
        require(None not in archs, "arch", arch, "a column with an architecture in every row")
        form = joint(form, sorted(set(archs)), shared)
    for run in predict:
        near(form, {**found.columns, **found.labels}, run, extrapolate)
    made = of(found, form, scheme=scheme, resamples=resamples, kind=kind, delta=delta, fixed=fixed)
    if not made.converged:
        return made
    made = replace(made, predicted=tuple(ahead(made.fitted, made.draws, run) for run in predict))
    if hold_out is None:
        return made
    start = None if hold_out == "largest" else hold_out
    held = _held_out(found, form, start, scheme=scheme, resamples=resamples, delta=delta, fixed=fixed)
    return replace(made, held_out=held, warnings=(*made.warnings, *held.warnings))


def of(
    points: Points,
    form: Form,
    *,
    scheme: Scheme = "run",
    resamples: int = RESAMPLES,
    kind: Kind = "percentile",
    delta: float = DELTA,
    fixed: Mapping[str, float] | None = None,
    starts: np.ndarray | None = None,
    basins: int = BASINS,
) -> Estimate:
    """The same, of points and a form; `fixed`, `starts` and `basins` as in `encdec_jax.laws.fit`."""
    groups = {"run": points.rows, **points.labels}
    columns = {**points.columns, **points.labels}
    checked(form, columns, points.loss, points.weights, fixed or {})  # before the scheme, whose errors say less
    times = weights(groups, scheme, resamples) if resamples else np.empty((0, len(points.loss)))
    fitted = fit(form, columns, points.loss, weights=points.weights, fixed=fixed, delta=delta, starts=starts)
    warnings = [*points.warnings, *fitted.warnings, *fitted.edges]
    none = np.empty((0, len(form.names)))
    if not fitted.converged:
        return Estimate(fitted, points, {}, {}, none, scheme, kind, tuple(warnings))
    if (times_off := off(fitted)) > 1:
        place, what = repeated(fitted), "not in the intervals"
        if scheme == "run" and "trunk" not in groups and place.max() + 1 >= MIN_UNITS:
            groups, what = {**groups, "trunk": place}, "so all runs of a point are resampled together"
            times = weights(groups, scheme, resamples) if resamples else times
        warnings.append(
            f"the law does not fit: points lie {times_off:.3g} times as far off it as repeated runs of a point "
            f"explain; {what}"
        )
    elif bends(fitted):
        by = ", ".join(name for name in form.columns if name != form.group)
        warnings.append(
            f"the law does not fit: residuals still bend with {by}, and no interval holds what another form says"
        )
    draws, apart = none, None
    if len(times):
        refits = refit(fitted, times, basins)
        share = float(refits.converged.mean())
        if share < 1:
            outcome = "the others give the intervals" if share >= _ENOUGH else "no intervals are given"
            warnings.append(f"{1 - share:.1%} of the resamples did not converge: {outcome}")
        draws = refits.params[refits.converged] if share >= _ENOUGH else none
    if kind == "bca" and len(draws):
        without = refit(fitted, leave_out(groups, scheme), basins)
        apart = without.params[without.converged]
    found = _quantities(form, fitted.natural)
    drawn, left = _quantities(form, draws), None if apart is None else _quantities(form, apart)
    intervals = {}
    for name, value in found.items():
        one = Interval.of(float(value), drawn[name], kind, None if left is None else left[name], units(groups, scheme))
        intervals[name] = one.unless_flat()
    if flat := [name for name, one in intervals.items() if len(draws) and not one.known and name not in fitted.fixed]:
        warnings.append(f"no interval of {', '.join(flat)}: the resamples do not tell how sure it is")
    warnings += weak(form, intervals)
    return Estimate(
        fitted,
        points,
        {name: intervals[name] for name in form.names},
        {name: interval for name, interval in intervals.items() if name not in form.names},
        draws,
        scheme,
        kind,
        tuple(warnings),
    )


def _held_out(
    points: Points,
    form: Form,
    start: float | None,
    *,
    scheme: Scheme,
    resamples: int,
    delta: float,
    fixed: Mapping[str, float] | None,
) -> HeldOut:
    """The law's prediction of the budgets from `start` on."""
    columns = {**points.columns, **points.labels}
    if "c" not in columns and not {"n", "d"} <= set(columns):
        raise UserError("hold-out needs the runs' training FLOPs: a column c, or n and d for 6 n d")
    return predicted_from_below(
        form,
        columns,
        points.loss,
        columns["c"] if "c" in columns else 6 * columns["n"] * columns["d"],
        resamples,
        start=start,
        weights=points.weights,
        fixed=fixed,
        groups={"run": points.rows, **points.labels},
        scheme=scheme,
        delta=delta,
    )


def _quantities(form: Form, natural: np.ndarray) -> dict[str, np.ndarray]:
    """Natural parameters [..., params] and what follows from them, by name, each [...]."""
    return {**dict(zip(form.names, np.moveaxis(natural, -1, 0), strict=True)), **form.derived(natural)}
