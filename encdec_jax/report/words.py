"""Numbers with their intervals, and the answer, in words."""

from __future__ import annotations

import math

from encdec_jax.scaling.compare import Comparison, Crossover
from encdec_jax.scaling.findings import Findings
from encdec_jax.scaling.interval import Interval


def flops(value: float) -> str:
    """FLOPs, short: 1e12, 3.2e11."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def number(value: float) -> str:
    """Three significant digits, thousands set apart: 0.0521, 12,300."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def interval(found: Interval, sign: bool = False) -> str:
    """An estimate and its interval, all to the decimals that the estimate or the interval's width needs."""
    if not found.known:
        return f"{number(found.value)} (no interval)"
    width = max(found.high - found.low, abs(found.value) * 1e-3, 1e-12)
    decimals = 1 - math.floor(math.log10(width)) if math.isfinite(width) else 3
    low, value, high = (_rounded(v, decimals, sign) for v in (found.low, found.value, found.high))
    return f"{value} [{low}, {high}]"


def multiplier(found: Comparison) -> str:
    """A compute multiplier, its bounds said where the truth lies beyond: '1.3x [1.1, 1.6]', 'more than 9x'."""
    if found.multiplier is None:
        return "unknown"
    value, low, high = found.multiplier.value, found.multiplier.low, found.multiplier.high
    if value >= found.multiplier_most:
        return f"more than {number(found.multiplier_most)}x"
    if value <= found.multiplier_least:
        return f"less than {number(found.multiplier_least)}x"
    if not found.multiplier.known:
        return f"{number(value)}x (no interval)"
    ends = (
        "less than " * (low <= found.multiplier_least) + number(low),
        "more than " * (high >= found.multiplier_most) + number(high),
    )
    return f"{number(value)}x [{ends[0]}, {ends[1]}]"


def crossing(found: Crossover, baseline: str) -> str:
    """Where two frontiers cross, as a clause."""
    if found.compute is None:
        return f"no crossover of {found.arch} with {baseline} in the measured range"
    if not found.compute.known:
        ends = "(no interval)"
    else:
        low = "below the range" if found.compute.low <= 0 else flops(found.compute.low)
        high = "above the range" if math.isinf(found.compute.high) else flops(found.compute.high)
        ends = f"[{low}, {high}]"
    winner = found.arch if found.beyond else baseline
    return (
        f"{found.arch} crosses {baseline} at {flops(found.compute.value)} FLOPs {ends}, above which {winner} is better"
    )


def answer(findings: Findings) -> str:
    """The answer in a sentence or two, with intervals; or why there is none yet."""
    if not findings.comparisons:
        return f"Not answered yet: no budget has runs done of both {findings.baseline} and another architecture."
    budget = max(comparison.budget for comparison in findings.comparisons)
    clauses = [_clause(c, findings.baseline) for c in findings.comparisons if c.budget == budget]
    return f"At {flops(budget)} training FLOPs, {'; '.join(clauses)}.{_crossings(findings)}"


def _crossings(findings: Findings) -> str:
    """A sentence on the fitted frontiers, those that do not cross together; empty without frontiers."""
    clauses = [crossing(found, findings.baseline) for found in findings.crossovers if found.compute is not None]
    apart = [found for found in findings.crossovers if found.compute is None]
    if apart:
        names = " or ".join(found.arch for found in apart)
        low, high = flops(min(found.low for found in apart)), flops(max(found.high for found in apart))
        clauses.append(f"no crossover of {names} with {findings.baseline} in the measured range, {low} to {high} FLOPs")
    return f" The fitted frontiers: {'; '.join(clauses)}." if clauses else ""


def _clause(found: Comparison, baseline: str) -> str:
    gap = f"{interval(found.gap, sign=True)} bits per byte"
    if found.gap.above(0) is None:
        needs = "" if found.multiplier is None else f", {multiplier(found)} the compute for the same loss"
        told = "can't be told apart" if found.gap.known else "differ by an unknown margin"
        return f"{found.arch} and {baseline} {told} ({gap}{needs})"
    if found.multiplier is None:
        worse = "worse" if found.gap.value > 0 else "better"
        return f"{found.arch} is {worse} than {baseline} by {gap}"
    return f"{found.arch} needs {multiplier(found)} the compute of {baseline} for the same loss ({gap})"


def _rounded(value: float, decimals: int, sign: bool) -> str:
    if not math.isfinite(value):
        return f"{value:g}"
    return f"{round(value, decimals):{'+' if sign else ''},.{max(0, decimals)}f}"
