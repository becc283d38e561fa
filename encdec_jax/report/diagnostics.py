"""How well the fits hold, each drawn into axes that it is given: residuals, parameter intervals, fitted frontiers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from encdec_jax.report.axes import LABEL, budget_axis, errors, label_right, part, size_axis
from encdec_jax.report.style import looks
from encdec_jax.report.words import interval
from encdec_jax.study.comparison import REACH, Crossover
from encdec_jax.study.findings import Findings, Optimum

Quantity = Literal["loss", "n", "d"]
QUANTITIES: dict[str, str] = {"loss": "bits per byte", "n": "best parameters", "d": "best tokens"}


def law_residuals(axes: Axes, findings: Findings) -> None:
    """How far each budget's best loss lies from its architecture's law, in percent."""
    axes.axhline(0, color="#444444", lw=1)
    labels, look = [], looks(findings.every)
    for law in (law for law in findings.laws if law.quantity == "loss"):
        x = [o.budget for o in findings.optima if o.label == law.label]
        y = 100 * np.expm1(law.fit.residuals)
        drawn = axes.plot(x, y, look[law.label].marker, color=look[law.label].colour, ls=":", lw=0.8, ms=6)
        part(drawn, law.label, f"law residuals {law.label}")
        labels.append((float(y[-1]), law.label, law.label, look[law.label]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g} %" if value else "0 %"))
    budget_axis(axes, findings.budgets)
    axes.set_ylabel("best loss / law - 1")
    axes.set_title("Residuals of the laws of loss")
    label_right(axes, labels)


def curve_residuals(axes: Axes, findings: Findings) -> None:
    """How far each size's loss lies from its budget's parabola, in bits per byte."""
    axes.axhline(0, color="#444444", lw=1)
    look = looks(findings.every)
    sizes: list[float] = []
    for optimum in filter(free, findings.optima):
        fit, label = optimum.isoflop, optimum.label
        style: Any = {"color": look[label].colour, "ms": 5, "ls": "", "mfc": "white"}
        drawn = axes.plot(fit.curve.n, fit.curve.loss - fit.fitted(fit.curve.n), look[label].marker, **style)
        part(drawn, label, f"sizes {label} {optimum.budget}")
        sizes.extend(fit.curve.n)
    if sizes:
        size_axis(axes, min(sizes), max(sizes))
    axes.set_ylabel("bits per byte above the parabola")
    axes.set_title("Residuals of the IsoFLOP curves")


def free(optimum: Optimum) -> bool:
    """Whether its parabola leaves residuals: it goes through three sizes exactly."""
    return optimum.isoflop.coefficients is not None and len(optimum.isoflop.curve.n) > 3


def exponents(axes: Axes, findings: Findings, quantity: Quantity) -> None:
    """A forest plot: the exponent of each architecture's law of one quantity, with its interval."""
    look = looks(findings.every)
    laws = [law for law in findings.laws if law.quantity == quantity]
    for row, law in enumerate(laws):
        style: Any = {"fmt": look[law.label].marker, "ms": 7, "capsize": 4, "color": look[law.label].colour}
        part(axes.errorbar([law.slope.value], [row], xerr=errors([law.slope]), **style), law.label)
        text = f"{law.label}  {interval(law.slope)}"
        place: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        note = axes.annotate(text, (0.01, row), (0, 9), color=look[law.label].ink, fontsize=LABEL, va="center", **place)
        part(note, law.label)
    axes.set_ylim(len(laws) - 0.5, -0.8)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("exponent of training FLOPs")
    axes.set_title(f"Exponent of {QUANTITIES[quantity]}")


def frontiers(axes: Axes, findings: Findings) -> None:
    """Each fitted frontier over the baseline's, in percent, with its band; a crossover is marked with its interval.

    Beyond the measured budgets, up to where laws are trusted, dashed.
    """
    base, look = findings.law(findings.baseline), looks(findings.every)
    part(axes.axhline(0, color=look[findings.baseline].colour, lw=2), findings.baseline)
    labels = [(0.0, findings.baseline, findings.baseline, look[findings.baseline])]
    for found in findings.crossovers:
        law = findings.law(found.label)
        shade = look[found.label].colour
        for ends, style in (((found.low, found.high), "-"), ((found.high, found.high * REACH), "--")):
            compute = np.geomspace(*ends, 40)
            ratio = 100 * (law.draws.at(compute) / base.draws.at(compute) - 1)
            low, high = np.quantile(ratio, [0.025, 0.975], axis=0)
            y = 100 * (law.fit.law.at(compute) / base.fit.law.at(compute) - 1)
            part(axes.plot(compute, y, color=shade, ls=style), found.label)
            opacity = 0.18 if style == "-" else 0.07
            part(axes.fill_between(compute, low, high, color=shade, alpha=opacity, linewidth=0), found.label)
        labels.append((float(y[-1]), found.label, found.label, look[found.label]))
        _mark(axes, found, shade)
    budget_axis(axes, findings.budgets, beyond=REACH)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g} %" if value else "0 %"))
    axes.set_ylabel(f"fitted loss above {findings.baseline}'s")
    axes.set_title(f"Fitted frontiers over {findings.baseline}'s")
    label_right(axes, labels)


def _mark(axes: Axes, found: Crossover, shade: str) -> None:
    if found.compute is None:
        return
    low, high = max(found.compute.low, found.low), min(found.compute.high, found.high)
    bars = [[max(0.0, found.compute.value - low)], [max(0.0, high - found.compute.value)]]
    style: Any = {"fmt": "*", "ms": 13, "capsize": 4, "color": shade, "mec": "white", "zorder": 5}
    drawn = axes.errorbar([found.compute.value], [0.0], xerr=bars if found.compute.known else None, **style)
    part(drawn, found.label, f"crossover {found.label}")
