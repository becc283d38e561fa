"""The pictures of a report's sections, as inline SVGs. The same findings give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import polars as pl
from markupsafe import Markup
from matplotlib.axes import Axes

from encdec_jax.report import diagnostics, learning, ledgers, panels, serving
from encdec_jax.report.learning import History
from encdec_jax.report.ledgers import Spent
from encdec_jax.report.section import Picture
from encdec_jax.report.style import looks
from encdec_jax.report.svg import Tips, inline
from encdec_jax.study.findings import Findings

_SIZE = (4.8, 3.9)  # inches: text of this size stays readable at the width of a phone


def answers(findings: Findings, tips: Tips) -> tuple[Picture, ...]:
    """Gaps to the baseline at each budget, and frontiers."""
    made = []
    if findings.comparisons:
        title = f"Gap to {findings.baseline} at each budget of training FLOPs"
        made.append(_picture(title, tips, panels.gaps, findings))
    if findings.optima:
        title = "Best bits per byte against training FLOPs, with fitted laws"
        made.append(_picture(title, tips, panels.frontier, findings))
    return tuple(made)


def isoflops(findings: Findings, tips: Tips) -> tuple[Picture, ...]:
    """One picture an architecture, all of one scale of losses."""
    title = "{}: bits per byte against parameters, one curve a budget"
    return tuple(_picture(title.format(label), tips, _isoflop, findings, label) for label in findings.labels)


def laws(findings: Findings, tips: Tips) -> tuple[Picture, ...]:
    """Intervals of the exponents, and residuals."""
    made = []
    for quantity in get_args(diagnostics.Quantity):
        if any(law.quantity == quantity for law in findings.laws):
            title = f"Exponents of {diagnostics.QUANTITIES[quantity]}, with intervals"
            made.append(_picture(title, tips, diagnostics.exponents, findings, quantity))
    if any(law.quantity == "loss" for law in findings.laws):
        made.append(_picture("Residuals of the laws of loss", tips, diagnostics.law_residuals, findings))
    if any(diagnostics.free(optimum) for optimum in findings.optima):
        made.append(_picture("Residuals of the IsoFLOP curves", tips, diagnostics.curve_residuals, findings))
    return tuple(made)


def crossovers(findings: Findings, tips: Tips) -> tuple[Picture, ...]:
    """The fitted frontiers over the baseline's."""
    if not findings.crossovers:
        return ()
    title = f"Fitted frontiers over that of {findings.baseline}, with crossovers"
    return (_picture(title, tips, diagnostics.frontiers, findings),)


def fronts(findings: Findings, found: pl.DataFrame) -> tuple[Picture, ...]:
    """Losses against costs, one picture a cost and ratio of input to output."""
    said, look = serving.tips(found), looks((*findings.every, *sorted(set(found["label"]))))
    return tuple(_picture(serving.title(view), said, serving.front, view, look) for view in serving.views(found))


def learnings(findings: Findings, found: Sequence[History]) -> tuple[Picture, ...]:
    """Learning curves, one picture an architecture, all of one scale."""
    title, look = "{}: training loss against training FLOPs spent", looks(findings.every)
    labels = [label for label in findings.labels if any(history.label == label for history in found)]
    return tuple(_picture(title.format(label), {}, learning.curves, found, label, look[label]) for label in labels)


def ledger(found: Sequence[Spent]) -> tuple[Picture, ...]:
    """Shares of training FLOPs by group of weights."""
    if not found:
        return ()
    size = (_SIZE[0], 2.6 + 0.4 * len(found))
    return (_picture("Shares of training FLOPs by group of weights", {}, ledgers.shares, found, size=size),)


def _isoflop(axes: Axes, findings: Findings, label: str) -> None:
    panels.share_losses(axes, findings)
    panels.isoflop(axes, findings, label)


def _picture(
    title: str, tips: Tips, draw: Callable[..., None], *drawn: Any, size: tuple[float, float] = _SIZE
) -> Picture:
    return Picture(title, Markup(inline(title, size, lambda figure: draw(figure.subplots(), *drawn), tips)))
