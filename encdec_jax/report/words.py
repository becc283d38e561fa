"""Numbers with their intervals, and the answer, in words."""

from __future__ import annotations

import math

from encdec_jax.laws.interval import Interval
from encdec_jax.study.comparison import Comparison, Crossover
from encdec_jax.study.findings import Findings

_FEW = (1e-4, 1e6)  # numbers beyond are written as 1.23e6
_DECIMALS = 6  # at most


def flops(value: float) -> str:
    """FLOPs, short: 1e12, 3.2e11."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def number(value: float) -> str:
    """Three significant digits, thousands set apart: 0.0521, 12,300; beyond six digits 1.23e6, 4.56e-5."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not _FEW[0] <= abs(value) < _FEW[1]:
        return _scientific(value, 2)
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def interval(found: Interval, sign: bool = False) -> str:
    """An estimate and its interval, all to the decimals that the estimate or the interval's width needs."""
    if not found.known:
        return f"{number(found.value)} (no interval)"
    width = max(found.high - found.low, abs(found.value) * 1e-3, 1e-12)
    decimals = 1 - math.floor(math.log10(width)) if math.isfinite(width) else 3
    ends = (found.low, found.value, found.high)
    large = decimals > _DECIMALS or any(math.isfinite(v) and abs(v) >= _FEW[1] for v in ends)
    low, value, high = (_rounded(v, decimals, sign, large) for v in ends)
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


def parameters(found: Comparison) -> str:
    """A parameter multiplier, its bounds said where the truth lies beyond what is trusted."""
    if found.parameters is None:
        return "unknown"
    value, low, high = found.parameters.value, found.parameters.low, found.parameters.high
    if not found.parameters.known:
        return f"{number(value)}x (no interval)"
    ends = "unbounded" if low <= 0 else number(low), "unbounded" if math.isinf(high) else number(high)
    return f"{number(value)}x [{ends[0]}, {ends[1]}]"


def share(probability: float) -> str:
    """A probability estimated from resamples, which can't tell an event that none of them shows from a rare one."""
    return "under 0.001" if probability < 1e-3 else "over 0.999" if probability > 0.999 else f"{probability:.3f}"


def crossing(found: Crossover, baseline: str) -> str:
    """Where two frontiers cross, as a clause."""
    if found.compute is None:
        return f"no crossover of {found.label} with {baseline} in the measured range{_unless(found)}"
    winner = found.label if found.beyond else baseline
    ends = _ends(found.compute.low, found.compute.high) if found.compute.known else "(no interval)"
    return (
        f"{found.label} crosses {baseline} at {flops(found.compute.value)} FLOPs {ends}, above which {winner} is better"
    )


def answer(findings: Findings) -> str:
    """The answer in one sentence, with intervals: who beats the baseline at the largest budget; or why it is open."""
    if not findings.comparisons:
        return f"Not answered yet: no budget has runs done of both {findings.baseline} and another label."
    budget = max(comparison.budget for comparison in findings.comparisons)
    found = [comparison for comparison in findings.comparisons if comparison.budget == budget]
    return (
        f"At {flops(budget)} training FLOPs, {_verdict(found, findings.baseline)}: {_needs(found, findings.baseline)}."
    )


def frontiers(findings: Findings) -> str:
    """Where the fitted frontiers cross, in a sentence that names those that do not together; empty without any."""
    open_ends = [found for found in findings.crossovers if found.compute is not None or found.possible is not None]
    clauses = [crossing(found, findings.baseline) for found in open_ends]
    apart = [found for found in findings.crossovers if found not in open_ends]
    if apart:
        names = " or ".join(found.label for found in apart)
        low, high = flops(min(found.low for found in apart)), flops(max(found.high for found in apart))
        clauses.append(f"no crossover of {names} with {findings.baseline} in the measured range, {low} to {high} FLOPs")
    return f"The fitted frontiers: {'; '.join(clauses)}." if clauses else ""


def _verdict(found: list[Comparison], base: str) -> str:
    """Who beats whom."""
    better, worse, unknown = ([c.label for c in found if c.gap.above(0) is sign] for sign in (False, True, None))
    clauses = []
    if better:
        clauses.append(f"{_and(better)} {'beats' if len(better) == 1 else 'beat'} {base}")
    if worse:
        clauses.append(f"{base} beats {_and(worse)}")
    if unknown and clauses:
        clauses.append(f"{_and(unknown)} can't be told apart from {base}")
    return "; ".join(clauses) or f"{_and(unknown)} can't be told apart from {base}"


def _needs(found: list[Comparison], base: str) -> str:
    """By how much: the compute that each needs, or without a law of the baseline's the gap."""
    if any(c.multiplier is None for c in found):
        rest = [f"{c.label} by {interval(c.gap, sign=True)}" for c in found[1:]]
        first = f"{found[0].label}'s loss differs from {base}'s by {interval(found[0].gap, sign=True)} bits per byte"
    else:
        rest = [f"{c.label} {multiplier(c)}" for c in found[1:]]
        first = f"{found[0].label} needs {multiplier(found[0])} the compute of {base} for the same loss"
    return ", ".join([first, *rest])


def _unless(found: Crossover) -> str:
    """What the range does not exclude, where the best fits do not cross."""
    if found.possible is None:
        return ""
    low, high = found.possible
    if low <= 0 and math.isinf(high):
        return ", though the intervals allow one anywhere in it"
    return f", though the intervals allow one in {_ends(low, high)}"


def _ends(low: float, high: float) -> str:
    text = "below the range" if low <= 0 else flops(low), "above the range" if math.isinf(high) else flops(high)
    return f"[{text[0]}, {text[1]}]"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _rounded(value: float, decimals: int, sign: bool, scientific: bool) -> str:
    if not math.isfinite(value):
        return f"{value:g}"
    if scientific and value == 0:
        return "0"
    if scientific:
        power = math.floor(math.log10(abs(value)))
        return _scientific(value, min(max(0, power + decimals), _DECIMALS), sign)
    return f"{round(value, decimals):{'+' if sign else ''},.{max(0, decimals)}f}"


def _scientific(value: float, digits: int, sign: bool = False) -> str:
    """1.23e6 rather than 1.23e+06."""
    mantissa, _, power = f"{value:{'+' if sign else ''}.{digits}e}".partition("e")
    return f"{mantissa}e{int(power)}"
