"""How every picture looks: one colour and one marker a label, wherever it appears on a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")

# A slot is a colour, a marker and the character that looks like it; the first are the architectures'. Okabe and Ito's
# palette, told apart with every common colour blindness (jfly.uni-koeln.de/color, 2008), then five more colours.
_ARCHS = ("causal_lm", "enc_dec", "prefix_lm", "enc_dec_causal", "enc_dec_shared", "layerwise", "coordinated")
_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#332288", "#C51B7D", "#66A61E", "#8C510A", "#7F7F7F"),
)
_MARKERS = (
    *(("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"), ("X", "✖")),
    *(("<", "◀"), (">", "▶"), ("p", "⬟"), ("d", "♦"), ("h", "⬢")),
)
_READABLE = 4.5  # contrast of small text with its background that WCAG 2.2 (level AA, 1.4.3) asks for

# Parts of one whole: Paul Tol's 'light' scheme (personal.sron.nl/~pault, 2021), which black text can be read on.
PARTS = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33", "#AAAA00", "#DDDDDD")

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "svg.fonttype": "path",
    "text.parse_math": False,  # labels are anybody's words
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Look:
    """What tells a label from the others of its study.

    Attributes:
      colour: of its curves and points.
      marker: of its points.
      glyph: the character that looks like the marker.
    """

    colour: str
    marker: str
    glyph: str

    @property
    def ink(self) -> str:
        """The colour of its name: its own, darkened until it can be read on white."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        while contrast((red, green, blue)) < _READABLE:
            red, green, blue = (int(0.95 * value) for value in (red, green, blue))
        return f"#{red:02X}{green:02X}{blue:02X}"


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each label: of twelve, no two share a colour or a marker; of 144, no two share both.

    An architecture has the same look in every study, by itself or as the first of its splits; '' has that of the first.
    """
    slots: dict[str, int] = {}
    labels = tuple(dict.fromkeys(labels))
    for label in labels:
        arch = label.partition(" ")[0] or _ARCHS[0]
        if arch in _ARCHS and _ARCHS.index(arch) not in slots.values():
            slots[label] = _ARCHS.index(arch)
    n, taken = len(_COLOURS), set(slots.values())
    free = (slot for slot in (*range(len(_ARCHS), n), *range(len(_ARCHS)), *range(n, n * n)) if slot not in taken)
    for label in labels:
        if label not in slots:
            slots[label] = next(free)
    return {
        label: Look(_COLOURS[slots[label] % n], *_MARKERS[(slots[label] + slots[label] // n) % n]) for label in labels
    }


def contrast(rgb: tuple[int, int, int]) -> float:
    """Contrast of a colour (0 to 255) with white, 1 to 21, by WCAG 2.2's definitions."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (value / 255 for value in rgb)]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
