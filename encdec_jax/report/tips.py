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
        found[f"sizes {optimum.arch} {optimum.budget}"] = _sizes(optimum, table)
        found[f"optimum {optimum.arch} {optimum.budget}"] = [_optimum(optimum)]
    for arch in findings.archs:
        own = [optimum for optimum in findings.optima if optimum.arch == arch]
        found[f"optima {arch}"] = [_optimum(optimum) for optimum in own]
        found[f"gaps {arch}"] = [
            f"{arch} at {flops(c.budget)} FLOPs: {interval(c.gap, sign=True)} bits per byte above {findings.baseline}; "
            f"compute needed {multiplier(c)}"
            for c in findings.comparisons
            if c.arch == arch
        ]
    for law in findings.laws:
        if law.quantity == "loss":
            own = [optimum for optimum in findings.optima if optimum.arch == law.arch]
            found[f"law residuals {law.arch}"] = [
                f"{law.arch} at {flops(o.budget)} FLOPs: {100 * residual:+.2f} % from the law"
                for o, residual in zip(own, law.fit.residuals, strict=True)
            ]
    return found


def _optimum(optimum: Optimum) -> str:
    sure = "" if optimum.isoflop.converged else f" ({optimum.isoflop.reason})"
    return (
        f"{optimum.arch}, {flops(optimum.budget)} FLOPs: best size {interval(optimum.n)} parameters, "
        f"{interval(optimum.d)} tokens, {interval(optimum.loss)} bits per byte{sure}"
    )


def _sizes(optimum: Optimum, table: pl.DataFrame) -> list[str]:
    curve = optimum.isoflop.curve
    runs = table.filter(
        pl.col("status") == "done", pl.col("arch") == optimum.arch, pl.col("budget_flops") == optimum.budget
    )
    made = []
    for n, d, loss, seeds in zip(curve.n, curve.d, curve.loss, curve.seeds, strict=True):
        names = sorted(runs.filter(pl.col("n_params") == n)["run_id"])
        of = f"mean of {seeds} seeds" if seeds > 1 else "one run"
        made.append(
            f"{optimum.arch}, {flops(optimum.budget)} FLOPs: {n:,.0f} parameters, {number(d)} tokens, {loss:.4f} bits "
            f"per byte ({of}); {', '.join(names)}"
        )
    return made
