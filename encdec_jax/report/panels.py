"""The three pictures, each drawn into axes that it is given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from encdec_jax.report.style import colour
from encdec_jax.report.words import flops, interval, multiplier
from encdec_jax.scaling.findings import Findings, Optimum
from encdec_jax.scaling.interval import Interval
from encdec_jax.sweep.text import amount

_LINE = 0.05  # of a label's text, as a share of the axes' height
_DODGE = 0.35  # that architectures side by side take up, as a share of the distance of two budgets


def isoflop(axes: Axes, findings: Findings, arch: str) -> None:
    """Loss against parameters, a curve a budget, each optimum starred with its intervals."""
    optima = [optimum for optimum in findings.optima if optimum.arch == arch]
    axes.set_xscale("log")
    for optimum in optima:
        _curve(axes, optimum)
        end = (float(optimum.isoflop.curve.n[-1]), float(optimum.isoflop.curve.loss[-1]))
        text = flops(optimum.budget)
        axes.annotate(text, end, (8, 0), textcoords="offset points", va="center", color=colour(arch), fontsize=9)
    sizes = np.concatenate([optimum.isoflop.curve.n for optimum in optima])
    axes.set_xlim(sizes.min() / 1.25, sizes.max() * (sizes.max() / sizes.min()) ** 0.25)  # room for the last label
    axes.xaxis.set_major_locator(FixedLocator(_steps(sizes.min(), sizes.max())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
    axes.set_title(arch, color=colour(arch))
    axes.set_xlabel("parameters")


def frontier(axes: Axes, findings: Findings) -> None:
    """Loss of the best size against training FLOPs, with fitted laws and the bands of their resamples."""
    labels = []
    for arch in findings.archs:
        optima = [optimum for optimum in findings.optima if optimum.arch == arch]
        x, y = [o.budget for o in optima], [o.loss.value for o in optima]
        axes.errorbar(x, y, yerr=_errors([o.loss for o in optima]), fmt="o", ms=5, capsize=3, color=colour(arch))
        text = arch
        for law in findings.laws:
            if law.arch == arch and law.quantity == "loss":
                compute = np.geomspace(min(x), max(x), 60)
                low, high = np.quantile(law.draws.at(compute), [0.025, 0.975], axis=0)
                axes.plot(compute, law.fit.law.at(compute), color=colour(arch))
                axes.fill_between(compute, low, high, color=colour(arch), alpha=0.18, linewidth=0)
                text += f"\nexponent {interval(law.slope)}"
        labels.append((y[-1], text, colour(arch)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(MaxNLocator(7).tick_values(*axes.get_ylim())))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    _budget_axis(axes, findings.budgets)
    axes.set_ylabel("bits per byte at the best size (log)")
    axes.set_title("Best loss for the compute")
    _label_right(axes, labels)


def gaps(axes: Axes, findings: Findings) -> None:
    """How much each architecture's best loss lies above the baseline's, a point a budget.

    Labels say the compute needed for the baseline's loss at the architecture's largest budget.
    """
    others = [arch for arch in findings.archs if any(c.arch == arch for c in findings.comparisons)]
    if not others:
        axes.set_axis_off()
        return
    span = float(np.diff(np.log(findings.budgets)).min(initial=1.0)) * _DODGE / len(others)
    labels = []
    axes.axhline(0, color=colour(findings.baseline), lw=2)
    for place, arch in enumerate(others):
        found = [c for c in findings.comparisons if c.arch == arch]
        shift = math.exp((place - (len(others) - 1) / 2) * span)
        x, y = [c.budget * shift for c in found], [c.gap.value for c in found]
        axes.plot(x, y, color=colour(arch), lw=0.8, ls=":")
        axes.errorbar(x, y, yerr=_errors([c.gap for c in found]), fmt="o", ms=6, capsize=4, color=colour(arch))
        needs = (
            ""
            if found[-1].multiplier is None
            else f"\nneeds {multiplier(found[-1])}\nthe compute at {flops(found[-1].budget)}"
        )
        labels.append((y[-1], arch + needs, colour(arch)))
    axes.set_xscale("log")
    _budget_axis(axes, findings.budgets)
    axes.set_ylabel(f"bits per byte above {findings.baseline}")
    axes.set_title(f"Gap to {findings.baseline}: above 0 is worse")
    _label_right(axes, [*labels, (0.0, findings.baseline, colour(findings.baseline))])


def _curve(axes: Axes, optimum: Optimum) -> None:
    curve, shade = optimum.isoflop.curve, colour(optimum.arch)
    axes.plot(curve.n, curve.loss, "o", ms=4.5, color=shade, mfc="white")
    if optimum.isoflop.coefficients is not None:
        sizes = np.geomspace(curve.n[0], curve.n[-1], 60)
        style = "-" if optimum.isoflop.converged else "--"
        axes.plot(sizes, optimum.isoflop.fitted(sizes), color=shade, ls=style, lw=1.4)
    n, loss = optimum.n, optimum.loss
    bars: Any = {"xerr": _errors([n]), "yerr": _errors([loss])}
    axes.errorbar([n.value], [loss.value], color=shade, capsize=2, elinewidth=1.2, **bars)
    fill, edge = (shade, "white") if optimum.isoflop.converged else ("white", shade)
    axes.plot([n.value], [loss.value], "*", ms=13, mew=0.9, zorder=5, mfc=fill, mec=edge)


def _budget_axis(axes: Axes, budgets: tuple[float, ...]) -> None:
    # Between budgets that lie close, every other one is named.
    axes.set_xlim(budgets[0] / 1.35, budgets[-1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(budgets if len(budgets) <= 6 else budgets[::-1][::2]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: flops(value)))
    axes.set_xlabel("training FLOPs")


def _steps(low: float, high: float) -> list[float]:
    """Round numbers between two sizes: 1 and 3 times powers of ten, or also 2 and 5 times where those are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        found = [d * 10.0**p for p in powers for d in digits if low / 1.1 <= d * 10.0**p <= high * 1.1]
        if len(found) >= 2:
            return found
    return [low]


def _errors(found: list[Interval]) -> np.ndarray:
    """Lengths of error bars, [2, points]; 0 where there is no interval. A percentile interval may miss its estimate."""
    bars = [(max(0.0, i.value - i.low), max(0.0, i.high - i.value)) if i.known else (0.0, 0.0) for i in found]
    return np.array(bars).T


def _label_right(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Write labels beside the axes, at heights (in y) that are moved apart where they would overlap."""
    to_share = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    ordered = sorted(labels, key=lambda label: label[0])
    places = [float(to_share.transform((x, y))[1]) for y, _, _ in ordered]
    heights = [_LINE * (text.count("\n") + 1.4) for _, text, _ in ordered]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + (heights[i - 1] + heights[i]) / 2)
    top = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top - heights[i] / 2)
        top = places[i] - heights[i] / 2
    for (_, text, shade), place in zip(ordered, places, strict=True):
        axes.text(1.015, place, text, transform=axes.transAxes, color=shade, va="center", fontsize=9)
