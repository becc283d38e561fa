"""The answer as one picture, for a README. The same findings give the same bytes."""

from __future__ import annotations

import io
import textwrap
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure, FigureBase

from encdec_jax.report import panels
from encdec_jax.report.style import RC
from encdec_jax.study.findings import Findings

_ROW = 4  # IsoFLOP panels side by side
_DPI = 130
_TITLE = 120  # characters in a line of the title
_NOTE = "Bars and bands: 95 % intervals. Star: best size; hollow, with a dashed curve: not inside the sizes tried."


def png(findings: Findings, title: str) -> bytes:
    """The whole answer as one picture: IsoFLOP curves above, frontier and gaps below. Needs at least one run done."""
    with rc_context(RC):
        rows = -(-len(findings.labels) // _ROW)
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


def _isoflops(figure: FigureBase, findings: Findings) -> None:
    """One panel an architecture, all of one height and scale."""
    columns = min(_ROW, len(findings.labels))
    rows = -(-len(findings.labels) // columns)
    grid: Any = figure.subplots(rows, columns, sharey=True, squeeze=False)
    panels.share_losses(grid[0, 0], findings)
    for place, label in enumerate(findings.labels):
        panels.isoflop(grid.flat[place], findings, label)
    for axes in grid[:, 1:].flat:
        axes.set_ylabel("")
    for axes in grid.flat[len(findings.labels) :]:
        axes.set_axis_off()
