"""A figure as an element of HTML, whose parts say which architecture is theirs and whose points say what they show."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure

from encdec_jax.report.axes import PART, SEPARATOR
from encdec_jax.report.style import RC

_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _LINK)
Tips = Mapping[str, Sequence[str]]  # by the key that `axes.part` was given: a text for each of its markers


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
    """Give parts their architectures and markers their texts, and keep no id but those that the picture refers to."""
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
