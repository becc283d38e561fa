"""The studies that are simulated: what is true in them, their grids and their noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

ARCHS = ("causal_lm", "enc_dec")
Grid = tuple[tuple[float, tuple[float, ...], int], ...]  # training FLOPs, sizes, seeds


@dataclass(frozen=True)
class Chinchilla:
    """L = E + A / N^alpha + B / D^beta with C = 6 N D (arXiv 2203.15556, section 3.3); a parabola fits it nearly."""

    e: float
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, n: np.ndarray, compute: float) -> np.ndarray:
        """Of sizes at a budget."""
        return self.e + self.a * n**-self.alpha + self.b * (compute / (6 * n)) ** -self.beta

    def best(self, compute: float) -> float:
        """N*(C), by equation 4 of the paper."""
        ratio = self.alpha * self.a / (self.beta * self.b)
        return float((ratio * (compute / 6) ** self.beta) ** (1 / (self.alpha + self.beta)))

    @property
    def slopes(self) -> tuple[float, float]:
        """Exponents of N*(C) and of the frontier's loss above E."""
        total = self.alpha + self.beta
        return self.beta / total, -self.alpha * self.beta / total


@dataclass(frozen=True)
class Parabola:
    """A power law of compute, and around its best size the parabola in ln(N) that the analysis assumes."""

    scale: float
    slope: float
    n: float
    n_slope: float
    bend: float
    reference: float

    def loss(self, n: np.ndarray, compute: float) -> np.ndarray:
        """Of sizes at a budget."""
        frontier = self.scale * (compute / self.reference) ** self.slope
        return frontier + self.bend * np.log(n / self.best(compute)) ** 2

    def best(self, compute: float) -> float:
        """N*(C)."""
        return self.n * (compute / self.reference) ** self.n_slope

    @property
    def slopes(self) -> tuple[float, float]:
        """Exponents of N*(C) and of the frontier's loss."""
        return self.n_slope, self.slope


Truth = Chinchilla | Parabola


@dataclass(frozen=True)
class Study:
    """A grid, its noise and the truth of two architectures, which cross at `crossing` FLOPs.

    Attributes:
      truths: of the baseline and of the other architecture.
      grid: that both are trained on.
      noise: of both, the standard deviation of a run, bits per byte.
      crossing: training FLOPs at which the frontiers cross.
      tails: degrees of freedom of the noise, Student's; 0 for normal noise.
      window: standard deviation of the shift all runs share, from the choice of held-out windows.
    """

    truths: tuple[Truth, Truth]
    grid: Grid
    noise: tuple[float, float]
    crossing: float
    tails: int = 0
    window: float = 0.011

    @property
    def budgets(self) -> np.ndarray:
        """Training FLOPs, rising."""
        return np.array([compute for compute, _, _ in self.grid])

    def table(self, draw: int) -> pl.DataFrame:
        """The results of one simulated study, with the columns that the analysis reads."""
        random = np.random.default_rng([20_220_329, draw])
        shift = self.window * random.standard_normal()
        rows = []
        for arch, truth, noise in zip(ARCHS, self.truths, self.noise, strict=True):
            for compute, sizes, seeds in self.grid:
                errors = shift + noise * self._errors(random, (len(sizes), seeds))
                for size, drawn in zip(sizes, errors, strict=True):
                    loss = float(truth.loss(np.array(size), compute))
                    rows += [row(arch, compute, size, seed, loss + e, self.window) for seed, e in enumerate(drawn)]
        return pl.DataFrame(rows)

    def _errors(self, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Of variance 1."""
        if not self.tails:
            return random.standard_normal(shape)
        return random.standard_t(self.tails, shape) * np.sqrt((self.tails - 2) / self.tails)


def frontier(truth: Truth, compute: np.ndarray | float) -> np.ndarray:
    """The true loss of the best size."""
    return np.vectorize(lambda c: truth.loss(np.array(truth.best(c)), c))(compute)


def row(arch: str, compute: float, size: float, seed: int, loss: float, window: float) -> dict[str, object]:
    return {
        "run_id": f"{arch}-{compute:.2e}-{size:.0f}-{seed}",
        "setting": f"{arch}-{compute:.2e}-{size:.0f}",
        "label": arch,
        "seed": seed,
        "enc_layers": 0,
        "dec_layers": 1,
        "objective": None,
        "lr": None,
        "batch_size": None,
        "n_params": round(size),
        "budget_flops": compute,
        "tokens": round(compute / (6 * size)),
        "suffix_bits_per_byte": loss,
        "suffix_bits_se": window,
        "status": "done",
        "cache_digest": None,
        "code": None,
        "error": None,
    }


def _cross(first: Chinchilla, compute: float, alpha: float, beta: float) -> Chinchilla:
    """Another law with other exponents, the same floor and best size at `compute`, that crosses `first` there."""
    n = first.best(compute)
    d = compute / (6 * n)
    reducible = float(first.loss(np.array(n), compute)) - first.e
    parts = (beta / (alpha + beta), alpha / (alpha + beta))  # of N and of D: at the best size alpha x = beta y
    return Chinchilla(first.e, reducible * parts[0] * n**alpha, alpha, reducible * parts[1] * d**beta, beta)


# The quickstart's grid and noise; and a richer one: five budgets, five sizes, two seeds, runs of 0.015 bits of noise.
QUICK = (
    (4.2e10, (3776.0, 10112.0, 33536.0), 2),
    (1.26e11, (3776.0, 10112.0, 33536.0), 1),
    (3.78e11, (10112.0, 20160.0, 114176.0), 1),
)
_OFF = tuple((compute, tuple(size / 2 for size in sizes), seeds) for compute, sizes, seeds in QUICK)
_STEPS = np.array([1 / 4, 1 / 2, 1, 2, 4])
RICH = tuple((c, tuple(np.round(30_000 * (c / 1e11) ** 0.5 * _STEPS)), 2) for c in 1e11 * 10 ** np.arange(0, 2.01, 0.5))


def _balanced(n: float, compute: float) -> Chinchilla:
    """E = 0.7 and exponents of 0.35, with its best size at `n` for `compute`, and 2.6 bits per byte there."""
    return Chinchilla(0.7, 0.95 * n**0.35, 0.35, 0.95 * (compute / (6 * n)) ** 0.35, 0.35)


_FLAT = Parabola(2.55, -0.09, 17_500.0, 0.45, 0.115, 1.26e11)
_STEEP = Parabola(2.55, -0.14, 17_500.0, 0.40, 0.115, 1.26e11)
_SMALL, _LARGE = _balanced(17_500.0, 1.26e11), _balanced(90_000.0, 1e12)
_PAIR = (_SMALL, _cross(_SMALL, 1.26e11, 0.5, 0.45))
STUDIES = {
    "quickstart, parabolas": Study((_FLAT, _STEEP), QUICK, (0.05, 0.05), 1.26e11),
    "quickstart": Study(_PAIR, QUICK, (0.05, 0.05), 1.26e11),
    "quickstart, unequal noise": Study(_PAIR, QUICK, (0.03, 0.07), 1.26e11),
    "quickstart, heavy tails": Study(_PAIR, QUICK, (0.05, 0.05), 1.26e11, tails=3),
    "quickstart, small sizes": Study(_PAIR, _OFF, (0.05, 0.05), 1.26e11),
    "rich": Study((_LARGE, _cross(_LARGE, 1e12, 0.4, 0.4)), RICH, (0.015, 0.015), 1e12),
}
