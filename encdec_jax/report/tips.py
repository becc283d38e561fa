"""What a picture's points say when they are pointed at, by the keys that panels give to their markers."""

from __future__ import annotations

import polars as pl

from encdec_jax.report.svg import Tips
from encdec_jax.report.words import flops, interval, multiplier, number
from encdec_jax.study.findings import Findings, Optimum


def tips(findings: Findings, table: pl.DataFrame) -> Tips:
    """A text for every marker of `panels` and `diagnostics`.

    Args:
      findings: that the panels draw.
      table: whose runs the points stand for.
    """
    found: dict[str, list[str]] = {}
    for optimum in findings.optima:
        found[f"sizes {optimum.label} {optimum.budget}"] = _sizes(optimum, table)
        found[f"optimum {optimum.label} {optimum.budget}"] = [_optimum(optimum)]
    for label in findings.labels:
        own = [optimum for optimum in findings.optima if optimum.label == label]
        found[f"optima {label}"] = [_optimum(optimum) for optimum in own]
        found[f"gaps {label}"] = [
            f"{label} at {flops(c.budget)} FLOPs: {interval(c.gap, sign=True)} bits per byte above "
            f"{findings.baseline}; compute needed {multiplier(c)}"
            for c in findings.comparisons
            if c.label == label
        ]
    for law in findings.laws:
        if law.quantity == "loss":
            own = [optimum for optimum in findings.optima if optimum.label == law.label]
            found[f"law residuals {law.label}"] = [
                f"{law.label} at {flops(o.budget)} FLOPs: {100 * residual:+.2f} % from the law"
                for o, residual in zip(own, law.fit.residuals, strict=True)
            ]
    return found


def _optimum(optimum: Optimum) -> str:
    sure = "" if optimum.isoflop.converged else f" ({optimum.isoflop.reason})"
    return (
        f"{optimum.label}, {flops(optimum.budget)} FLOPs: best size {interval(optimum.n)} parameters, "
        f"{interval(optimum.d)} tokens, {interval(optimum.loss)} bits per byte{sure}"
    )


def _sizes(optimum: Optimum, table: pl.DataFrame) -> list[str]:
    curve = optimum.isoflop.curve
    runs = table.filter(
        pl.col("status") == "done", pl.col("label") == optimum.label, pl.col("budget_flops") == optimum.budget
    )
    made = []
    for n, d, loss, seeds in zip(curve.n, curve.d, curve.loss, curve.seeds, strict=True):
        names = sorted(runs.filter(pl.col("n_params") == n)["run_id"])
        of = f"mean of {seeds} seeds" if seeds > 1 else "one run"
        made.append(
            f"{optimum.label}, {flops(optimum.budget)} FLOPs: {n:,.0f} parameters, {number(d)} tokens, {loss:.4f} bits "
            f"per byte ({of}); {', '.join(names)}"
        )
    return made
