"""Coverage of case resampling: the exponent of a power law fitted to many runs, whose noise may be shared."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl

from encdec_jax.laws.bootstrap import Scheme, leave_out, units, weights
from encdec_jax.laws.interval import Interval, Kind

SLOPE = -0.1
RESAMPLES = 2000
KINDS: tuple[Kind, ...] = ("percentile", "basic", "bca")


@dataclass(frozen=True)
class Design:
    """Runs at sizes spread evenly over two decades, and what share noise besides their own: standard deviations 1 each.

    Attributes:
      sizes: how many.
      seeds: runs of each size.
      shared: the group whose members share noise; '' if runs are independent.
      scheme: that resamples.
      heavy: noise of Student's t with 3 degrees of freedom, half as large at the largest size as at the smallest.
    """

    sizes: int
    seeds: int
    shared: str
    scheme: Scheme
    heavy: bool = False


DESIGNS = (
    Design(5, 1, "", "run"),
    Design(7, 1, "", "run"),
    Design(12, 1, "", "run"),
    Design(40, 1, "", "run"),
    Design(40, 1, "", "run", heavy=True),
    Design(12, 3, "trunk", "run"),
    Design(40, 3, "trunk", "run"),
    Design(12, 3, "budget", "run"),
    Design(12, 3, "budget", "budget"),
    Design(12, 3, "budget", "hierarchical"),
    Design(12, 5, "seed", "seed"),
    Design(12, 12, "seed", "seed"),
)


def coverage(simulations: int) -> pl.DataFrame:
    """A row a design and kind of interval."""
    return pl.DataFrame([row for design in DESIGNS for row in _rows(design, simulations)])


def _rows(design: Design, simulations: int) -> list[dict[str, object]]:
    n = design.sizes * design.seeds
    size, seed = np.divmod(np.arange(n), design.seeds)
    x = 2 * np.log(10) * size / (design.sizes - 1)
    groups = {"run": np.arange(n), "seed": seed, "budget": size}
    if design.shared == "trunk":
        groups["trunk"] = size
    random = np.random.default_rng([20_220_329, n])
    noise = _noise(random, (simulations, n), design.heavy) * (1 - 0.5 * size / size.max() if design.heavy else 1)
    if design.shared == "seed":  # a slope of its own for each seed: what a level of its own does cancels in the slope
        noise += random.standard_normal((simulations, design.seeds))[:, seed] * (x - x.mean()) / x.std()
    elif design.shared:
        noise += random.standard_normal((simulations, design.sizes))[:, size]
    y = SLOPE * x + 0.02 * noise
    estimates = y @ _slopes(x, np.ones((1, n)))[0]
    drawn = y @ _slopes(x, weights(groups, design.scheme, RESAMPLES)).T
    left_out = y @ _slopes(x, leave_out(groups, design.scheme)).T
    rows: list[dict[str, object]] = []
    n_units = units(groups, design.scheme)
    for kind, widened in product(KINDS, (None, n_units)):
        found = [
            Interval.of(e, d, kind, j if kind == "bca" else None, widened)
            for e, d, j in zip(estimates, drawn, left_out, strict=True)
        ]
        covered = np.mean([i.low <= SLOPE <= i.high for i in found])
        rows.append(
            {
                "sizes": design.sizes,
                "seeds": design.seeds,
                "shared_noise": design.shared or "none",
                "heavy_tails": design.heavy,
                "scheme": design.scheme,
                "units": n_units,
                "interval": kind if widened is None else f"{kind}, widened",
                "coverage": round(float(covered), 4),
                "width": float(f"{np.median([i.high - i.low for i in found]):.3g}"),
            }
        )
    return rows


def _slopes(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows [resamples, runs] that take y [runs] to weighted least-squares slopes; degenerate resamples are left out."""
    total = weight.sum(1, keepdims=True)
    centred = x - (weight @ x)[:, None] / total
    squares = (weight * centred**2).sum(1)
    fit = squares > 1e-9
    return (weight * centred)[fit] / squares[fit, None]


def _noise(random: np.random.Generator, shape: tuple[int, int], heavy: bool) -> np.ndarray:
    return random.standard_t(3, shape) / np.sqrt(3) if heavy else random.standard_normal(shape)
