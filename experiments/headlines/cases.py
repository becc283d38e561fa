"""The studies that are simulated: who is better in truth, and what goes wrong with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

sys.path.append(str(Path(__file__).parents[1] / "calibration"))

from truths import QUICK, RICH, STUDIES, Chinchilla, Grid, Truth, frontier, row

BASE = "base"
SEED = 20_220_330
WINDOW = 0.011


@dataclass(frozen=True)
class Case:
    """One kind of study.

    Attributes:
      truths: of the baseline and of every other label.
      grid: sizes that each label is trained at: budget, sizes, seeds.
      noise: standard deviation of a run, bits per byte.
      off: times the sizes of the label 'b' are larger than those of the grid.
      rates: learning rates tried for the label 'b', all equally good; one for the others.
      outlier: bits per byte that one run of the label 'b', of the middle budget, lies above its curve.
      depths: layers that every size is trained at, with sizes and losses that differ a little; none: one depth.
      uneven: bits per byte, standard deviation, that each size of each label and budget lies off its law, as all its
        seeds do.
      drift: the same of each budget of each label, as all its runs do.
    """

    truths: tuple[Truth, ...]
    grid: Grid
    noise: float
    off: float = 1.0
    rates: int = 1
    outlier: float = 0.0
    depths: tuple[tuple[int, float, float], ...] = ((2, 1.0, 0.0),)  # layers, times the size, bits per byte above
    uneven: float = 0.0
    drift: float = 0.0

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the lines, the baseline first."""
        return (BASE, *"bcdefghijklm"[: len(self.truths) - 1])

    @property
    def budgets(self) -> tuple[float, ...]:
        """Training FLOPs, rising."""
        return tuple(compute for compute, _, _ in self.grid)

    def gap(self, label: str, budget: float) -> float:
        """The true best loss of a label above the baseline's, bits per byte."""
        own, base = self.truths[self.labels.index(label)], self.truths[0]
        return 0.0 if own is base else float(frontier(own, budget) - frontier(base, budget))

    def best(self, label: str, budget: float) -> float:
        """The true N*."""
        return self.truths[self.labels.index(label)].best(budget)

    def odd(self) -> tuple[str, float, int]:
        """Label, budget and place among the sizes of the run that is the outlier."""
        return "b", self.budgets[len(self.budgets) // 2], 1

    def name(self, label: str, budget: float, size: float) -> str:
        """The id of a run of the first seed, rate and depth."""
        return f"{label}-{budget:.2e}-{size:.0f}-{self.depths[0][0]}-0-0"

    def table(self, draw: int) -> pl.DataFrame:
        """The results of one simulated study, with the columns that the analysis reads.

        Study `draw` of all cases with the same number of runs has the same errors, in units of the noise: what differs
        between them is the case, but one unlucky draw is unlucky in all.
        """
        return pl.DataFrame(list(self._rows(np.random.default_rng([SEED, draw]))))

    def _rows(self, random: np.random.Generator) -> Iterator[dict[str, object]]:
        shift = WINDOW * random.standard_normal()
        for label, truth in zip(self.labels, self.truths, strict=True):
            for compute, sizes, seeds in self.grid:
                off = self.drift * random.standard_normal() if self.drift else 0.0
                for place, size in enumerate(sizes):
                    scaled = size * (self.off if label == "b" else 1.0)
                    odd = (label, compute, place) == self.odd()
                    bump = off + (self.uneven * random.standard_normal() if self.uneven else 0.0)
                    for layers, wider, above in self.depths:
                        n = scaled * wider
                        loss = float(truth.loss(np.array(n), compute)) + above + shift + bump
                        for rate in range(self.rates if label == "b" else 1):
                            for seed in range(seeds):
                                seen = loss + self.noise * random.standard_normal() + self.outlier * (odd and not seed)
                                yield _row(label, compute, n, seed, seen, layers, rate)


def _row(label: str, compute: float, n: float, seed: int, loss: float, layers: int, rate: int) -> dict[str, object]:
    setting = f"{label}-{compute:.2e}-{n:.0f}-{layers}-{rate}"
    changed = {"run_id": f"{setting}-{seed}", "setting": setting, "dec_layers": layers, "lr": 0.01 * 2.0**rate}
    return {**row(label, compute, n, seed, loss, WINDOW), **changed}


def _needs(truth: Chinchilla, times: float) -> Chinchilla:
    """The same law at `times` the compute: as good with that much more, with the same N*(C)."""
    rise = times ** -truth.slopes[1]
    return replace(truth, a=truth.a * rise, b=truth.b * rise)


def _near(truth: Chinchilla, grid: Grid, steps: tuple[float, ...]) -> Grid:
    """The same budgets with one run at each of `steps` times the best size."""
    return tuple((c, tuple(np.round(truth.best(c) * np.array(steps))), 1) for c, _, _ in grid)


QUICK_TRUTH = STUDIES["quickstart"].truths[0]
RICH_TRUTH = STUDIES["rich"].truths[0]
assert isinstance(QUICK_TRUTH, Chinchilla)
assert isinstance(RICH_TRUTH, Chinchilla)
_DEPTHS = ((1, 1.0, 0.02), (2, 25.8 / 25.2, 0.0), (4, 29.4 / 25.2, 0.03))
_TILTED = Chinchilla(0.7, 0.9 * 30_000.0**0.45, 0.45, 0.9 * 0.45 / 0.3 * (1e11 / (6 * 30_000.0)) ** 0.3, 0.3)
_WIDE = _near(_TILTED, RICH, tuple(2.0 ** np.linspace(-4, 4, 7)))


_CENTRED = _near(RICH_TRUTH, RICH, (0.4, 0.8, 1.6, 3.2))
_SEEDED = tuple((compute, sizes, 5) for compute, sizes, _ in _CENTRED)
_LABELS = {"2 labels": 2, "7 labels": 7, "12 labels": 12}
NULL = {
    **{f"identical, {name}": Case((QUICK_TRUTH,) * n, QUICK, 0.05) for name, n in _LABELS.items()},
    "identical, rich": Case((RICH_TRUTH,) * 2, RICH, 0.015),
    "optima just outside": Case((RICH_TRUTH,) * 2, _CENTRED, 0.03, off=1.3 / 0.4),
    "optima far outside": Case((RICH_TRUTH,) * 2, _CENTRED, 0.03, off=4 / 0.4),
    "optima outside, 3 sizes": Case((QUICK_TRUTH,) * 2, QUICK, 0.05, off=8.0),
    "5 rates against 1": Case((RICH_TRUTH,) * 2, _CENTRED, 0.03, rates=5),
    "5 rates against 1, 3 sizes": Case((QUICK_TRUTH,) * 2, QUICK, 0.05, rates=5),
    "one outlier": Case((RICH_TRUTH,) * 2, _CENTRED, 0.03, outlier=0.3),
    "one outlier, 2 seeds": Case((RICH_TRUTH,) * 2, RICH, 0.03, outlier=0.3),
    "depths": Case(
        (QUICK_TRUTH,) * 2, tuple((c, (QUICK_TRUTH.best(c) * 0.9,), 2) for c, _, _ in QUICK), 0.03, depths=_DEPTHS
    ),
    "depths of 4 sizes": Case((RICH_TRUTH,) * 2, _CENTRED, 0.03, depths=_DEPTHS),
    "asymmetric": Case((_TILTED,) * 2, _WIDE, 0.015),
    "uneven sizes": Case((RICH_TRUTH,) * 2, _SEEDED, 0.005, uneven=0.02),
    "uneven sizes, slightly": Case((RICH_TRUTH,) * 2, _SEEDED, 0.01, uneven=0.01),
}
POWER = {
    "quickstart, 2x": Case((QUICK_TRUTH, _needs(QUICK_TRUTH, 2.0)), QUICK, 0.05),
    "rich, 1.15x": Case((RICH_TRUTH, _needs(RICH_TRUTH, 1.15)), RICH, 0.015),
    "7 labels, one 2x": Case((QUICK_TRUTH, _needs(QUICK_TRUTH, 2.0), *(QUICK_TRUTH,) * 5), QUICK, 0.05),
    "12 labels, one 2x": Case((QUICK_TRUTH, _needs(QUICK_TRUTH, 2.0), *(QUICK_TRUTH,) * 10), QUICK, 0.05),
    "one outlier, 1.5x": Case((RICH_TRUTH, _needs(RICH_TRUTH, 1.5)), _CENTRED, 0.03, outlier=0.3),
    "5 rates against 1, 2x": Case((RICH_TRUTH, _needs(RICH_TRUTH, 2.0)), _CENTRED, 0.03, rates=5),
    "crossing, quickstart": Case(STUDIES["quickstart"].truths, QUICK, 0.05),
    "crossing, rich": Case(STUDIES["rich"].truths, RICH, 0.015),
    "asymmetric, 1.3x": Case((_TILTED, _needs(_TILTED, 1.3)), _WIDE, 0.015),
}
CASES = {**NULL, **POWER}
