"""How sure the fits are: the study made again many times.

Two ways, for two kinds of table:

- **Model-based** (`noises`, `resample`), for IsoFLOP studies of our own, with 3 to 10 sizes a budget and one to a few
  seeds. Runs left out of so few would leave no parabola; instead losses are drawn around the fitted curves, with noise
  as large as the one seen. `encdec_jax.scaling.findings` uses it.
- **Case resampling** (`weights`), for parametric laws fitted to tables of many runs, ours or anybody's: runs, or whole
  groups of them, are drawn with replacement, and no form of noise is assumed. `encdec_jax.scaling.fit.refit` takes the
  weights. Of few groups it sees too little of how they differ: `Interval.of` widens for `units`, and fewer than
  `MIN_UNITS` are refused (experiments/calibration measures both).

What the model-based intervals cover:
- Noise of a run (initialisation, data order) and lack of fit of the parabola, together: estimated from the residuals
  of the parabolas and from the spread of seeds where there are several. An architecture's own noise is used, for
  architectures differ in noise; only where it has fewer than `ENOUGH` degrees of freedom, the others' fill it up to
  that. Each resample draws the noise's size too, from the uncertainty that few residuals leave (scaled inverse
  chi-square). Runs are taken as independent: where runs of one seed share luck across architectures, intervals of
  gaps are wider than need be.
- The choice of held-out windows: one shift for all runs of a resample, since all are scored on the same windows. It
  widens levels of loss and cancels in gaps; by how much windows favour one architecture, `encdec_jax.scaling.paired`
  measures.

What they don't cover: other corpora, learning rates and shapes than those tried, and wrong forms of the laws.
Where neither residuals nor seeds are left over, the windows' standard error stands for a run's noise, and
`Noise.source` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from encdec_jax.errors import UserError, require
from encdec_jax.scaling.isoflop import IsoFlop, minimum, solver

Scheme = Literal["run", "seed", "budget", "hierarchical"]
SCHEMES = ("run", "seed", "budget", "hierarchical")
MIN_UNITS = 5
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
    archs = sorted({optimum.curve.arch for optimum in optima})
    squares = {arch: [_squares(o) for o in optima if o.curve.arch == arch] for arch in archs}
    sums = {arch: (sum(s for s, _ in found), sum(dof for _, dof in found)) for arch, found in squares.items()}
    return {arch: _noise(arch, sums, optima) for arch in archs}


def resample(optima: list[IsoFlop], noise: dict[str, Noise], resamples: int = RESAMPLES) -> list[Draws]:
    """Resampled optima of all curves of a study, jointly: draw i of every curve belongs to the same resampled study."""
    random = np.random.default_rng(_SEED)
    shift = random.standard_normal(resamples) * np.mean([o.curve.window_se for o in optima] or [0.0])
    sizes = {arch: _sizes(random, noise[arch], resamples) for arch in sorted(noise)}
    return [_draw(random, optimum, sizes[optimum.curve.arch], shift) for optimum in optima]


def weights(groups: Mapping[str, np.ndarray], scheme: Scheme, resamples: int = 1000, seed: int = _SEED) -> np.ndarray:
    """How often each run is drawn in each resample, int64 [resamples, runs].

    'run' draws runs. 'seed' and 'budget' draw all runs of a seed, or of a budget, together, for noise that these share.
    'hierarchical' draws budgets, then runs within each budget drawn. Runs of one trunk (learning rates decayed from
    points of one run, say) share its noise: they are one unit, drawn together in every scheme.

    Args:
      groups: columns [runs] that say which runs belong together: 'seed' and 'budget' for the schemes that need them,
        'trunk' where runs have one (null or NaN: a run of its own), 'run' or any other only for their number.
      scheme: one of `SCHEMES`.
      resamples: how many.
      seed: of the draws.

    Raises:
      UserError: the scheme is unknown, a column that it needs is missing, there are fewer than `MIN_UNITS` units, or a
        trunk has runs in several of the scheme's groups.
    """
    random = np.random.default_rng(seed)
    unit, strata = _units(groups, scheme)
    n = int(unit.max()) + 1
    if scheme != "hierarchical":
        return _drawn(random, n, np.full(resamples, n))[:, unit]
    per_unit = np.zeros((resamples, n), np.int64)
    times = _drawn(random, len(strata), np.full(resamples, len(strata)))
    for stratum, members in enumerate(strata):
        per_unit[:, members] = _drawn(random, len(members), times[:, stratum] * len(members))
    return per_unit[:, unit]


def units(groups: Mapping[str, np.ndarray], scheme: Scheme) -> int:
    """How many units a scheme draws from, of 'hierarchical' the budgets. Arguments and errors as of `weights`."""
    found, strata = _units(groups, scheme)
    return len(strata) or int(found.max()) + 1


def leave_out(groups: Mapping[str, np.ndarray], scheme: Scheme) -> np.ndarray:
    """Weights that leave out one unit each, int64 [units, runs], for the acceleration of 'bca' intervals.

    Units are what the scheme draws; for 'hierarchical' the budgets, whose differences weigh most. Arguments and errors
    are those of `weights`.
    """
    unit, strata = _units(groups, scheme)
    if scheme == "hierarchical":
        budget = np.empty(int(unit.max()) + 1, np.int64)
        for stratum, members in enumerate(strata):
            budget[members] = stratum
        unit = budget[unit]
    return (unit != np.arange(int(unit.max()) + 1)[:, None]).astype(np.int64)


def _drawn(random: np.random.Generator, n: int, times: np.ndarray) -> np.ndarray:
    """How often each of `n` comes up in `times` [resamples] draws with replacement, int64 [resamples, n]."""
    return random.multinomial(times, np.full(n, 1 / n)).astype(np.int64)


def _units(groups: Mapping[str, np.ndarray], scheme: Scheme) -> tuple[np.ndarray, list[np.ndarray]]:
    """The unit of each run, counted from 0, [runs]; and of 'hierarchical' the units of each budget."""
    require(scheme in SCHEMES, "bootstrap scheme", scheme, "one of " + ", ".join(SCHEMES))
    level = {"run": None, "hierarchical": "budget"}.get(scheme, scheme)
    if not groups or (level is not None and level not in groups):
        raise UserError(f"bootstrap scheme = {scheme!r} is not accepted: the table has no column {level or 'run'!r}")
    runs = len(next(iter(groups.values())))
    trunks = _trunks(groups["trunk"]) if "trunk" in groups else np.arange(runs)
    if level is None:
        unit, strata = trunks, []
    else:
        _, above = np.unique(np.asarray(groups[level]), return_inverse=True)
        spans = [trunk for trunk in np.unique(trunks) if len(np.unique(above[trunks == trunk])) > 1]
        require(not spans, "bootstrap scheme", scheme, f"'run': a trunk has runs in more than one {level}")
        members = [np.unique(trunks[above == group]) for group in range(int(above.max()) + 1)]
        unit, strata = (trunks, members) if scheme == "hierarchical" else (above, [])
    found = len(strata) or int(unit.max()) + 1
    accepted = f"a scheme that draws from {MIN_UNITS} groups or more: of {found}, intervals are far too short"
    require(found >= MIN_UNITS, "bootstrap scheme", scheme, accepted)
    return unit, strata


def _trunks(names: np.ndarray) -> np.ndarray:
    """Each run's trunk, counted from 0; runs without a name are trunks of their own."""
    labels = [
        ("run", place) if name is None or name != name else ("trunk", name)
        for place, name in enumerate(np.asarray(names, dtype=object))
    ]
    order = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels])


def _squares(optimum: IsoFlop) -> tuple[float, float]:
    """Residual sum of squares of one curve's runs, about the parabola and within seeds, and degrees of freedom."""
    curve = optimum.curve
    about, free = 0.0, 0.0
    if optimum.coefficients is not None and len(curve.n) > 3:
        about = float(curve.seeds @ (curve.loss - optimum.fitted(curve.n)) ** 2)
        free = len(curve.n) - 3.0
    return about + curve.seed_squares, free + float(curve.seeds.sum()) - len(curve.seeds)


def _noise(arch: str, sums: dict[str, tuple[float, float]], optima: list[IsoFlop]) -> Noise:
    own, free = sums[arch]
    others, others_free = (sum(found[i] for name, found in sums.items() if name != arch) for i in (0, 1))
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
