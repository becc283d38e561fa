"""Runs and batches of random tokens for every architecture."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jax
import numpy as np
from support import SMALL, example, model_config, tokens

from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.packing import Batch
from encdec_jax.model.arch import ARCHS
from encdec_jax.train.config import MeshConfig, OptimConfig, TrainConfig
from encdec_jax.train.schedule import hyper
from encdec_jax.train.step import Metrics, State
from encdec_jax.train.trainer import Trainer

ROWS, HALF = 8, 8
# Every dimension that a mesh axis may divide is a multiple of 8, kv_heads included.
WIDE = replace(SMALL, d_model=16, n_heads=8, n_kv_heads=8, head_dim=4, d_ff=32)


def run_config(
    arch: str, mesh: MeshConfig | None = None, optim: OptimConfig | None = None, **train: object
) -> RunConfig:
    encoder = WIDE if ARCHS[arch].own_encoder else None
    return RunConfig(
        model=model_config(arch, decoder=WIDE, encoder=encoder),
        data=DataConfig(length=2 * HALF),
        objective=ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm"),
        optim=optim or OptimConfig(lr=1e-2),
        train=TrainConfig(**{"batch_size": ROWS, "steps_per_call": 2, **train}),
        mesh=mesh or MeshConfig(),
    )


def batch(arch: str, seed: int = 0, rows: int = ROWS) -> Batch:
    """Weights differ from row to row, so that a mean of means is not the mean."""
    source, target = tokens(seed, rows, HALF), tokens(seed + 1, rows, HALF)
    weights = (np.arange(HALF) < 1 + np.arange(rows)[:, None]).astype(np.float32)
    found = Batch(*example(arch, source, target), np.roll(target, -1, axis=1).astype(np.int32), weights)
    return jax.tree.map(np.asarray, found)


def stack(*batches: Batch) -> Batch:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)


@cache
def start(run: RunConfig) -> State:
    """The initial state on one device. To be copied, not given away: training consumes it."""
    return jax.device_get(Trainer(replace(run, mesh=MeshConfig())).init())


def train(run: RunConfig, batches: Batch, calls: int = 1) -> tuple[State, Metrics]:
    """`calls` calls on the same stacked batches, on the run's mesh."""
    trainer = Trainer(run)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, trainer.abstract)
    state = jax.device_put(start(replace(run, mesh=MeshConfig())), shardings)
    for _ in range(calls):
        state, metrics = trainer(state, batches, hyper(run.optim, 100, run.train.seed), len(batches.labels))
    return state, jax.device_get(metrics)
