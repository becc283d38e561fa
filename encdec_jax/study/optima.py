"""What a table shows of single budgets: the optima of all labels with their noise, and the runs that no fit uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from encdec_jax.laws.interval import Interval
from encdec_jax.study.curves import Curve, Exclusion, curves
from encdec_jax.study.isoflop import IsoFlop, tokens_at
from encdec_jax.study.noise import Draws, Noise, noises, resample
from encdec_jax.study.outliers import Outlier, outlier
from encdec_jax.study.pooling import NONE, Reasons
from encdec_jax.study.tilt import fits
from encdec_jax.sweep.experiment import Settings

_HAIR = 1e-9  # of ln(n): what is so near to the edge is at the edge
_RUNS_AN_OUTLIER = 10  # runs of a study for every one that may be left out as an outlier
EDGES = 0.25  # of resampled optima at the grid's edge, from where on a budget supports no claim
DOUBTFUL = 0.05  # of resampled optima at the grid's edge, from where on an optimum is said to be in doubt


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best size of one label for one budget.

    Attributes:
      isoflop: the fit behind it; its `converged` says whether the optimum is the parabola's own.
      n, d: parameters and tokens; without interval where the optimum is not the parabola's own. An end of 0 or infinity
        says that the sizes trained don't bound it there.
      loss: bits per byte.
      edge_share: of resampled studies whose optimum is at the edge of the sizes trained.
      noise: standard deviation of a run, bits per byte.
      draws: the optima of the resampled studies.
    """

    isoflop: IsoFlop
    n: Interval
    d: Interval
    loss: Interval
    edge_share: float
    noise: float
    draws: Draws

    @property
    def inside(self) -> bool:
        """Whether the optimum lies inside the sizes trained, and resampled studies say so too."""
        return self.isoflop.converged and self.edge_share <= DOUBTFUL

    @property
    def may_be_inside(self) -> bool:
        """Whether it supports claims: it may lie inside the sizes trained."""
        return self.isoflop.converged and self.edge_share <= EDGES

    @property
    def allowing_outside(self) -> Optimum:
        """The same, with a loss whose interval allows for an optimum outside the sizes trained."""
        draws = self.draws.allowing_outside
        return replace(self, loss=Interval.of(self.isoflop.loss, draws.loss).unless_flat(), draws=draws)

    @property
    def optimism(self) -> float:
        """Bits per byte that the loss may be too low by, as the best of several settings was taken."""
        return self.draws.optimism

    @property
    def below_all(self) -> bool:
        """Whether its loss lies below that of every size trained by more than the noise of a run."""
        return self.isoflop.converged and bool(self.loss.value < self.isoflop.curve.loss.min() - self.noise)

    @property
    def label(self) -> str:
        """The label."""
        return self.isoflop.curve.label

    @property
    def budget(self) -> float:
        """Training FLOPs."""
        return self.isoflop.curve.budget

    def __repr__(self) -> str:
        return f"Optimum({self.label} at {self.budget:.3g} FLOPs: n {self.n}, d {self.d}, loss {self.loss})"


@dataclass(frozen=True, eq=False)
class Measured:
    """The optima of a study.

    Attributes:
      optima: by label and budget.
      noise: of one run, by label.
      exclusions: runs that no fit uses.
      outliers: those of them that lie off their curves by more than noise explains.
    """

    optima: tuple[Optimum, ...]
    noise: dict[str, Noise]
    exclusions: tuple[Exclusion, ...]
    outliers: tuple[Outlier, ...]


def measure(
    table: pl.DataFrame,
    excluded: Sequence[Exclusion] = (),
    pooled: Reasons = NONE,
    settings: Settings = "best",
) -> Measured:
    """The optima of a table.

    Args:
      table: with the columns of `encdec_jax.sweep.results.SCHEMA`; only runs that are done and have a budget count.
      excluded: runs that health rules leave out of all fits.
      pooled: why runs of several codes or texts may be pooled, if they are.
      settings: what stands for a size that was trained with several, as in `encdec_jax.study.curves.curves`.

    Raises:
      UserError: as `encdec_jax.study.curves.curves`.
    """
    found, exclusions, odd = without_outliers(table, excluded, pooled, settings)
    isoflops = fits(found)
    noise = noises(isoflops)
    optima = tuple(
        _optimum(isoflop, drawn, noise[isoflop.curve.label])
        for isoflop, drawn in zip(isoflops, resample(isoflops, noise), strict=True)
    )
    return Measured(optima, noise, exclusions, odd)


def without_outliers(
    table: pl.DataFrame,
    excluded: Sequence[Exclusion] = (),
    pooled: Reasons = NONE,
    settings: Settings = "best",
) -> tuple[list[Curve], tuple[Exclusion, ...], tuple[Outlier, ...]]:
    """The curves of a table without outliers, all runs that are left out, and those of them that are outliers.

    Args and raises as `measure`.
    """
    left_out = {exclusion.run_id for exclusion in excluded}
    odd: list[Outlier] = []
    while True:
        names = left_out | {one.run_id for one in odd}
        found, exclusions = curves(table.filter(~pl.col("run_id").is_in(names)), pooled, settings)
        one = outlier(found)
        if one is None or len(odd) >= sum(len(curve.run_ids) for curve in found) // _RUNS_AN_OUTLIER:
            return found, (*excluded, *map(_excluded, odd), *exclusions), tuple(odd)
        odd.append(one)


def _optimum(isoflop: IsoFlop, drawn: Draws, noise: Noise) -> Optimum:
    curve = isoflop.curve
    n, d = np.exp(drawn.ln_n), tokens_at(curve, drawn.ln_n)
    # At the edge of the sizes the optimum may lie anywhere beyond.
    below, above = (drawn.ln_n <= np.log(curve.n[0]) + _HAIR, drawn.ln_n >= np.log(curve.n[-1]) - _HAIR)
    return Optimum(
        isoflop,
        Interval.of(isoflop.n, np.where(below, 0.0, np.where(above, np.inf, n))).unless_flat(),
        Interval.of(isoflop.d, np.where(below, np.inf, np.where(above, 0.0, d))).unless_flat(),
        Interval.of(isoflop.loss, drawn.loss).unless_flat(),
        drawn.edge_share,
        noise.sd,
        drawn,
    )


def _excluded(one: Outlier) -> Exclusion:
    text = (
        f"outlier: {one.off:+.3f} bits per byte off the curve of the others, {abs(one.studentised):.1f} standard errors"
    )
    return Exclusion(one.run_id, one.label, text)
