"""How every picture looks: one colour an architecture, wherever it appears."""

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
_OTHER = "#666666"

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


def colour(arch: str) -> str:
    """The colour of an architecture."""
    return _COLOURS.get(arch, _OTHER)
