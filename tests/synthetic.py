"""Results tables of simulated studies, whose truth is known."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import polars as pl

from encdec_jax.sweep.results import SCHEMA


@dataclass(frozen=True)
class Truth:
    """L*(C) = floor + scale (C/1e12)^-slope at N*(C) = n (C/1e12)^n_slope, and `bend` (ln N/N*)^2 above it."""

    scale: float = 2.0
    slope: float = 0.12
    n: float = 50_000.0
    n_slope: float = 0.55
    bend: float = 0.12
    floor: float = 0.0

    def loss(self, compute: float) -> float:
        return self.floor + self.scale * (compute / 1e12) ** -self.slope

    def best(self, compute: float) -> float:
        return self.n * (compute / 1e12) ** self.n_slope


# Steps between sizes, so that the optimum lies between two of four.
RATIOS = (0.3, 0.7, 1.6, 3.5)
BUDGETS = (1e11, 3e11, 1e12)


def study(
    truths: dict[str, Truth],
    *,
    budgets: tuple[float, ...] = BUDGETS,
    ratios: tuple[float, ...] = RATIOS,
    seeds: tuple[int, ...] = (0,),
    noise: float = 0.0,
    window: float = 0.0,
    draw: int = 0,
) -> pl.DataFrame:
    """A table of runs at `ratios` times the best size, with noise of a run and a shift common to all, bits per byte."""
    random = np.random.default_rng(draw)
    shift = window * random.standard_normal()
    rows = []
    for arch, truth in truths.items():
        for budget in budgets:
            for ratio in ratios:
                for seed in seeds:
                    n = truth.best(budget) * ratio
                    loss = truth.loss(budget) + truth.bend * np.log(ratio) ** 2
                    rows.append(_row(arch, budget, n, seed, loss + shift + noise * random.standard_normal(), window))
    return pl.DataFrame(rows, schema=SCHEMA)


def _row(arch: str, budget: float, n: float, seed: int, loss: float, window: float) -> dict[str, object]:
    tokens = round(budget / (6 * n))
    return {
        "run_id": f"{arch}-{budget:.0e}-{n:.0f}-{seed}",
        "setting": f"{arch}-{budget:.0e}-{n:.0f}",
        "label": arch,
        "arch": arch,
        "seed": seed,
        "objective": "causal_lm" if arch == "causal_lm" else "prefix_lm",
        "prefix": None if arch == "causal_lm" else "half",
        "d_model": round((n / 24) ** 0.5),
        "enc_layers": 1 if arch.startswith("enc_dec") else 0,
        "dec_layers": 1 if arch.startswith("enc_dec") else 2,
        "n_params": round(n),
        "n_params_nonembed": round(n * 0.8),
        "budget_flops": budget,
        "train_flops": budget * 1.004,
        "train_flops_dense": budget * 1.2,
        "train_flops_padded": budget * 1.2,
        "flops_mismatch": 0.004,
        "tokens": tokens,
        "tokens_seen": tokens,
        "loss_tokens": tokens / 2.0,
        "updates": tokens // 1024,
        "batch_size": 4,
        "lr": 0.01,
        "suffix_bits_per_byte": loss,
        "suffix_bits_se": window,
        "train_loss": loss * 0.69,
        "status": "done",
        "wall_s": 10.0,
        "step_s": 8.0,
        "tokens_per_s": tokens / 8.0,
        "data_hash": "0" * 64,
        "versions": json.dumps({"commit": "0123456789ab", "jax": "0.10.2", "python": "3.11.2"}, sort_keys=True),
        "error": None,
    }
