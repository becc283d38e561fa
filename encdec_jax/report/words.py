"""Numbers with their intervals, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable

from encdec_jax.laws.interval import Interval
from encdec_jax.study.comparison import Comparison, Crossover

_FEW = (1e-4, 1e6)  # numbers beyond are written as 1.23e6
_DECIMALS = 6  # at most
NAMED = 6  # labels that a sentence names one by one


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
    if not math.isfinite(width):
        width = max(abs(found.value), 1e-12) / 100
    decimals = 1 - math.floor(math.log10(width))
    while sign and decimals < _DECIMALS and any(v and not round(v, decimals) for v in (found.low, found.high)):
        decimals += 1  # of a difference the sign of an end says whether it holds 0
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
    if found.possible is not None and found.possible[0] <= 0 and math.isinf(found.possible[1]):
        return (
            f"a crossover of {found.label} with {baseline} can't be located: nowhere in the range are they told apart"
        )
    if found.compute is None:
        return f"no crossover of {found.label} with {baseline} in the measured range{_unless(found)}"
    winner = found.label if found.beyond else baseline
    ends = _ends(found.compute.low, found.compute.high) if found.compute.known else "(no interval)"
    return (
        f"{found.label} crosses {baseline} at {flops(found.compute.value)} FLOPs {ends}, above which {winner} is better"
    )


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


def _rounded(value: float, decimals: int, sign: bool, scientific: bool) -> str:
    if not math.isfinite(value):
        return f"{value:g}"
    if scientific and value == 0:
        return "0"
    if scientific:
        power = math.floor(math.log10(abs(value)))
        return _scientific(value, min(max(0, power + decimals), _DECIMALS), sign)
    return f"{round(value, decimals):{'+' if sign else ''}z,.{max(0, decimals)}f}"


def _scientific(value: float, digits: int, sign: bool = False) -> str:
    """1.23e6 rather than 1.23e+06."""
    mantissa, _, power = f"{value:{'+' if sign else ''}.{digits}e}".partition("e")
    return f"{mantissa}e{int(power)}"


def some(names: Iterable[str], last: str = "and") -> str:
    """Names in a row; of more than `NAMED`, the first few and how many more there are."""
    found = list(names)
    most, end = found[:-1], found[-1]
    if len(found) > NAMED:
        most, end = found[: NAMED // 2], f"{len(found) - NAMED // 2} more"
    return f"{', '.join(most)} {last} {end}" if most else end
