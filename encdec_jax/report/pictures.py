"""The page's pictures, and the one for a README: which panels they hold, and what their points say when pointed at."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, get_args

import polars as pl
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encdec_jax.report import costs, learning, panels
from encdec_jax.report.canvas import Tips, inline
from encdec_jax.report.costs import Spent
from encdec_jax.report.learning import History
from encdec_jax.report.section import Picture
from encdec_jax.report.style import RC, looks
from encdec_jax.report.words import flops, interval, multiplier, number
from encdec_jax.study.findings import Findings
from encdec_jax.study.headline import headline
from encdec_jax.study.optima import Optimum

_SIZE = (4.8, 3.9)  # inches: text of this size stays readable at the width of a phone


def answers(findings: Findings, tips: Tips) -> tuple[Picture, ...]:
    """Gaps to the baseline at each budget, and frontiers."""
    made = []
    if findings.comparisons:
        title = f"Gap to {findings.baseline} at each budget of training FLOPs; hollow: nothing is claimed there"
        made.append(_picture(title, tips, panels.gaps, findings))
    if findings.optima:
        title = "Best bits per byte against training FLOPs, with fitted laws"
        made.append(_picture(title, tips, panels.frontier, findings))
    return tuple(made)


def isoflops(findings: Findings, tips: Tips) -> tuple[Picture, ...]:
    """One picture a label, all of one scale of losses."""
    title = "{}: bits per byte against parameters, one curve a budget"
    return tuple(_picture(title.format(label), tips, _isoflop, findings, label) for label in findings.labels)


def laws(findings: Findings, tips: Tips) -> tuple[Picture, ...]:
    """Intervals of the exponents, and residuals."""
    made = []
    for quantity in get_args(panels.Quantity):
        if any(law.quantity == quantity for law in findings.laws):
            title = f"Exponents of {panels.QUANTITIES[quantity]}, with intervals"
            made.append(_picture(title, tips, panels.exponents, findings, quantity))
    if any(law.quantity == "loss" for law in findings.laws):
        made.append(_picture("Residuals of the laws of loss", tips, panels.law_residuals, findings))
    if any(panels.free(optimum) for optimum in findings.optima):
        made.append(_picture("Residuals of the IsoFLOP curves", tips, panels.curve_residuals, findings))
    return tuple(made)


def crossovers(findings: Findings, tips: Tips) -> tuple[Picture, ...]:
    """The fitted frontiers over the baseline's."""
    if not findings.crossovers:
        return ()
    title = f"Fitted frontiers over that of {findings.baseline}, with crossovers"
    return (_picture(title, tips, panels.frontiers, findings),)


def fronts(findings: Findings, found: pl.DataFrame) -> tuple[Picture, ...]:
    """Losses against costs, one picture a cost and ratio of input to output."""
    said, look = costs.front_tips(found), looks((*findings.every, *sorted(set(found["label"]))))
    return tuple(_picture(costs.title(view), said, costs.front, view, look) for view in costs.views(found))


def learnings(findings: Findings, found: Sequence[History]) -> tuple[Picture, ...]:
    """Learning curves, one picture a label, all of one scale; likewise of held-out losses, where runs were scored."""
    look, shown = looks(findings.every), []
    for quantity, curves in ((learning.TRAINING, found), (learning.HELD_OUT, learning.watched(found))):
        for label in findings.labels:
            if any(history.label == label for history in curves):
                title = f"{label}: {quantity.partition(',')[0]} against training FLOPs spent"
                shown.append(_picture(title, {}, learning.curves, curves, label, look[label], quantity))
    return tuple(shown)


def ledger(found: Sequence[Spent]) -> tuple[Picture, ...]:
    """Shares of training FLOPs by group of weights."""
    if not found:
        return ()
    size = (_SIZE[0], 2.6 + 0.4 * len(found))
    return (_picture("Shares of training FLOPs by group of weights", {}, costs.shares, found, size=size),)


def _isoflop(axes: Axes, findings: Findings, label: str) -> None:
    panels.share_losses(axes, findings)
    panels.isoflop(axes, findings, label)


def _picture(
    title: str, tips: Tips, draw: Callable[..., None], *drawn: Any, size: tuple[float, float] = _SIZE
) -> Picture:
    return Picture(title, Markup(inline(title, size, lambda figure: draw(figure.subplots(), *drawn), tips)))


_ROW = 4  # IsoFLOP panels side by side
_DPI = 130
_TITLE = 120  # characters in a line of the title
_NOTE = (
    "Bars and bands: 95 % intervals. Star: best size; hollow, with a dashed curve: not inside the sizes tried. Hollow "
    "gap: nothing is claimed there."
)


def png(findings: Findings, title: str) -> bytes:
    """The whole answer as one picture: IsoFLOP curves above, frontier and gaps below. Needs at least one run done."""
    with rc_context(RC):
        rows = -(-len(findings.labels) // _ROW)
        figure = Figure(figsize=(13, 3.9 * rows + 5.2), layout="constrained")
        # Matplotlib's own wrapping takes dollar signs, which a question may hold, for mathematics.
        wrapped = textwrap.fill(title, _TITLE)
        figure.suptitle(wrapped, fontsize=12, fontweight="bold", x=0.01, ha="left", parse_math=False)
        halves: Any = figure.subfigures(2, 1, height_ratios=[3.9 * rows, 4.8])
        panels.isoflops(halves[0], findings, _ROW)
        left, right = halves[1].subplots(1, 2)
        panels.frontier(left, findings)
        panels.gaps(right, findings)
        figure.supxlabel(_NOTE, fontsize=9, color="#444444", x=0.01, ha="left")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def point_tips(findings: Findings) -> Tips:
    """A text for every marker of `panels`."""
    found: dict[str, list[str]] = {}
    head = headline(findings)
    for optimum in findings.optima:
        found[f"sizes {optimum.label} {optimum.budget}"] = _sizes(optimum)
        found[f"optimum {optimum.label} {optimum.budget}"] = [_optimum(optimum)]
    for label in findings.labels:
        own = [optimum for optimum in findings.optima if optimum.label == label]
        found[f"optima {label}"] = [_optimum(optimum) for optimum in own]
        found[f"gaps {label}"] = [
            f"{label} at {flops(c.budget)} FLOPs: {interval(c.gap, sign=True)} bits per byte above "
            f"{findings.baseline}; {head.forbids(label, c.budget, c.budget) or f'compute needed {multiplier(c)}'}"
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


def _sizes(optimum: Optimum) -> list[str]:
    curve = optimum.isoflop.curve
    made = []
    for place, (n, d, loss) in enumerate(zip(curve.n, curve.d, curve.loss, strict=True)):
        names = sorted(name for name, size in zip(curve.run_ids, curve.run_size, strict=True) if size == place)
        of = f"mean of {len(names)} runs" if len(names) > 1 else "one run"
        made.append(
            f"{optimum.label}, {flops(optimum.budget)} FLOPs: {n:,.0f} parameters, {number(d)} tokens, {loss:.4f} bits "
            f"per byte ({of}); {', '.join(names)}"
        )
    return made
