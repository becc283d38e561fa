"""How much the laws depend on how they are found, as sections: approaches, parabolas, the largest budget held out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from encdec_jax.laws.interval import Interval
from encdec_jax.report.section import Section
from encdec_jax.report.words import flops, interval, number
from encdec_jax.study.approaches import APPROACHES, RESAMPLES, Exponents, Sides

_NONE = "-"


def side_by_side(found: Sequence[Sides]) -> Section:
    """The exponents of N*(C) and D*(C) by every approach."""
    note = (
        "Best parameters N* and tokens D* as powers of training FLOPs C, by the approaches of Hoffmann et al. 2022. "
        "Approach 1: the envelope of the learning curves; they are of each run's own training loss, not of the loss "
        "that labels are compared by, and before the learning rate has decayed. Approach 2: the parabolas above."
        " Approach 3: L = E + A / N^alpha + B / D^beta through all runs of a label, with Huber's loss; its "
        f"interval is of {RESAMPLES} resamples of the runs. Variable projection: the same law by least squares. The "
        "last two take C for 6 N D, which budgets here only come near to. Beside Approach 2: the difference of N*'s "
        "exponent, and whether it lies in Approach 2's interval."
    )
    rows = [_exponents(side, one) for side in found for one in side.exponents]
    columns = ("label", "approach", "exponent of N*", "exponent of D*", "beside Approach 2", "remark")
    text = tuple(_span(side) for side in found if side.span is not None)
    return Section("Laws side by side", note if rows else "", columns, rows, "No run is done.", text=text)


def parabolas(found: Sequence[Sides]) -> Section:
    """How far Approach 2's parabolas would miss the best size without any noise."""
    note = (
        "Were Approach 3's law exact and runs without noise: how far each parabola's best size would lie from the "
        "law's. By width: the part that these sizes would have if centred on the law's best one; the rest comes from "
        "their centre. Half width: largest size tried over the middle one. The causes are those of Czech et al. 2026 "
        "(arXiv 2603.22339)."
    )
    rows = []
    for side in found:
        if side.bias is None:
            rows.append([side.label, *[_NONE] * 6, side.bias_reason])
            continue
        b = side.bias
        for budget, n, miss, by_width, centre, width in zip(
            b.budgets, b.n, b.miss, b.by_width, b.centre, b.width, strict=True
        ):
            values = (_percent(miss), _percent(by_width), f"{number(math.exp(width))}x")
            rows.append([side.label, flops(budget), number(n), *values, f"{number(math.exp(centre))}x", ""])
    columns = (
        "label",
        "budget (FLOPs)",
        "N* by the law",
        "parabola's N* above it",
        "by width",
        "half width",
        "middle / N*",
        "remark",
    )
    text = tuple(
        f"{side.label}: the misses add {side.bias.exponent:+.3f} to Approach 2's exponent of N*."
        for side in found
        if side.bias is not None and math.isfinite(side.bias.exponent)
    )
    return Section("Parabolas checked", note if rows else "", columns, rows, "No run is done.", text=text)


def held_out(found: Sequence[Sides]) -> Section:
    """The largest budget, predicted from the smaller ones."""
    note = (
        "Laws fitted to all budgets but the largest, and what they say of it. Error: root mean square of ln(loss / "
        "predicted). Bias: its mean, above 0 where the law hopes for too much; in brackets what the noise of both "
        "losses allows. Inside: losses inside their 95 % prediction interval; of the best loss, whether the bias's "
        "interval holds 0."
    )
    rows = [
        [side.label, one.law, *[_NONE] * 4, one.reason]
        if one.reason
        else [
            side.label,
            one.law,
            one.fitted_to,
            f"{number(100 * one.error)} %",
            _NONE if one.bias is None else _bias(one.bias),
            "no interval" if one.inside is None else f"{one.inside} of {one.count}",
            "",
        ]
        for side in found
        for one in side.ahead
    ]
    columns = ("label", "law", "fitted to", "error", "bias", "inside", "remark")
    return Section("The largest budget held out", note if rows else "", columns, rows, "No run is done.")


def _exponents(side: Sides, one: Exponents) -> list[str]:
    if one.n is None or one.d is None:
        return [side.label, one.approach, _NONE, _NONE, _NONE, one.reason]
    return [side.label, one.approach, _short(one.n), _short(one.d), _beside(side, one), one.reason]


def _beside(side: Sides, one: Exponents) -> str:
    base = side.exponents[APPROACHES.index("Approach 2")].n
    if one.approach == "Approach 2" or base is None or one.n is None:
        return _NONE
    difference = f"{one.n.value - base.value:+.3f}"
    if not base.known:
        return difference
    return f"{difference}, {'inside' if base.low <= one.n.value <= base.high else 'outside'}"


def _span(side: Sides) -> str:
    """How far the approaches disagree, and what that would come to."""
    assert side.span is not None
    low, high = side.span
    count = sum(one.n is not None for one in side.exponents)
    return (
        f"{side.label}: {count} approaches put N*'s exponent between {low:.3f} and {high:.3f}; over 10 times the "
        f"compute, best sizes would come to differ {number(10 ** (high - low))}x."
    )


def _short(found: Interval) -> str:
    return interval(found) if found.known else f"{found.value:.3f}"


def _bias(found: Interval) -> str:
    scaled = Interval(100 * found.value, 100 * found.low, 100 * found.high)
    return f"{interval(scaled, sign=True)} %" if found.known else f"{scaled.value:+.2f} %"


def _percent(logarithm: float) -> str:
    return f"{100 * math.expm1(logarithm):+.1f} %" if math.isfinite(logarithm) else "no minimum"
