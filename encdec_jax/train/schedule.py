"""Learning-rate schedules as functions of traced numbers, so that runs that differ in them share one compilation."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from encdec_jax.train.config import OptimConfig, phases


class Hyper(NamedTuple):
    """Numbers that a compiled step leaves open, scalars. Durations are int32, in updates: float32 ends at 2^24.

    Attributes:
      lr: the peak.
      total: updates in all.
      warmup: updates of linear warm-up, at least one.
      decay: updates of the final decay of 'wsd', at least one.
      final: the last learning rate over the peak.
      seed: uint32, of what the updates draw.
    """

    lr: Array | np.float32
    total: Array | np.int32
    warmup: Array | np.int32
    decay: Array | np.int32
    final: Array | np.float32
    seed: Array | np.uint32


def hyper(optim: OptimConfig, updates: int, seed: int) -> Hyper:
    """The numbers for a run of `updates` updates."""
    warmup, decay = phases(optim, updates)
    lr, final = np.float32(optim.lr), np.float32(optim.final)
    return Hyper(lr, np.int32(updates), np.int32(warmup), np.int32(decay), final, np.uint32(seed))


def learning_rate(schedule: str, hyper: Hyper, step: Array) -> Array:
    """The learning rate of update `step` (int32, 0 for the first), float32.

    All rise linearly over the warm-up, to the peak at its last update. Then 'constant' stays; 'cosine' falls along half
    a cosine to `final` of the peak at the last update; 'wsd' stays, then falls linearly to `final` over the last
    `decay` updates (arXiv 2405.18392); 'rsqrt' falls with the inverse square root of the updates (T5, arXiv 1910.10683,
    section 3.1.2).
    """
    t = step + 1
    rise = jnp.minimum(t / hyper.warmup, 1.0)
    if schedule == "cosine":
        done = jnp.clip((t - hyper.warmup) / jnp.maximum(hyper.total - hyper.warmup, 1), 0.0, 1.0)
        shape = hyper.final + (1 - hyper.final) * 0.5 * (1 + jnp.cos(jnp.pi * done))
    elif schedule == "wsd":
        left = jnp.where(t <= hyper.warmup, 1.0, jnp.clip((hyper.total - t) / hyper.decay, 0.0, 1.0))
        shape = hyper.final + (1 - hyper.final) * left
    elif schedule == "rsqrt":
        shape = jnp.sqrt(hyper.warmup / jnp.maximum(t, hyper.warmup))
    else:
        shape = jnp.ones(())
    return hyper.lr * rise * shape
