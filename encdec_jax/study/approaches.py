"""How the best size grows with compute, by every approach that the runs allow, and how laws predict the largest budget.

The exponents of N*(C) and D*(C) by Chinchilla's three approaches (Hoffmann et al. 2022, arXiv 2203.15556, section 3).
They share the runs and little else: parabolas through each budget (`isoflop`), one law through all runs (`fit`; and by
other means, `projection`), the envelope of learning curves (`envelope`). Where they differ by more than their
intervals, the exponent depends on how it is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from encdec_jax.errors import Undecided, UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.laws import estimate
from encdec_jax.laws.envelope import envelope
from encdec_jax.laws.fit import Fitted
from encdec_jax.laws.form import Sum
from encdec_jax.laws.forms import FORMS
from encdec_jax.laws.frontier import assess, fit_loss
from encdec_jax.laws.holdout import hold_out
from encdec_jax.laws.interval import Interval
from encdec_jax.laws.projection import project
from encdec_jax.laws.table import points
from encdec_jax.study.bias import Bias, diagnose
from encdec_jax.study.findings import Findings

APPROACHES = ("Approach 1", "Approach 2", "Approach 3", "variable projection")
RESAMPLES = 300
_form = FORMS["chinchilla3"]
assert isinstance(_form, Sum)
_FORM: Sum = _form
# A report is made often: of the 4,500 starts 105 (43 shares no factor with the 5 and 6 values of the axes, so that all
# occur), and few basins. On the quickstart's runs the objectives are those of the full grid, to eight digits.
_STARTS = _FORM.grid()[::43]
_BASINS = 3

Traces = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Exponents:
    """What one approach says of one label.

    Attributes:
      approach: one of `APPROACHES`.
      n, d: exponents of N*(C) and D*(C); None where the approach does not give them.
      reason: why not, or why without an interval; empty if there is nothing to say.
    """

    approach: str
    n: Interval | None
    d: Interval | None
    reason: str = ""


@dataclass(frozen=True)
class Extrapolation:
    """How a law fitted to the smaller budgets predicts the largest.

    Attributes:
      law: in words.
      fitted_to: in words.
      error: root mean square of ln(loss / predicted).
      bias: mean of it, above 0 where the law hopes for too much; its interval, where known, is that of both losses.
      inside, count: how many of the losses lie inside their 95 % intervals, and how many there are; None without.
      reason: why there is no such prediction; then the numbers are not to be read.
    """

    law: str
    fitted_to: str = ""
    error: float = float("nan")
    bias: Interval | None = None
    inside: int | None = None
    count: int = 0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Sides:
    """One label, from all sides.

    Attributes:
      label: of the runs.
      exponents: one an approach, in the order of `APPROACHES`.
      bias: what Approach 2's parabolas miss if Approach 3's law is true; None where there is no such law.
      bias_reason: why there is none.
      ahead: of the frontier and of Approach 3.
    """

    label: str
    exponents: tuple[Exponents, ...]
    bias: Bias | None
    bias_reason: str
    ahead: tuple[Extrapolation, ...]

    @property
    def span(self) -> tuple[float, float] | None:
        """The least and the largest exponent of N*(C); None with fewer than two."""
        found = [one.n.value for one in self.exponents if one.n is not None]
        return (min(found), max(found)) if len(found) > 1 else None


def sides(table: pl.DataFrame, findings: Findings, traces: Traces) -> tuple[Sides, ...]:
    """Every label, from all sides.

    Args:
      table: with the columns of `encdec_jax.sweep.results.SCHEMA`.
      findings: of the table; runs that they exclude are not used.
      traces: learning curves by run_id, as far as they are known: FLOPs spent and training loss, each [points].
    """
    left_out = [exclusion.run_id for exclusion in findings.exclusions]
    used = table.filter(
        pl.col("status") == "done", pl.col("budget_flops").is_not_null(), ~pl.col("run_id").is_in(left_out)
    ).sort("budget_flops", "n_params", "seed", "run_id")
    return tuple(_sides(used.filter(pl.col("label") == label), label, findings, traces) for label in findings.labels)


def _sides(runs: pl.DataFrame, label: str, findings: Findings, traces: Traces) -> Sides:
    three, law = _parametric(runs)
    bias, reason = None, three.reason
    if law is not None:
        curves = [o.isoflop.curve for o in findings.optima if o.label == label and len(o.isoflop.curve.n) >= 3]
        try:
            bias = diagnose(curves, law)
        except UserError as error:
            reason = str(error)
    return Sides(
        label,
        (_envelope(runs, traces), _parabolas(findings, label), three, _projected(runs)),
        bias,
        "" if bias is not None else reason,
        (_frontier(findings, label), _parametric_ahead(runs)),
    )


def _envelope(runs: pl.DataFrame, traces: Traces) -> Exponents:
    columns = ("run_id", "n_params", "tokens", "train_flops")
    rows = [row for row in runs.select(columns).rows() if row[0] in traces]
    if len(rows) < len(runs) or not rows:
        reason = f"learning curves (metrics.jsonl) of {len(rows)} of {len(runs)} runs are here"
        return Exponents(APPROACHES[0], None, None, reason)
    length = [len(traces[identity][0]) for identity, *_ in rows]
    run = np.repeat(np.arange(len(rows)), length)
    spent, loss = (np.concatenate([traces[identity][i] for identity, *_ in rows]) for i in (0, 1))
    n, tokens, total = (np.repeat(np.array([row[i] for row in rows], np.float64), length) for i in (1, 2, 3))
    try:
        found = envelope(run, spent, n, tokens * spent / total, loss)
    except UserError as error:
        return Exponents(APPROACHES[0], None, None, str(error))
    shown = len(np.unique(found.n[found.inside]))
    reason = f"no interval: neighbouring points are of the same curves; {shown} sizes are best between others"
    n_slope, d_slope = (Interval(float(law.slope)) for law in (found.n_law, found.d_law))
    return Exponents(APPROACHES[0], n_slope, d_slope, reason)


def _parabolas(findings: Findings, label: str) -> Exponents:
    try:
        n, d = (findings.law(label, quantity) for quantity in ("n", "d"))
    except Undecided:
        reason = "fewer than two budgets have their best size inside the sizes tried"
        return Exponents(APPROACHES[1], None, None, reason)
    reason = "two budgets: a line through two points" if n.fit.n_points == 2 else ""
    return Exponents(APPROACHES[1], n.slope, d.slope, reason)


def _parametric(runs: pl.DataFrame) -> tuple[Exponents, Fitted | None]:
    """The exponents, and the law if it can be relied on."""
    try:
        found = estimate.of(_points(runs), _FORM, resamples=RESAMPLES, starts=_STARTS, basins=_BASINS)
    except UserError as error:
        return Exponents(APPROACHES[2], None, None, str(error)), None
    unsound = found.fitted.edges if found.converged else ("the fit did not converge",)
    if unsound:
        return Exponents(APPROACHES[2], None, None, "; ".join(unsound)), None
    n, d = (found.derived[name] for name in ("n_exponent", "d_exponent"))
    return Exponents(APPROACHES[2], n, d, "; ".join(found.warnings)), found.fitted


def _projected(runs: pl.DataFrame) -> Exponents:
    assert isinstance(_FORM, Sum)
    try:
        found = project(_FORM, *_columns(runs))
    except UserError as error:
        return Exponents(APPROACHES[3], None, None, str(error))
    if not found.converged:
        return Exponents(APPROACHES[3], None, None, "; ".join(found.edges))
    n, d = (Interval(found.derived[name]) for name in ("n_exponent", "d_exponent"))
    return Exponents(APPROACHES[3], n, d, "; ".join(("no interval: a check of Approach 3", *found.edges)))


def _frontier(findings: Findings, label: str) -> Extrapolation:
    """The law of the best losses of all budgets but the largest."""
    name = "law of the best loss"
    optima = [o for o in findings.optima if o.label == label]
    law = next((law for law in findings.laws if (law.label, law.quantity) == (label, "loss")), None)
    if law is not None and law.fit.n_points < len(optima):  # health rules drop optima that are not inside
        optima = [o for o in optima if o.isoflop.converged]
    if len(optima) < 3:
        return Extrapolation(name, reason="a law of two budgets and a third to predict are needed")
    budgets = np.array([o.budget for o in optima])
    loss = np.array([o.isoflop.loss for o in optima])
    drawn = np.stack([o.draws.loss for o in optima], axis=-1)
    fitted, refitted = (fit_loss(budgets[:-1], y[..., :-1], float(budgets[-2])) for y in (loss, drawn))
    fit = assess(fitted, budgets[:-1], loss[:-1])
    if not fit.converged:
        return Extrapolation(name, reason="the law of the smaller budgets did not converge")
    last = float(budgets[-1])
    miss = float(np.log(loss[-1] / fitted.at(last)))
    found = Interval.of(miss, np.log(drawn[:, -1] / refitted.at(last)))
    inside = int(found.above(0) is None) if found.known else None
    text = f"{len(optima) - 1} budgets, a {fitted.kind} law"
    return Extrapolation(name, text, abs(miss), found, inside, 1)


def _parametric_ahead(runs: pl.DataFrame) -> Extrapolation:
    columns, loss = _columns(runs)
    budget = runs["budget_flops"].to_numpy()
    try:
        found = hold_out(_FORM, columns, loss, budget, RESAMPLES, starts=_STARTS, basins=_BASINS)
    except UserError as error:
        return Extrapolation(APPROACHES[2], reason=str(error))
    if found.fitted.edges:
        return Extrapolation(APPROACHES[2], reason="; ".join(found.fitted.edges))
    count = len(found.loss)
    inside = round(found.coverage * count) if np.isfinite(found.coverage) else None
    text = f"{found.fitted.n_points} runs"
    return Extrapolation(APPROACHES[2], text, found.error, Interval(found.bias), inside, count)


def _points(runs: pl.DataFrame) -> estimate.Points:
    return points(runs, {"n": "n_params", "d": "tokens"}, LOSS)


def _columns(runs: pl.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
    found = _points(runs)
    return found.columns, found.loss
