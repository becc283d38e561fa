"""How sure a study's optima are: the study made again many times, its losses drawn around the fitted curves.

IsoFLOP studies have 3 to 10 sizes a budget and one to a few seeds. Runs left out of so few would leave no parabola;
instead losses are drawn around the curves, with noise as large as the one seen. `encdec_jax.study.findings` uses it.

What the intervals cover:
- Noise of a run (initialisation, data order) and lack of fit of the parabola, together: estimated from the residuals
  of the parabolas and from the spread of seeds where there are several. An architecture's own noise is used, for
  architectures differ in noise; only where it has fewer than `ENOUGH` degrees of freedom, the others' fill it up to
  that. Each resample draws the noise's size too, from the uncertainty that few residuals leave (scaled inverse
  chi-square). Runs are taken as independent: where runs of one seed share luck across architectures, intervals of
  gaps are wider than need be.
- The choice of held-out windows: one shift for all runs of a resample, since all are scored on the same windows. It
  widens levels of loss and cancels in gaps; by how much windows favour one architecture, `encdec_jax.study.paired`
  measures.

What they don't cover: other corpora, learning rates and shapes than those tried, and wrong forms of the laws.
Where neither residuals nor seeds are left over, the windows' standard error stands for a run's noise, and
`Noise.source` says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encdec_jax.study.isoflop import IsoFlop, minimum, solver

RESAMPLES = 4000
ENOUGH = 4.0
_LEAST = 1e-3  # bits per byte: noise takes no resampled loss below, as laws need losses above 0
_SEED = 20_220_329


@dataclass(frozen=True)
class Noise:
    """Of one run of an architecture, bits per byte.

    Attributes:
      sd: standard deviation.
      dof: degrees of freedom it was estimated from; infinite where it was not estimated.
      source: what it was estimated from, in words.
    """

    sd: float
    dof: float
    source: str


@dataclass(frozen=True, eq=False)
class Draws:
    """Resampled optima of one curve, each [resamples]. `ln_n` is NaN where the optimum is not the parabola's own.

    Attributes:
      ln_n: ln of the best parameter count, kept within the sizes trained.
      loss: bits per byte at the optimum.
      edge_share: of resamples whose optimum is at the edge of the sizes trained.
    """

    ln_n: np.ndarray
    loss: np.ndarray
    edge_share: float


def noises(optima: list[IsoFlop]) -> dict[str, Noise]:
    """The noise of each architecture's runs."""
    labels = sorted({optimum.curve.label for optimum in optima})
    squares = {label: [_squares(o) for o in optima if o.curve.label == label] for label in labels}
    sums = {label: (sum(s for s, _ in found), sum(dof for _, dof in found)) for label, found in squares.items()}
    return {label: _noise(label, sums, optima) for label in labels}


def resample(optima: list[IsoFlop], noise: dict[str, Noise]) -> list[Draws]:
    """Resampled optima of all curves of a study, jointly: draw i of every curve belongs to the same resampled study."""
    random = np.random.default_rng(_SEED)
    shift = random.standard_normal(RESAMPLES) * np.mean([o.curve.window_se for o in optima] or [0.0])
    sizes = {label: _sizes(random, noise[label], RESAMPLES) for label in sorted(noise)}
    return [_draw(random, optimum, sizes[optimum.curve.label], shift) for optimum in optima]


def _squares(optimum: IsoFlop) -> tuple[float, float]:
    """Residual sum of squares of one curve's runs, about the parabola and within seeds, and degrees of freedom."""
    curve = optimum.curve
    about, free = 0.0, 0.0
    if optimum.coefficients is not None and len(curve.n) > 3:
        about = float(curve.seeds @ (curve.loss - optimum.fitted(curve.n)) ** 2)
        free = len(curve.n) - 3.0
    return about + curve.seed_squares, free + float(curve.seeds.sum()) - len(curve.seeds)


def _noise(label: str, sums: dict[str, tuple[float, float]], optima: list[IsoFlop]) -> Noise:
    own, free = sums[label]
    others, others_free = (sum(found[i] for name, found in sums.items() if name != label) for i in (0, 1))
    borrowed = min(max(0.0, ENOUGH - free), others_free)
    if free + borrowed == 0:
        error = float(np.mean([o.curve.window_se for o in optima]))
        return Noise(error, np.inf, "not estimated, for want of seeds or a fourth size: the windows' standard error")
    prior = others / others_free if borrowed else 0.0
    weight = free + borrowed
    sd = float(np.sqrt((own + borrowed * prior) / weight))
    # Satterthwaite's: what is borrowed is a mean over all of the others' residuals, surer than so many of its own.
    dof = weight**2 / (free + borrowed**2 / others_free) if borrowed else free
    text = f"{free:.0f} residuals of its own" + (f", {borrowed:.0f} borrowed from the others" if borrowed else "")
    return Noise(sd, dof, text)


def _sizes(random: np.random.Generator, noise: Noise, resamples: int) -> np.ndarray:
    if not np.isfinite(noise.dof):
        return np.full(resamples, noise.sd)
    return noise.sd * np.sqrt(noise.dof / random.chisquare(noise.dof, resamples))


def _draw(random: np.random.Generator, optimum: IsoFlop, sd: np.ndarray, shift: np.ndarray) -> Draws:
    curve = optimum.curve
    errors = random.standard_normal((len(sd), len(curve.n))) * sd[:, None] / np.sqrt(curve.seeds)
    if not optimum.converged:
        # The size that stands for the optimum stays: the least of several noisy losses would be biased.
        best = int(curve.loss.argmin())
        return Draws(np.full(len(sd), np.nan), np.maximum(optimum.loss + errors[:, best] + shift, _LEAST), 1.0)
    ln_n, loss, inside = minimum(curve, (optimum.fitted(curve.n) + errors) @ solver(curve).T)
    return Draws(ln_n, np.maximum(loss + shift, _LEAST), float(1 - inside.mean()))
