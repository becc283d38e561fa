"""The calibration study as one picture."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encdec_jax.report.style import RC

_BAND = (0.92, 0.98)
_SHADES = ("#1b6ca8", "#0b3c5d", "#d1495b", "#edae49", "#7a5195", "#3a7d44")


def draw(coverage: pl.DataFrame, resampling: pl.DataFrame) -> bytes:
    """Coverage of model-based intervals by quantity and study, and of case resampling by units, as PNG."""
    with rc_context(RC):
        figure = Figure(figsize=(12, 5.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _studies(left, coverage)
        _units(right, resampling)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _studies(axes: Axes, table: pl.DataFrame) -> None:
    quantities = table["quantity"].unique(maintain_order=True).to_list()
    studies = table["study"].unique(maintain_order=True).to_list()
    axes.axvspan(*_BAND, color="#e6efe9", zorder=0)
    axes.axvline(0.95, color="#7a8a80", lw=0.8)
    for place, study in enumerate(studies):
        rows = table.filter(pl.col("study") == study)
        heights = [quantities.index(q) + (place - (len(studies) - 1) / 2) * 0.12 for q in rows["quantity"]]
        error = 1.96 * np.sqrt(rows["coverage"] * (1 - rows["coverage"]) / rows["intervals"])
        axes.errorbar(rows["coverage"], heights, xerr=error, fmt="o", ms=4, lw=1, color=_SHADES[place], label=study)
    axes.set_yticks(range(len(quantities)), quantities)
    axes.invert_yaxis()
    axes.set_xlabel("share of 95 % intervals that hold the truth")
    axes.set_title("Simulated IsoFLOP studies, model-based intervals", loc="left")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=3, frameon=False)


def _units(axes: Axes, table: pl.DataFrame) -> None:
    axes.axhspan(*_BAND, color="#e6efe9", zorder=0)
    axes.axhline(0.95, color="#7a8a80", lw=0.8)
    fair = table.filter(~((pl.col("shared_noise") == "budget") & (pl.col("scheme") == "run")))
    for kind, mark, shade in (("percentile", "o", "#d1495b"), ("percentile, widened", "s", "#1b6ca8")):
        rows = fair.filter(pl.col("interval") == kind)
        axes.plot(rows["units"], rows["coverage"], mark, ms=5, color=shade, mfc="none", label=kind)
    wrong = table.join(fair, on=table.columns, how="anti").filter(pl.col("interval") == "percentile, widened")
    axes.plot(wrong["units"], wrong["coverage"], "x", ms=7, color="#333333", label="widened, shared noise ignored")
    axes.set_xscale("log")
    axes.set_xticks([5, 7, 12, 40], ["5", "7", "12", "40"])
    axes.minorticks_off()
    axes.set_xlabel("runs, trunks, seeds or budgets drawn from")
    axes.set_ylabel("share of 95 % intervals that hold the truth")
    axes.set_title("Case resampling, exponent of a power law", loc="left")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.45, -0.12), ncols=3, frameon=False)
