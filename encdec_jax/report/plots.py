"""The pictures of a report: one PNG that holds all, and inline SVGs. The same findings give the same bytes."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure, FigureBase

from encdec_jax.report import panels
from encdec_jax.report.style import RC
from encdec_jax.scaling.findings import Findings

_ROW = 4  # IsoFLOP panels side by side
_DPI = 130
_TITLE = 120  # characters in a line of the title
_NOTE = "Bars and bands: 95 % intervals. Star: best size; hollow, with a dashed curve: not inside the sizes tried."


def png(findings: Findings, title: str) -> bytes:
    """The whole answer as one picture: IsoFLOP curves above, frontier and gaps below. Needs at least one run done."""
    with rc_context(RC):
        rows = -(-len(findings.archs) // _ROW)
        figure = Figure(figsize=(13, 3.9 * rows + 5.2), layout="constrained")
        # Matplotlib's own wrapping takes dollar signs, which a question may hold, for mathematics.
        wrapped = textwrap.fill(title, _TITLE)
        figure.suptitle(wrapped, fontsize=12, fontweight="bold", x=0.01, ha="left", parse_math=False)
        halves: Any = figure.subfigures(2, 1, height_ratios=[3.9 * rows, 4.8])
        _isoflops(halves[0], findings)
        left, right = halves[1].subplots(1, 2)
        panels.frontier(left, findings)
        panels.gaps(right, findings)
        figure.supxlabel(_NOTE, fontsize=9, color="#444444", x=0.01, ha="left")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def svgs(findings: Findings) -> list[tuple[str, str]]:
    """Title and SVG of each picture, to be set into HTML. Needs at least one run done."""

    def isoflops(figure: Figure) -> None:
        figure.set_size_inches(11, 3.9 * -(-len(findings.archs) // _ROW))
        _isoflops(figure, findings)

    def alone(draw: Callable[..., None]) -> Callable[[Figure], None]:
        return lambda figure: draw(figure.subplots(), findings)

    made = [
        ("Bits per byte against parameters, one curve a budget of training FLOPs", isoflops),
        ("Best bits per byte against training FLOPs, with fitted laws", alone(panels.frontier)),
    ]
    if findings.comparisons:
        made.append((f"Gap to {findings.baseline} at each budget of training FLOPs", alone(panels.gaps)))
    return [(title, _svg(title, draw)) for title, draw in made]


def _isoflops(figure: FigureBase, findings: Findings) -> None:
    """One panel an architecture, all of one height and scale."""
    columns = min(_ROW, len(findings.archs))
    rows = -(-len(findings.archs) // columns)
    grid: Any = figure.subplots(rows, columns, sharey=True, squeeze=False)
    drawn = [np.append(o.isoflop.curve.loss, [o.loss.low, o.loss.high]) for o in findings.optima]
    losses = np.concatenate(drawn)
    losses = losses[np.isfinite(losses)]
    margin = 0.08 * (losses.max() - losses.min() or 1.0)
    grid[0, 0].set_ylim(losses.min() - margin, losses.max() + margin)
    for place, arch in enumerate(findings.archs):
        panels.isoflop(grid.flat[place], findings, arch)
    for axes in grid[:, 0]:
        axes.set_ylabel("bits per byte, held-out suffixes")
    for axes in grid.flat[len(findings.archs) :]:
        axes.set_axis_off()


def _svg(title: str, draw: Callable[[Figure], None]) -> str:
    with rc_context({**RC, "svg.hashsalt": title}):
        figure = Figure(figsize=(7.5, 4.4), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    """An SVG file as an element of HTML: no prologue, no namespaces, no fixed size, no ids that two pictures share."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\sid="[A-Za-z0-9]+_\d+"', "", svg)
    return svg.replace("<svg", '<svg role="img"', 1)
