"""How every picture looks: one colour and one marker an architecture, wherever it appears."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")

# Okabe and Ito's palette, told apart with every common colour blindness (jfly.uni-koeln.de/color, 2008).
_COLOURS = {
    "causal_lm": "#0072B2",
    "enc_dec": "#D55E00",
    "prefix_lm": "#009E73",
    "enc_dec_causal": "#CC79A7",
    "enc_dec_shared": "#E69F00",
    "layerwise": "#56B4E9",
    "coordinated": "#000000",
}
_MARKERS = {
    "causal_lm": "o",
    "enc_dec": "s",
    "prefix_lm": "^",
    "enc_dec_causal": "D",
    "enc_dec_shared": "v",
    "layerwise": "P",
    "coordinated": "X",
}
_OTHER, _OTHER_MARKER = "#666666", "o"
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
    "figure.facecolor": "white",
}


def colour(label: str) -> str:
    """The colour of an architecture's curves and points."""
    return _COLOURS.get(label, _OTHER)


def marker(label: str) -> str:
    """The marker of an architecture's points."""
    return _MARKERS.get(label, _OTHER_MARKER)


def ink(label: str) -> str:
    """The colour of an architecture's name: its own, darkened until it can be read on white."""
    red, green, blue = (int(colour(label)[i : i + 2], 16) for i in (1, 3, 5))
    while contrast((red, green, blue)) < _READABLE:
        red, green, blue = (int(0.95 * value) for value in (red, green, blue))
    return f"#{red:02X}{green:02X}{blue:02X}"


def contrast(rgb: tuple[int, int, int]) -> float:
    """Contrast of a colour (0 to 255) with white, 1 to 21, by WCAG 2.2's definitions."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (value / 255 for value in rgb)]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
