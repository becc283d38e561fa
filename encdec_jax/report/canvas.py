"""What pictures are drawn with: axes, error bars, labels that keep apart, and SVG whose parts say whose they are."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from encdec_jax.laws.interval import Interval
from encdec_jax.report.style import RC, Look
from encdec_jax.report.words import flops
from encdec_jax.text import amount

SEPARATOR = "\x1f"  # which no label holds
PART = f"_of{SEPARATOR}"  # begins the label of a part; legends pass over labels that begin with an underscore
_LINE = 0.052  # of a label's text, as a share of the axes' height
LABEL = 9  # points, of labels beside curves


def part(drawn: Any, label: str, points: str = "") -> None:
    """Say whose an artist, or every artist of a container, is.

    Args:
      drawn: an artist, a container, or several of them.
      label: of the runs.
      points: the key of what its markers show, for `inline`; empty if they show nothing alone.
    """
    if isinstance(drawn, Artist):
        drawn.set_label(f"{PART}{label}{SEPARATOR}{points}")
    elif isinstance(drawn, Container):
        line, *others = drawn  # of error bars: the markers, then caps and bars
        part(line, label, points)
        part(others, label)
    elif isinstance(drawn, Iterable):
        for each in drawn:
            part(each, label, points)


def budget_axis(axes: Axes, budgets: tuple[float, ...], beyond: float = 1.35) -> None:
    """A logarithmic axis of training FLOPs that names the budgets; every other one where they lie close."""
    axes.set_xscale("log")
    axes.set_xlim(budgets[0] / 1.35, budgets[-1] * beyond)
    axes.xaxis.set_major_locator(FixedLocator(budgets if len(budgets) <= 4 else budgets[::-1][::2]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: flops(value)))
    axes.set_xlabel("training FLOPs")


def size_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of parameters with ticks at round numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(round_steps(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
    axes.set_xlabel("parameters")


def errors(found: list[Interval]) -> np.ndarray:
    """Lengths of error bars, [2, points]; 0 where there is no interval. A percentile interval may miss its estimate."""
    bars = [(max(0.0, i.value - i.low), max(0.0, i.high - i.value)) if i.known else (0.0, 0.0) for i in found]
    return np.array(bars).T


def label_right(axes: Axes, labels: list[tuple[float, str, str, Look]]) -> None:
    """Write labels beside the axes in the order of their heights, moved apart where they would overlap.

    Args:
      axes: to write beside.
      labels: height (in y), text (its first line alone where they are many), label, and how that looks.
    """
    to_share = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    ordered = sorted(labels, key=lambda label: label[:3])
    places = [float(to_share.transform((x, y))[1]) for y, *_ in ordered]
    texts = [f"{look.glyph} {text}" for _, text, _, look in ordered]
    heights = [_LINE * (text.count("\n") + 1.4) for text in texts]
    if sum(heights) > 1:
        texts = [text.partition("\n")[0] for text in texts]
        heights = [1.4 * _LINE * min(1, 1 / (1.4 * _LINE * len(texts)))] * len(texts)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + (heights[i - 1] + heights[i]) / 2)
    top = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top - heights[i] / 2)
        top = places[i] - heights[i] / 2
    size = LABEL * min(1.0, min(heights, default=1.0) / (1.4 * _LINE))
    for (_, _, label, look), text, place in zip(ordered, texts, places, strict=True):
        written = axes.text(1.015, place, text, transform=axes.transAxes, color=look.ink, va="center", fontsize=size)
        part(written, label)


def round_steps(low: float, high: float) -> list[float]:
    """Round numbers between two: 1 and 3 times powers of ten, or also 2 and 5 times where those are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        found = [d * 10.0**p for p in powers for d in digits if low / 1.1 <= d * 10.0**p <= high * 1.1]
        if len(found) >= 2:
            return found
    return [low]


_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _LINK)
Tips = Mapping[str, Sequence[str]]  # by the key that `part` was given: a text for each of its markers


def inline(title: str, size: tuple[float, float], draw: Callable[[Figure], None], tips: Tips) -> str:
    """Draw a figure and give it as SVG: no prologue, no namespaces, no fixed size, no ids that two pictures share.

    Args:
      title: what the picture shows; also makes its ids its own.
      size: of the figure, inches.
      draw: draws it.
      tips: what to say of markers; those of keys that are not in it stay silent.
    """
    # Text stays text: to be read out, searched for and copied. The page names fonts as wide as the one laid out with.
    with rc_context({**RC, "svg.hashsalt": title, "svg.fonttype": "none"}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        parts = {}
        for place, artist in enumerate(figure.findobj(lambda a: str(a.get_label()).startswith(PART))):
            _, label, points = str(artist.get_label()).split(SEPARATOR, 2)
            artist.set_gid(f"part{place}")
            parts[f"part{place}"] = (label, tips.get(points, ()))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    source = buffer.getvalue()
    root = ElementTree.fromstring(source[source.index("<svg") :])
    _annotate(root, parts)
    width, height = (round(72 * inches) for inches in size)
    root.attrib = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": title}
    return _element(root)


def _annotate(root: ElementTree.Element, parts: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Give parts their labels and markers their texts, and keep no id but those that the picture refers to."""
    said = [value for node in root.iter() for value in node.attrib.values()]
    wanted = {name for value in said for name in re.findall(r"#([\w.-]+)", value)}
    for node in root.iter():
        name = node.attrib.get("id", "")
        if name and name not in wanted:
            del node.attrib["id"]
        if name in parts:
            label, tips = parts[name]
            node.attrib["data-label"] = label
            markers = list(node.iter(f"{{{_SVG}}}use")) if tips else []
            for use, tip in zip(markers, tips, strict=bool(tips)):
                use.attrib["class"] = "point"
                ElementTree.SubElement(use, f"{{{_SVG}}}title").text = tip


def _element(root: ElementTree.Element) -> str:
    """The tree without declarations of namespaces: a parser of HTML knows these two."""
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", ElementTree.tostring(root, encoding="unicode"))
