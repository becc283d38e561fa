"""Panels of what was found, each drawn into axes that it is given: the answer, and how well the fits hold."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from encdec_jax.laws.ahead import REACH
from encdec_jax.laws.interval import Interval
from encdec_jax.report.canvas import LABEL, budget_axis, errors, label_right, part, size_axis
from encdec_jax.report.style import Look, looks
from encdec_jax.report.words import flops, interval, multiplier
from encdec_jax.study.comparison import Crossover
from encdec_jax.study.findings import Findings
from encdec_jax.study.headline import headline
from encdec_jax.study.optima import Optimum

_DODGE = 0.35  # that labels side by side take up, as a share of the distance of two budgets


def isoflop(axes: Axes, findings: Findings, label: str) -> None:
    """Loss against parameters, a curve a budget, each optimum starred with its intervals."""
    look = looks(findings.every)
    optima = [optimum for optimum in findings.optima if optimum.label == label]
    for optimum in optima:
        _curve(axes, optimum, look[label])
        end = (float(optimum.isoflop.curve.n[-1]), float(optimum.isoflop.curve.loss[-1]))
        text = flops(optimum.budget)
        axes.annotate(text, end, (8, 0), textcoords="offset points", va="center", color=look[label].ink, fontsize=LABEL)
    sizes = np.concatenate([optimum.isoflop.curve.n for optimum in optima])
    size_axis(axes, sizes.min(), sizes.max())
    axes.set_xlim(sizes.min() / 1.25, sizes.max() * (sizes.max() / sizes.min()) ** 0.25)  # room for the last label
    axes.set_ylabel("bits per byte, held-out suffixes")
    axes.set_title(label, color=look[label].ink)


def isoflops(figure: FigureBase, findings: Findings, most: int) -> None:
    """A panel a label, at most so many side by side, all of one height and scale."""
    columns = min(most, len(findings.labels))
    rows = -(-len(findings.labels) // columns)
    grid: Any = figure.subplots(rows, columns, sharey=True, squeeze=False)
    share_losses(grid[0, 0], findings)
    for axes, label in zip(grid.flat, findings.labels, strict=False):
        isoflop(axes, findings, label)
    for axes in grid[:, 1:].flat:
        axes.set_ylabel("")
    for axes in grid.flat[len(findings.labels) :]:
        axes.set_axis_off()


def share_losses(axes: Axes, findings: Findings) -> None:
    """Give the axes of an IsoFLOP panel the range of all labels' losses."""
    losses = np.concatenate([np.append(o.isoflop.curve.loss, [o.loss.low, o.loss.high]) for o in findings.optima])
    losses = losses[np.isfinite(losses)]
    margin = 0.08 * (losses.max() - losses.min() or 1.0)
    axes.set_ylim(losses.min() - margin, losses.max() + margin)


def frontier(axes: Axes, findings: Findings) -> None:
    """Loss of the best size against training FLOPs, with fitted laws and the bands of their resamples."""
    labels = []
    look = looks(findings.every)
    for label in findings.labels:
        optima = [optimum for optimum in findings.optima if optimum.label == label]
        x, y = [o.budget for o in optima], [o.loss.value for o in optima]
        bars = errors([o.loss for o in optima])
        style: Any = {"fmt": look[label].marker, "ms": 5, "capsize": 3, "color": look[label].colour}
        part(axes.errorbar(x, y, yerr=bars, **style), label, f"optima {label}")
        text = label
        for law in findings.laws:
            if law.label == label and law.quantity == "loss":
                compute = np.geomspace(min(x), max(x), 60)
                low, high = np.quantile(law.draws.at(compute), [0.025, 0.975], axis=0)
                part(axes.plot(compute, law.fit.law.at(compute), color=look[label].colour), label)
                part(axes.fill_between(compute, low, high, color=look[label].colour, alpha=0.18, linewidth=0), label)
                text += f"\nexponent\n{interval(law.slope)}"
        labels.append((y[-1], text, label, look[label]))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(MaxNLocator(7).tick_values(*axes.get_ylim())))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    budget_axis(axes, findings.budgets)
    axes.set_ylabel("bits per byte at the best size (log)")
    axes.set_title("Best loss for the compute")
    label_right(axes, labels)


def gaps(axes: Axes, findings: Findings) -> None:
    """How much each label's best loss lies above the baseline's, a point a budget.

    Labels say the compute needed for the baseline's loss at the label's largest budget; where nothing is claimed there
    they say why, and its points are hollow.
    """
    others = [label for label in findings.labels if any(c.label == label for c in findings.comparisons)]
    if not others:
        axes.set_axis_off()
        return
    span = float(np.diff(np.log(findings.budgets)).min(initial=1.0)) * _DODGE / len(others)
    base, look, head = findings.baseline, looks(findings.every), headline(findings)
    labels = [(0.0, base, base, look[base])]
    part(axes.axhline(0, color=look[base].colour, lw=2), base)
    for place, label in enumerate(others):
        found = [c for c in findings.comparisons if c.label == label]
        shift = math.exp((place - (len(others) - 1) / 2) * span)
        x, y = [c.budget * shift for c in found], [c.gap.value for c in found]
        part(axes.plot(x, y, color=look[label].colour, lw=0.8, ls=":"), label)
        style: Any = {"fmt": look[label].marker, "ms": 6, "capsize": 4, "color": look[label].colour}
        part(axes.errorbar(x, y, yerr=errors([c.gap for c in found]), **style), label, f"gaps {label}")
        reasons = [head.forbids(label, c.budget, c.budget) for c in found]
        empty = [place for place, reason in enumerate(reasons) if reason]
        hollow: Any = {"marker": look[label].marker, "ms": 6, "mfc": "white", "mec": look[label].colour, "zorder": 3}
        if empty:
            part(axes.plot(np.take(x, empty), np.take(y, empty), ls="", **hollow), label)
        needs = "" if found[-1].multiplier is None else f"\ncompute needed\n{multiplier(found[-1])}"
        needs = f"\n{reasons[-1]}" if reasons[-1] else needs
        labels.append((y[-1], label + needs, label, look[label]))
    budget_axis(axes, findings.budgets)
    axes.set_ylabel(f"bits per byte above {base}")
    axes.set_title(f"Gap to {base}: above 0 is worse")
    label_right(axes, labels)


def _curve(axes: Axes, optimum: Optimum, look: Look) -> None:
    curve, label = optimum.isoflop.curve, optimum.label
    shade = look.colour
    points = f"sizes {label} {optimum.budget}"
    part(axes.plot(curve.n, curve.loss, look.marker, ms=4.5, color=shade, mfc="white", zorder=4), label, points)
    if optimum.isoflop.coefficients is not None:
        sizes = np.geomspace(curve.n[0], curve.n[-1], 60)
        style = "-" if optimum.isoflop.converged else "--"
        part(axes.plot(sizes, optimum.isoflop.fitted(sizes), color=shade, ls=style, lw=1.4), label)
    loss = optimum.loss
    n = Interval(optimum.n.value, max(optimum.n.low, float(curve.n[0])), min(optimum.n.high, float(curve.n[-1])))
    bars: Any = {"xerr": errors([n]), "yerr": errors([loss])}
    part(axes.errorbar([n.value], [loss.value], color=shade, capsize=2, elinewidth=1.2, **bars), label)
    fill, edge = (shade, "white") if optimum.isoflop.converged else ("white", shade)
    star = axes.plot([n.value], [loss.value], "*", ms=13, mew=0.9, zorder=5, mfc=fill, mec=edge)
    part(star, label, f"optimum {label} {optimum.budget}")


Quantity = Literal["loss", "n", "d"]
QUANTITIES: dict[str, str] = {"loss": "bits per byte", "n": "best parameters", "d": "best tokens"}


def law_residuals(axes: Axes, findings: Findings) -> None:
    """How far each budget's best loss lies from its label's law, in percent."""
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
    """A forest plot: the exponent of each label's law of one quantity, with its interval."""
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
    """Each fitted frontier over the baseline's, in percent, with its band; licensed crossovers are marked.

    Beyond the measured budgets, up to where laws are trusted, dashed.
    """
    base, look, head = findings.law(findings.baseline), looks(findings.every), headline(findings)
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
        if not head.forbids(found.label, found.low, found.high):
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
