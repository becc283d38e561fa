"""Is the interval of the mean over all budgets too short, or were the first studies unlucky? Ten thousand of them say.

    python experiments/headlines/mean.py            about 20 seconds of one CPU

The studies of "identical, rich", the same to the last number, are fitted as `encdec_jax.study.findings` fits them: a
tilt for each label, chosen on the same data, and the noise of each label from what is left. Only the 4,000 resamples a
study are replaced by what they tend to: the difference of two Student's t, each scaled by its label's noise. No outlier
is left out. Writes mean.csv into this folder; README.md reads it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from cases import CASES, SEED, Case

from encdec_jax.files import atomic_write
from encdec_jax.laws.interval import LEVEL
from encdec_jax.study.curves import Curve, curves
from encdec_jax.study.isoflop import design, minimum
from encdec_jax.study.tilt import solvers, tilts

HERE = Path(__file__).parent
NAME = "identical, rich"
PARTS = ((0, 200), (200, 500), (500, 1000), (0, 1000), (0, 10_000))
_FRESH = 20_000  # studies that the true standard deviation is measured on, none of them judged


def errors(case: Case, studies: int) -> np.ndarray:
    """The errors of the first studies' runs, [studies, labels, budgets, sizes, seeds], in units of the noise."""
    shape = (len(case.labels), len(case.grid), len(case.grid[0][1]), case.grid[0][2])
    draws = (np.random.default_rng([SEED, draw]) for draw in range(studies))
    return np.stack([random.standard_normal(1 + int(np.prod(shape)))[1:].reshape(shape) for random in draws])


def fitted(case: Case, at: list[Curve], label: int, error: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean of a label's best losses [studies], estimated noise [studies] and its degrees of freedom."""
    true = [case.truths[label].loss(curve.n, curve.budget) for curve in at]
    losses = [loss + error[:, place].mean(-1) for place, loss in enumerate(true)]
    tilt = tilts(at, losses)
    values, of = np.unique(tilt, return_inverse=True)
    squares = np.square(error - error.mean(-1, keepdims=True)).sum((1, 2, 3))
    best = []
    for curve, loss in zip(at, losses, strict=True):
        coefficients = np.einsum("rps,rs->rp", solvers(curve, tilt), loss)
        about = np.stack([design(curve, curve.n, value) for value in values])[of]
        squares += np.square(loss - np.einsum("rsp,rp->rs", about, coefficients)) @ curve.seeds
        best.append(minimum(curve, coefficients, tilt)[1])
    free = error[0].size - 3.0 * len(at) - 1.0
    return np.mean(best, axis=0), np.sqrt(squares / free), free


def judged(case: Case, studies: int) -> dict[str, np.ndarray]:
    """Of each study the difference, in true standard deviations, whether either interval misses 0, and the noise."""
    at = [curve for curve in curves(case.table(0))[0] if curve.label == case.labels[0]]
    random = np.random.default_rng(SEED)
    error = case.noise * errors(case, studies)
    (own, noise, free), (base, other, _) = (fitted(case, at, label, error[:, label]) for label in (1, 0))
    fresh = case.noise * random.standard_normal((_FRESH, *error.shape[2:]))
    sd = float(fitted(case, at, 0, fresh)[0].std()) / case.noise  # of a label's mean, for noise of 1
    # The quantile depends on how the two noises compare alone: looked up by the angle.
    t = random.standard_t(free, (2, 400_000))
    angle = np.arctan2(other, noise)
    grid = np.linspace(angle.min(), angle.max(), 25)
    reach = [np.quantile(np.abs(np.cos(a) * t[0] - np.sin(a) * t[1]), LEVEL) for a in grid]
    off = np.abs(own - base) / sd
    return {
        "off": (own - base) / (sd * case.noise * np.sqrt(2)),
        "missed": off > np.interp(angle, grid, reach) * np.hypot(noise, other),
        "missed, known": off > 1.96 * np.sqrt(2) * case.noise,
        "noise": np.sqrt((noise**2 + other**2) / 2) / case.noise,
    }


def main() -> None:
    """Judge the studies, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="where the table goes; default: this folder")
    options = parser.parse_args()
    seen = judged(CASES[NAME], PARTS[-1][1])
    rows = []
    for first, end in PARTS:
        part = {name: values[first:end] for name, values in seen.items()}
        rows.append(
            {
                "first": first,
                "studies": end - first,
                "false winner or loser, %": round(100 * float(part["missed"].mean()), 2),
                "with the true noise, %": round(100 * float(part["missed, known"].mean()), 2),
                "sd of the difference / true sd": round(float(part["off"].std()), 3),
                "estimated noise / true noise": round(float(np.sqrt(np.mean(part["noise"] ** 2))), 3),
            }
        )
    table = pl.DataFrame(rows)
    atomic_write(options.out / "mean.csv", table.write_csv())
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200):
        print(table)


if __name__ == "__main__":
    main()
