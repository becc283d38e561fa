"""The answer in words: what `encdec_jax.study.headline` claims, what forbids more, and what qualifies it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from encdec_jax.report.words import crossing, flops, interval, multiplier, number, some
from encdec_jax.study.findings import Findings
from encdec_jax.study.headline import Headline
from encdec_jax.study.noise import Noise
from encdec_jax.study.optima import Optimum

_UNDECIDED = 3  # labels that can't be told apart, whose differences the answer still names


def answer(findings: Findings, head: Headline) -> str:
    """The answer: what the headline claims, after what forbids more; or why it is open."""
    if not head.labels:
        return f"Not answered yet: no budget has runs done of both {findings.baseline} and another label."
    first = _outside(head.outside)
    if head.unknown:
        first += (
            f"The noise of {some(head.unknown)} is not known, for want of a second seed or a fourth size: nothing is "
            "claimed. "
        )
    if not head.beside:
        return f"{first}So whether {some(head.labels, 'or')} beats {head.baseline} can't be told."
    budgets = sorted({budget for beside in head.beside for budget in beside.budgets})
    where = f"At {_flops(budgets)} training FLOPs"
    if len(budgets) > 1:
        where = f"Over {len(budgets)} budgets of {flops(budgets[0])} to {flops(budgets[-1])} training FLOPs together"
    return f"{first}{where}, {_verdict(head)}: {_amounts(findings, head)}."


def frontiers(findings: Findings, head: Headline) -> str:
    """Where the frontiers cross, as far as the headline's claims bear it, in a sentence; empty without any laws."""
    clauses = []
    without: list[str] = []
    unknown: list[str] = []
    for found in findings.crossovers:
        crosses = head.crosses(found.label)
        if crosses and found.compute is not None:
            clauses.append(crossing(found, findings.baseline))
        elif crosses:
            clauses.append(f"{found.label} and {findings.baseline} cross between the budgets")
        else:
            (without if crosses is False else unknown).append(found.label)
    if without:
        low = flops(max(found.low for found in findings.crossovers if found.label in without))
        high = flops(min(found.high for found in findings.crossovers if found.label in without))
        clauses.append(f"no crossover of {some(without, 'or')} with {findings.baseline} from {low} to {high} FLOPs")
    if unknown:
        clauses.append(f"a crossover of {some(unknown, 'or')} with {findings.baseline} can't be located")
    return f"The frontiers: {'; '.join(clauses)}." if clauses else ""


def qualified(findings: Findings, head: Headline) -> list[str]:
    """What qualifies the headline, in sentences."""
    base = head.baseline
    found = [
        f"Left out: run {one.run_id} of {one.label} at {flops(one.budget)} FLOPs, {abs(one.off):.2g} bits per byte "
        f"{'above' if one.off > 0 else 'below'} the curve of the others ({abs(one.studentised):.1f} standard errors)."
        for one in head.outliers
    ]
    doubtful = [f"{label} at {_flops(budgets)}" for label, budgets in _by_label(head.doubtful).items()]
    if doubtful:
        found.append(
            f"In doubt: best sizes that may lie outside the sizes tried, of {'; '.join(doubtful)} FLOPs; the "
            "headline's intervals allow for it."
        )
    for label, (own, theirs) in head.effort.items():
        found.append(
            f"Unequal effort: {label} had up to {own} settings of a size to choose the best of, {base} {theirs}; the "
            "headline's intervals allow for the luck of the best."
        )
    for label, budgets in _by_label(head.below).items():
        found.append(
            f"The best loss of {label} at {_flops(budgets)} FLOPs is its curve's: it lies below those of all its runs "
            f"by more than {_noise(findings.noise[label])}."
        )
    for label, noise in findings.noise.items():
        if noise.misfit > 1:
            found.append(
                f"The curves of {label} don't fit: sizes lie {number(noise.misfit)} times as far off them as seeds "
                "explain. All intervals are as wide as that asks for; where the best size lies is not to be relied on."
            )
    quantities = {"loss": "best loss", "n": "best size", "d": "tokens at the best size"}
    for law in findings.laws:
        if law.misfit > 1:
            found.append(
                f"The law of {law.label}'s {quantities[law.quantity]} doesn't fit: budgets lie {number(law.misfit)} "
                "times as far off it as noise explains. Its intervals, and those of what it gives (compute needed, "
                "crossovers, allocations), are wider for it."
            )
    if head.unchecked:
        found.append(
            f"Three sizes a budget leave the parabolas of {_and(head.unchecked)} no residual: nothing checks their "
            "form, and the noise is that of seeds."
        )
    for sign in (True, False):
        seen: dict[str, list[float]] = {}
        for pair in head.pairs:
            if (pair.windows.value > 0) is sign:
                seen.setdefault(pair.label, []).append(pair.budget)
        for label, budgets in seen.items():
            found.append(
                f"On the same held-out windows these runs of {label} are {'worse' if sign else 'better'} than {base}'s "
                f"at {_flops(budgets)} FLOPs by more than the choice of windows explains; what other seeds would give, "
                "so few don't say."
            )
    return found


def _outside(optima: Iterable[Optimum]) -> str:
    """Which budgets support no claim, and what grid would help."""
    alike: dict[tuple[str, str], list[str]] = {}
    for label, budgets in _by_label(optima).items():
        wanted = _and(dict.fromkeys(_wanted(o) for o in optima if o.label == label))
        alike.setdefault((_flops(budgets), wanted), []).append(label)
    clauses = [
        f"{labels[0]}'s best size at {where} FLOPs (try {wanted})"
        if len(labels) == 1
        else f"the best sizes of {some(labels)} at {where} FLOPs (try {wanted})"
        for (where, wanted), labels in alike.items()
    ]
    return f"Not inside the sizes tried, so nothing is claimed there: {'; '.join(clauses)}. " if clauses else ""


def _wanted(optimum: Optimum) -> str:
    """The sizes that would help."""
    curve = optimum.isoflop.curve
    if optimum.isoflop.shape == "too few sizes":
        return "3 sizes or more"
    if optimum.isoflop.shape == "too close":
        return f"sizes further apart than {curve.n[-1] / curve.n[0]:.2g}x"
    if optimum.isoflop.shape == "not convex":
        return "a wider range of sizes"
    low, high = (float(curve.n[place]) for place in (0, -1))
    lower = optimum.n.value - low < high - optimum.n.value
    if optimum.isoflop.shape == "inside":
        lower = optimum.n.low <= 0 if math.isfinite(optimum.n.high) else not optimum.n.low <= 0 and lower
    return f"sizes below {number(low)}" if lower else f"sizes above {number(high)}"


def _verdict(head: Headline) -> str:
    """Who beats whom, and at which budgets if not over all together."""
    base = head.baseline
    alike: dict[tuple[bool, str], list[str]] = {}
    for claim in sorted(head.claims, key=lambda claim: not claim.better):
        where = "" if claim.together else f" at {_flops(claim.budgets)}"
        where += f" (at {_flops(claim.windows)} on the same windows)" if claim.windows else ""
        alike.setdefault((claim.better, where), []).append(claim.label)
    said = [
        f"{_and(labels)} {'beats' if len(labels) == 1 else 'beat'} {base}{where}"
        if better
        else f"{base} beats {_and(labels)}{where}"
        for (better, where), labels in alike.items()
    ]
    named = {claim.label for claim in head.claims}
    unknown = [beside.label for beside in head.beside if beside.label not in named]
    if unknown:
        said.append(f"{some(unknown)} can't be told apart from {base}")
    return "; ".join(said)


def _amounts(findings: Findings, head: Headline) -> str:
    """By how much: the difference over all budgets, and the compute that those who differ need at the largest."""
    base = head.baseline
    named = [beside for beside in head.beside if head.claimed(beside.label)]
    shown = named or (list(head.beside) if len(head.beside) <= _UNDECIDED else [])
    if not shown:
        return f"all their intervals hold {base}'s loss"
    parts = [f"{shown[0].label}'s best loss is {interval(shown[0].mean, sign=True)} bits per byte from {base}'s"]
    parts += [f"{one.label}'s {interval(one.mean, sign=True)}" for one in shown[1:]]
    needs: dict[float, list[str]] = {}
    for one in named:
        found = findings.comparison(one.label, one.budgets[-1])
        if found.multiplier is not None:
            needs.setdefault(found.budget, []).append(f"{found.label} needs {multiplier(found)}")
    for budget, texts in needs.items():
        texts[0] = f"alone at {flops(budget)}, {texts[0]} the compute of {base} for the same loss"
    return "; ".join(", ".join(texts) for texts in (parts, *needs.values()))


def _noise(noise: Noise) -> str:
    return "their noise" if noise.estimated else f"{noise.name}, for their noise is not known"


def _by_label(optima: Iterable[Optimum]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for optimum in optima:
        found.setdefault(optimum.label, []).append(optimum.budget)
    return found


def _flops(budgets: Iterable[float]) -> str:
    return _and([flops(budget) for budget in budgets])


def _and(names: Iterable[str]) -> str:
    *most, end = names
    return f"{', '.join(most)} and {end}" if most else end
