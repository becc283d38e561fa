"""Figures for notebooks and papers: a polars or pandas frame in, matplotlib figures out.

with publication("column"):
    figure = frontier(table, baseline="causal_lm")
    save(figure, Path("frontier.pdf"))
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from encdec_jax.errors import require
from encdec_jax.files import atomic_write
from encdec_jax.laws.estimate import Estimate
from encdec_jax.laws.joint import GROUP, Joint
from encdec_jax.laws.read import read
from encdec_jax.report import panels
from encdec_jax.report.chosen import only
from encdec_jax.report.style import RC, looks
from encdec_jax.report.words import flops
from encdec_jax.study.findings import Findings, analyze
from encdec_jax.study.foreign import sound

WIDTHS = {"column": 3.25, "page": 6.75}  # inches: of a column, and of a page, of the usual two-column proceedings
_HEIGHT = 0.62  # of a panel, over its width
_SUFFIXES = (".pdf", ".svg", ".png")
_DPI = 200
_GRID = 60  # computes at which a frontier is drawn, and sizes that it is looked for among
NAMES = {"n": "parameters", "d": "training tokens", "c": "training FLOPs", "x": "other loss, x"}
_BAND = 200  # resamples that a frontier's band is made of
_DATES = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {"Software": None}}


@contextmanager
def publication(width: Literal["column", "page"] = "page") -> Iterator[None]:
    """Figures made inside are as wide as a column or a page, with small type.

    Raises:
      UserError: another width.
    """
    require(width in WIDTHS, "width", width, f"one of {', '.join(WIDTHS)}")
    inches = WIDTHS[width]
    small: Any = {
        "figure.figsize": (inches, inches * _HEIGHT),
        "font.size": 8,
        "axes.titlesize": 8.5,
        "axes.labelsize": 8,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "legend.fontsize": 7.5,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
        "figure.dpi": 110,  # on a screen
    }
    with rc_context({**RC, **small}):
        yield


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PDF, SVG or PNG, by the suffix; the same figure gives the same bytes.

    Raises:
      UserError: another suffix, or the folder can't be written to.
    """
    require(path.suffix in _SUFFIXES, "figure", str(path), f"a file that ends in {', '.join(_SUFFIXES)}")
    buffer = io.BytesIO()
    # TrueType in PDFs: publishers refuse Type 3.
    with rc_context({"svg.hashsalt": "encdec_jax", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=path.suffix[1:], dpi=_DPI, metadata=_DATES[path.suffix])
    atomic_write(path, buffer.getvalue())
    return path


def isoflops(source: Any, baseline: str = "causal_lm", labels: Sequence[str] = ()) -> Figure:
    """Loss against parameters, a curve a budget, a panel a label.

    Args:
      source: a results table (a polars or pandas frame, or a path), or the `Findings` of one.
      baseline: the label that the others are compared with, of a table.
      labels: that are shown, beside the baseline; all if none is named.
    """
    findings = only(_findings(source, baseline), labels)
    columns = min(len(findings.labels), 3)
    rows = math.ceil(len(findings.labels) / columns)
    width = matplotlib.rcParams["figure.figsize"][0]
    figure = Figure(figsize=(width, rows * (0.6 + width / columns)), layout="constrained")
    panels.isoflops(figure, findings, columns)
    return figure


def frontier(source: Any, baseline: str = "causal_lm", labels: Sequence[str] = ()) -> Figure:
    """Best loss against training FLOPs, with fitted laws and their bands. Arguments are those of `isoflops`."""
    return _alone(panels.frontier, only(_findings(source, baseline), labels))


def gaps(source: Any, baseline: str = "causal_lm", labels: Sequence[str] = ()) -> Figure:
    """How far each label's best loss lies above the baseline's. Arguments are those of `isoflops`."""
    return _alone(panels.gaps, only(_findings(source, baseline), labels))


def fitted(found: Estimate) -> Figure:
    """The points of a fit with its law, and its residuals; by label, if it has several.

    Of a law of n and d the line is the frontier: the least loss at C = 6 n d among the sizes of the table, with the
    band of its resamples. Of a law of one column it is the law. Of others, points are drawn against the law's loss.
    """
    width = matplotlib.rcParams["figure.figsize"][0]
    figure = Figure(figsize=(width, 0.45 * width), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    form, loss, value = found.fitted.form, found.points.loss, found.fitted.predict(found.columns)
    of = found.columns.get(GROUP, np.full(len(loss), ""))
    x, text = _abscissa(found, value)
    names = form.groups if isinstance(form, Joint) else ("",)
    ends: list[tuple[float, Artist]] = []  # of the laws, with what stands for them in the legend
    for name, look in looks(names).items():
        here, shade = of == name, look.colour
        dots: Any = {"marker": look.marker, "ms": 3.5, "mfc": "none", "mew": 0.8, "ls": "", "zorder": 3}
        (points,) = left.plot(x[here], loss[here], color=shade, label=name, **dots)
        apart = found.fitted.residuals[here]
        right.plot(value[here], 100 * np.expm1(apart) if form.logarithmic else apart, color=shade, **dots)
        line = _line(found, x[here], {GROUP: np.full(_GRID, name)}, here)
        left.plot(line[0], line[1], color=shade)
        ends.append((float(line[1][-1]), points))
        if len(found.draws):
            left.fill_between(line[0], line[2], line[3], color=shade, alpha=0.2, linewidth=0)
    if isinstance(form, Joint):
        left.legend(handles=[points for _, points in sorted(ends, key=lambda end: -end[0])], frameon=False)
    right.axhline(0, color="#444444", lw=1)
    left.set(xlabel=text, ylabel="loss", title="Runs and law")
    unit = ", %" if form.logarithmic else ""
    right.set(xlabel="loss by the law", ylabel=f"loss above the law{unit}", title="Residuals")
    for axes, name, values in ((left, "x", x), (right, "x", value), (left, "y", loss)):
        if (values > 0).all():  # losses of any sign have no logarithm
            axes.set(**{f"{name}scale": "log"})
            _few_ticks(getattr(axes, f"{name}axis"))
    return figure


def _abscissa(found: Estimate, value: np.ndarray) -> tuple[np.ndarray, str]:
    """What the points are drawn against, [points], and what it is."""
    columns = _read(found)
    if set(columns) == {"n", "d"}:
        return 6 * columns["n"] * columns["d"], "6ND (FLOPs)"
    if len(columns) == 1:
        ((name, x),) = columns.items()
        return x, NAMES[name]
    return value, "loss by the law"


def _read(found: Estimate) -> dict[str, np.ndarray]:
    """The numbers that the law reads."""
    return {name: values for name, values in found.columns.items() if name != GROUP}


def _line(found: Estimate, x: np.ndarray, label: dict[str, np.ndarray], here: np.ndarray) -> tuple[np.ndarray, ...]:
    """The law, or the frontier, over the range of x: x, loss, and the ends of the band (NaN without resamples)."""
    columns = _read(found)
    grid = (np.geomspace if x.min() > 0 else np.linspace)(x.min(), x.max(), _GRID)
    if set(columns) == {"n", "d"}:
        sizes = np.geomspace(columns["n"][here].min(), columns["n"][here].max(), _GRID)
        n, c = (axis.ravel() for axis in np.meshgrid(sizes, grid))
        law = {"n": n, "d": c / (6 * n), **{name: np.repeat(values, _GRID) for name, values in label.items()}}
    elif len(columns) == 1:
        law = {next(iter(columns)): grid, **label}
    else:
        return grid, grid, grid, grid
    form = found.fitted.form
    laws = np.stack([found.fitted.natural, *found.draws[:_BAND]])
    loss = form.predict(laws, law).reshape(len(laws), _GRID, -1).min(-1)
    low, high = np.quantile(loss[1:], [0.025, 0.975], axis=0) if len(loss) > 1 else (loss[0], loss[0])
    return grid, loss[0], low, high


def _few_ticks(axis: Any) -> None:
    """Plain numbers at round places on a logarithmic axis that spans too little for powers of ten."""
    low, high = axis.get_view_interval()
    if high / low > 100:
        return
    near = high / low < 8
    axis.set_major_locator(FixedLocator(MaxNLocator(6).tick_values(low, high)) if near else LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}" if value < 1e4 else flops(value)))


def _alone(draw: Callable[[Axes, Findings], None], findings: Findings) -> Figure:
    width, height = matplotlib.rcParams["figure.figsize"]
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure.subplots(), findings)
    return figure


def _findings(source: Any, baseline: str) -> Findings:
    if isinstance(source, Findings):
        return source
    return analyze(sound(read(source)), baseline)
