"""How sure a study's optima are: the study made again many times, its losses drawn around the fitted curves.

IsoFLOP studies have 3 to 10 sizes a budget and one to a few seeds. Runs left out of so few would leave no parabola;
instead losses are drawn around the curves, with noise as large as the one seen. `encdec_jax.study.findings` uses it.

What the intervals cover:
- Noise of a run (initialisation, data order) and lack of fit of the parabola, together: estimated from the residuals
  of the parabolas and from the spread of seeds where there are several. A label's own noise is used, for
  labels differ in noise; only where it has fewer than `ENOUGH` degrees of freedom, the others' fill it up to
  that. Each resample draws the noise's size too, from the uncertainty that few residuals leave (scaled inverse
  chi-square). Where sizes lie further off their curves than their seeds explain, the curves don't fit, and more seeds
  would bring them no closer: the residuals alone are then the noise. Runs of one trunk (`encdec_jax.sweep.branch`)
  count as one: their noise is drawn once, and their residuals give one run's degrees of freedom. Other runs are taken
  as independent: where runs of one seed share luck across labels, intervals of gaps are wider than need be.
- The choice of held-out windows: one shift for all runs of a resample, since all are scored on the same windows. It
  widens levels of loss and cancels in gaps; by how much windows favour one label, `encdec_jax.study.paired`
  measures.

- The choice of the best of several settings of a size: the least of several noisy losses is too low, and varies less
  than one loss. Settings that noise can't tell from the best count: residuals are taken for the smaller variance of
  the least of so many, and `optimism` says how much too low the optimum may be; comparisons of unequal effort use it.
- The tilt of a label's curves, where it is sought (`encdec_jax.study.tilt`).

What they don't cover: other corpora, learning rates and shapes than those tried, and wrong forms of the laws.
Where neither residuals nor seeds are left over, the windows' standard error stands for a run's noise, and
`Noise.source` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import fdtrc, ndtr

from encdec_jax.study.curves import Curve
from encdec_jax.study.isoflop import IsoFlop, design, minimum, solver
from encdec_jax.study.simultaneous import EXACT
from encdec_jax.study.tilt import solvers, tilts

RESAMPLES = 4000
ENOUGH = 4.0
_LEAST = 1e-3  # bits per byte: noise takes no resampled loss below, as laws need losses above 0
_SEED = 20_220_329
_POOLED = 0.25  # chance of residuals as large as those of curves, from where on seeds are pooled with them
_PLAIN = 0.01  # below which the curves are said not to fit
_TIES = 4.0  # standard errors above the best setting's loss up to which a setting can't be told from it
BEYOND = 3.0  # times beyond the sizes trained that an optimum in doubt is looked for


@dataclass(frozen=True)
class Noise:
    """Of one run of a label, bits per byte.

    Attributes:
      sd: standard deviation.
      dof: degrees of freedom it was estimated from; infinite where it was not estimated.
      source: what it was estimated from, in words.
      misfit: times as far as seeds explain that sizes lie off the label's curves, where these plainly don't fit; `sd`
        then is as large. Else 1.
    """

    sd: float
    dof: float
    source: str
    misfit: float = 1.0

    @property
    def estimated(self) -> bool:
        """Whether residuals or seeds tell it: if not, the windows' standard error stands for it."""
        return bool(np.isfinite(self.dof))

    @property
    def known(self) -> bool:
        """Whether it was estimated, and is more than rounding."""
        return self.estimated and self.sd > EXACT

    @property
    def name(self) -> str:
        """What stands for the noise, in a few words."""
        return "noise" if self.estimated else "the windows' standard error"


@dataclass(frozen=True, eq=False)
class Draws:
    """Resampled optima of one curve, each [resamples]. `ln_n` is NaN where the optimum is not the parabola's own.

    Attributes:
      ln_n: ln of the best parameter count, kept within the sizes trained.
      loss: bits per byte at the optimum.
      edge_share: of resamples whose optimum is at the edge of the sizes trained.
      beyond: the loss where the optimum may lie up to `BEYOND` times outside the sizes trained, and
      ln_n_beyond: where it then lies.
      optimism: bits per byte that the loss may be too low by, as the best of several settings was taken.
    """

    ln_n: np.ndarray
    loss: np.ndarray
    edge_share: float
    beyond: np.ndarray
    ln_n_beyond: np.ndarray
    optimism: float

    @property
    def allowing_outside(self) -> Draws:
        """The same, with optima that may lie outside the sizes."""
        return replace(self, ln_n=self.ln_n_beyond, loss=self.beyond)


def noises(optima: list[IsoFlop]) -> dict[str, Noise]:
    """The noise of each label's runs."""
    labels = sorted({optimum.curve.label for optimum in optima})
    sums = {label: _sums([o for o in optima if o.curve.label == label]) for label in labels}
    return {label: _noise(label, sums, optima) for label in labels}


def optimism(optimum: IsoFlop, noise: Noise) -> float:
    """Bits per byte by which the loss at an optimum may be too low, as the best of several settings was taken."""
    curve = optimum.curve
    too_low = np.array([extreme(k)[0] for k in _ties(curve, noise.sd)]) * noise.sd / np.sqrt(curve.seeds)
    if not optimum.converged:
        return float(too_low[curve.loss.argmin()])
    tilt = optimum.tilt or 0.0
    return float((design(curve, np.array([optimum.n]), tilt) @ solver(curve, tilt) @ too_low)[0])


@cache
def extreme(k: int) -> tuple[float, float]:
    """How far the least of `k` standard normal numbers lies below 0 on average, and its variance."""
    x = np.linspace(-10, 10, 4001)
    density = np.diff(-(ndtr(-x) ** k))
    middle = (x[1:] + x[:-1]) / 2
    mean = float(middle @ density)
    return -mean, float(np.square(middle - mean) @ density)


def resample(optima: list[IsoFlop], noise: dict[str, Noise]) -> list[Draws]:
    """Resampled optima of all curves of a study, jointly: draw i of every curve belongs to the same resampled study."""
    random = np.random.default_rng(_SEED)
    shift = random.standard_normal(RESAMPLES) * np.mean([o.curve.window_se for o in optima] or [0.0])
    sizes = {label: _sizes(random, noise[label], RESAMPLES) for label in sorted(noise)}
    shared: dict[tuple[str, ...], np.ndarray] = {}  # units -> their draws
    losses = [_losses(random, optimum, sizes[optimum.curve.label], shared) for optimum in optima]
    found = {}
    for label in sizes:
        own = [(o, y) for o, y in zip(optima, losses, strict=True) if o.curve.label == label]
        free = any(o.tilt is not None for o, _ in own)
        found[label] = tilts([o.curve for o, _ in own], [y for _, y in own]) if free else np.zeros(RESAMPLES)
    lucks = [optimism(o, noise[o.curve.label]) for o in optima]
    return [_draw(o, y, found[o.curve.label], shift, luck) for o, y, luck in zip(optima, losses, lucks, strict=True)]


@dataclass(frozen=True)
class _Sums:
    """Sums of squares of one label's runs, and degrees of freedom: within seeds, and of sizes about their curves."""

    within: float
    free: float
    about: float
    left: float

    @property
    def misfit(self) -> float:
        """Root of the mean square about the curves over that within seeds; 1 where one of them is not known."""
        known = min(self.left, self.free, self.within) > 0
        return float(np.sqrt(self.about / self.left / (self.within / self.free))) if known else 1.0

    @property
    def chance(self) -> float:
        """Of residuals as large, if the curves fit (F)."""
        return float(fdtrc(self.left, self.free, self.misfit**2)) if self.misfit != 1.0 else 1.0


def _sums(optima: list[IsoFlop]) -> _Sums:
    curves = [optimum.curve for optimum in optima]
    within = float(sum(curve.seed_squares for curve in curves))
    free = sum(float(curve.seeds.sum()) - len(curve.seeds) for curve in curves)
    about = [(o, float(o.curve.seeds @ (o.curve.loss - o.fitted(o.curve.n)) ** 2)) for o in optima if o.checked]
    left = sum(len(o.curve.n) - 3.0 for o, _ in about) - any(o.tilt is not None for o in optima)
    sd = float(np.sqrt((within + sum(s for _, s in about)) / max(1.0, free + left)))
    for _ in range(2):  # which settings tie depends on the noise, and the noise on how many tie
        shrunk = [s / float(np.mean([extreme(k)[1] for k in _ties(o.curve, sd)])) for o, s in about]
        sd = float(np.sqrt((within + sum(shrunk)) / max(1.0, free + left)))
    units = [unit for curve in curves for unit in curve.units]
    once = len(set(units)) / len(units) if units else 1.0  # what is told twice is known once
    return _Sums(once * within, once * free, once * float(sum(shrunk)), once * left)


def _ties(curve: Curve, sd: float) -> list[int]:
    """At each size the settings that can't be told from the best, it included."""
    if not curve.settings:
        return [1] * len(curve.n)
    errors = sd / np.sqrt(curve.seeds)
    return [int((tried <= tried[0] + _TIES * error).sum()) for tried, error in zip(curve.settings, errors, strict=True)]


def _noise(label: str, sums: dict[str, _Sums], optima: list[IsoFlop]) -> Noise:
    mine, rest = sums[label], [found for name, found in sums.items() if name != label]
    own, free = mine.about, mine.left
    others, others_free = sum(one.about for one in rest), sum(one.left for one in rest)
    fits = mine.chance >= _POOLED
    if fits:
        own, free = own + mine.within, free + mine.free
        others, others_free = others + sum(one.within for one in rest), others_free + sum(one.free for one in rest)
    borrowed = min(max(0.0, ENOUGH - free), others_free)
    if free + borrowed == 0:
        error = float(np.mean([o.curve.window_se for o in optima]))
        return Noise(error, np.inf, "not estimated, for want of seeds or a fourth size: the windows' standard error")
    prior = others / others_free if borrowed else 0.0
    weight = free + borrowed
    sd = float(np.sqrt((own + borrowed * prior) / weight))
    # Satterthwaite's: what is borrowed is a mean over all of the others' residuals, surer than so many of its own.
    dof = weight**2 / (free + borrowed**2 / others_free) if borrowed else free
    text = f"{free:.0f} residuals of its own" if fits else f"{free:.0f} residuals of its curves, larger than its seeds'"
    text += f", {borrowed:.0f} borrowed from the others" if borrowed else ""
    return Noise(sd, dof, text, mine.misfit if mine.chance < _PLAIN else 1.0)


def _sizes(random: np.random.Generator, noise: Noise, resamples: int) -> np.ndarray:
    if not np.isfinite(noise.dof):
        return np.full(resamples, noise.sd)
    return noise.sd * np.sqrt(noise.dof / random.chisquare(noise.dof, resamples))


def _losses(
    random: np.random.Generator, optimum: IsoFlop, sd: np.ndarray, shared: dict[tuple[str, ...], np.ndarray]
) -> np.ndarray:
    """Losses of a curve's sizes in resampled studies, without the windows' shift, [resamples, sizes]."""
    curve = optimum.curve
    drawn = random.standard_normal((len(sd), len(curve.n)))
    for place, units in enumerate(curve.units):
        drawn[:, place] = shared.setdefault(units, drawn[:, place].copy())
    errors = drawn * sd[:, None] / np.sqrt(curve.seeds)
    # Where a size stands for the optimum its own loss is the middle, not the curve's.
    return (optimum.fitted(curve.n) if optimum.converged else curve.loss) + errors


def _draw(optimum: IsoFlop, losses: np.ndarray, tilt: np.ndarray, shift: np.ndarray, luck: float) -> Draws:
    curve = optimum.curve
    if not optimum.converged:
        # The size that stands for the optimum stays: the least of several noisy losses would be biased.
        loss = np.maximum(losses[:, curve.loss.argmin()] + shift, _LEAST)
        none = np.full(len(losses), np.nan)
        return Draws(none, loss, 1.0, loss, none, luck)
    coefficients = np.einsum("rps,rs->rp", solvers(curve, tilt), losses)
    ln_n, loss, inside = minimum(curve, coefficients, tilt)
    further, beyond, _ = minimum(curve, coefficients, tilt, BEYOND)
    loss, beyond = (np.maximum(values + shift, _LEAST) for values in (loss, beyond))
    return Draws(ln_n, loss, float(1 - inside.mean()), beyond, further, luck)
