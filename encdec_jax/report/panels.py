"""The three pictures of the answer, each drawn into axes that it is given: IsoFLOP curves, frontier, gaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from encdec_jax.report.axes import LABEL, budget_axis, errors, label_right, part, size_axis
from encdec_jax.report.style import Look, looks
from encdec_jax.report.words import flops, interval, multiplier
from encdec_jax.study.findings import Findings, Optimum

_DODGE = 0.35  # that architectures side by side take up, as a share of the distance of two budgets


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


def share_losses(axes: Axes, findings: Findings) -> None:
    """Give the axes of an IsoFLOP panel the range of all architectures' losses."""
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
    """How much each architecture's best loss lies above the baseline's, a point a budget.

    Labels say the compute needed for the baseline's loss at the architecture's largest budget.
    """
    others = [label for label in findings.labels if any(c.label == label for c in findings.comparisons)]
    if not others:
        axes.set_axis_off()
        return
    span = float(np.diff(np.log(findings.budgets)).min(initial=1.0)) * _DODGE / len(others)
    base, look = findings.baseline, looks(findings.every)
    labels = [(0.0, base, base, look[base])]
    part(axes.axhline(0, color=look[base].colour, lw=2), base)
    for place, label in enumerate(others):
        found = [c for c in findings.comparisons if c.label == label]
        shift = math.exp((place - (len(others) - 1) / 2) * span)
        x, y = [c.budget * shift for c in found], [c.gap.value for c in found]
        part(axes.plot(x, y, color=look[label].colour, lw=0.8, ls=":"), label)
        style: Any = {"fmt": look[label].marker, "ms": 6, "capsize": 4, "color": look[label].colour}
        part(axes.errorbar(x, y, yerr=errors([c.gap for c in found]), **style), label, f"gaps {label}")
        needs = "" if found[-1].multiplier is None else f"\ncompute needed\n{multiplier(found[-1])}"
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
    n, loss = optimum.n, optimum.loss
    bars: Any = {"xerr": errors([n]), "yerr": errors([loss])}
    part(axes.errorbar([n.value], [loss.value], color=shade, capsize=2, elinewidth=1.2, **bars), label)
    fill, edge = (shade, "white") if optimum.isoflop.converged else ("white", shade)
    star = axes.plot([n.value], [loss.value], "*", ms=13, mew=0.9, zorder=5, mfc=fill, mec=edge)
    part(star, label, f"optimum {label} {optimum.budget}")
