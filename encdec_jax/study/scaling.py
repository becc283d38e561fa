"""Laws of what a table shows of single budgets, and labels beside the baseline along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encdec_jax.laws.ahead import REACH
from encdec_jax.laws.frontier import Fit, Law, assess, fit_loss, fit_power
from encdec_jax.laws.interval import LEVEL, Interval
from encdec_jax.study.comparison import Comparison, Crossover, compare, crossover, parameter_ratio
from encdec_jax.study.isoflop import IsoFlop, tokens_at
from encdec_jax.study.noise import Draws
from encdec_jax.study.simultaneous import EXACT

Pairs = list[tuple[IsoFlop, Draws]]
_WIDER, _PLAIN = 0.05, 0.01  # chance of residuals as large, below which a law's draws are widened; and said not to fit
_RULED_OUT = (1 - LEVEL) / 2  # share of resampled studies without a floor, below which there is one
_MOST, _FURTHEST = 20.0, 20.0  # times the factor, and in ln(y), that optima are moved at most: numbers stay finite
_SEED = 20_220_329


@dataclass(frozen=True, eq=False)
class Scaling:
    """A law of one label's optima.

    Attributes:
      label: of the runs.
      quantity: what the law gives: 'loss' (bits per byte), 'n' (parameters) or 'd' (tokens).
      fit: the law, and how well it fits.
      floor, scale, slope: its parameters with their intervals; `scale` at `fit.law.reference` FLOPs. Where a floor of 0
        is not ruled out, the last two hold the intervals of a power law too.
      draws: the laws of the resampled studies, [resamples].
      misfit: times as far as the noise of the optima explains that they lie off the law, where it plainly doesn't fit;
        the resampled optima differ by as much more. Else 1.
    """

    label: str
    quantity: str
    fit: Fit
    floor: Interval
    scale: Interval
    slope: Interval
    draws: Law
    misfit: float = 1.0

    def __repr__(self) -> str:
        laws = f"floor {self.floor}, scale {self.scale} at {self.fit.law.reference:.3g} FLOPs, slope {self.slope}"
        return f"Scaling({self.quantity} of {self.label}: {laws})"


def fit_laws(pairs: Pairs, labels: Sequence[str], reference: float) -> tuple[Scaling, ...]:
    """The laws of losses and best sizes, parameters and tokens, that optima allow, by label."""
    found = (
        fit_law(label, quantity, [pair for pair in pairs if pair[0].curve.label == label], reference)
        for label in labels
        for quantity in ("loss", "n", "d")
    )
    return tuple(law for law in found if law is not None)


def fit_law(label: str, quantity: str, pairs: Pairs, reference: float) -> Scaling | None:
    """A law of one label; None with fewer than two budgets.

    An optimum that is not the parabola's own still bounds the loss, but says nothing of the best size.
    """
    if quantity != "loss":
        pairs = [pair for pair in pairs if pair[0].converged]
    if len(pairs) < 2:
        return None
    compute = np.array([isoflop.curve.budget for isoflop, _ in pairs])
    y = np.array([getattr(isoflop, quantity) for isoflop, _ in pairs])
    drawn = np.stack([_values(quantity, *pair) for pair in pairs], axis=-1)
    fitter = fit_loss if quantity == "loss" else fit_power
    law = fitter(compute, y, reference)
    drawn, misfit = _widened(law, compute, y, drawn)
    draws = fitter(compute, drawn, reference)
    scale, slope = (Interval.of(float(getattr(law, name)), getattr(draws, name)) for name in ("scale", "slope"))
    if law.kind == "saturating" and (draws.floor == 0).mean() >= _RULED_OUT:
        # At the end of what a floor may be, a fit is off to one side alone: steep where noise gave it a floor, right
        # where it has none. Of a truth without one, quantiles of such draws hold the exponent in 84 % of studies.
        power = fit_power(compute, drawn, reference)
        scale, slope = (
            scale.joined(Interval.of(scale.value, power.scale)),
            slope.joined(Interval.of(slope.value, power.slope)),
        )
    floor = Interval.of(float(law.floor), draws.floor)
    return Scaling(label, quantity, assess(law, compute, y), floor, scale, slope, draws, misfit)


def _widened(law: Law, compute: np.ndarray, y: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, float]:
    """Resampled optima [resamples, budgets], further apart where the law leaves more than their noise; and how much.

    What the law's tangent at the fit leaves of resampled noise says how large a residual chance explains. The factor
    is as unsure as its few degrees of freedom: Student's t takes the place of the normal distribution.
    """
    tangent = law.tangent(compute)
    freedom = len(compute) - tangent.shape[1]
    if freedom < 1:
        return drawn, 1.0
    basis, _ = np.linalg.qr(tangent)
    left = np.eye(len(compute)) - basis @ basis.T
    off = np.log(drawn) - np.log(y)
    squares = np.square((off - off.mean(0)) @ left).sum(1)
    seen = float(np.square(left @ np.log(y / law.at(compute))).sum())
    chance = float((squares >= seen).mean())
    if not squares.mean() > EXACT**2 or chance >= _WIDER:
        return drawn, 1.0
    misfit = float(np.sqrt(seen / squares.mean()))
    chi = np.random.default_rng(_SEED).chisquare(freedom, len(drawn)) / freedom
    times = misfit * np.minimum(1 / np.sqrt(chi), _MOST)
    wider = y * np.exp(np.clip(times[:, None] * off, -_FURTHEST, _FURTHEST))
    return wider, misfit if chance < _PLAIN else 1.0


def _values(quantity: str, isoflop: IsoFlop, drawn: Draws) -> np.ndarray:
    if quantity == "loss":
        return drawn.loss
    return np.exp(drawn.ln_n) if quantity == "n" else tokens_at(isoflop.curve, drawn.ln_n)


def comparisons(pairs: Pairs, baseline: str, laws: tuple[Scaling, ...]) -> tuple[Comparison, ...]:
    """Every label beside the baseline, at each budget that both were measured at."""
    base = {isoflop.curve.budget: (isoflop, drawn) for isoflop, drawn in pairs if isoflop.curve.label == baseline}
    losses, sizes = ({law.label: law for law in laws if law.quantity == quantity} for quantity in ("loss", "n"))
    return tuple(
        beside(
            isoflop.curve.label,
            isoflop.curve.budget,
            (isoflop.loss, base[isoflop.curve.budget][0].loss),
            (drawn.loss, base[isoflop.curve.budget][1].loss),
            (losses.get(isoflop.curve.label), losses.get(baseline)),
            sizes,
            (min(base), max(base)),
            drawn.optimism - base[isoflop.curve.budget][1].optimism,
        )
        for isoflop, drawn in pairs
        if isoflop.curve.label != baseline and isoflop.curve.budget in base
    )


def beside(
    label: str,
    budget: float,
    losses: tuple[float, float],
    draws: tuple[np.ndarray, np.ndarray],
    laws: tuple[Scaling | None, Scaling | None],
    sizes: dict[str, Scaling],
    measured: tuple[float, float],
    luck: float = 0.0,
) -> Comparison:
    """By the laws of the label and of the baseline that there are: of losses, and of best `sizes`."""
    own, base = (law if law is not None and law.fit.converged else None for law in laws)
    parameters = None
    if own is not None and base is not None and label in sizes and base.label in sizes:
        mine, theirs = sizes[label], sizes[base.label]
        trusted = (measured[0] / REACH, max(measured[1], budget) * REACH)
        point, drawn = (
            parameter_ratio(budget, values, (loss, n), n_base, trusted)
            for values, loss, n, n_base in (
                (losses, own.fit.law, mine.fit.law, theirs.fit.law),
                (draws, own.draws, mine.draws, theirs.draws),
            )
        )
        parameters = Interval.of(float(point), drawn) if 0 < point < np.inf else None
    multiplies = None if base is None else (base.fit.law, base.draws)
    return compare(label, budget, losses, draws, multiplies, measured, parameters, luck)


def crossovers(pairs: Pairs, baseline: str, laws: tuple[Scaling, ...]) -> tuple[Crossover, ...]:
    """Where each label's law crosses the baseline's, of those that share two budgets with it."""
    losses = {law.label: law for law in laws if law.quantity == "loss"}
    budgets = {
        label: {isoflop.curve.budget for isoflop, _ in pairs if isoflop.curve.label == label} for label in losses
    }
    found = []
    for label, law in losses.items():
        shared = budgets[label] & budgets.get(baseline, set())
        if label != baseline and len(shared) >= 2:
            base = losses[baseline]
            measured = (min(shared), max(shared))
            found.append(crossover(label, (law.fit.law, base.fit.law), (law.draws, base.draws), measured))
    return tuple(found)
