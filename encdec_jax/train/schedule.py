"""Learning-rate schedules as functions of traced numbers, so that runs that differ in them share one compilation."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from encdec_jax.train.config import OptimConfig


class Hyper(NamedTuple):
    """The numbers of a schedule, float32 scalars; durations in updates.

    Attributes:
      lr: the peak.
      total: updates in all.
      warmup: updates of linear warm-up, at least one.
      decay: updates of the final decay of 'wsd', at least one.
      final: the last learning rate over the peak.
    """

    lr: Array | np.float32
    total: Array | np.float32
    warmup: Array | np.float32
    decay: Array | np.float32
    final: Array | np.float32


def hyper(optim: OptimConfig, updates: int) -> Hyper:
    """The schedule's numbers for a run of `updates` updates."""
    warmup, decay = max(1, round(optim.warmup * updates)), max(1, round(optim.decay * updates))
    return Hyper(*(np.float32(x) for x in (optim.lr, updates, warmup, decay, optim.final)))


def learning_rate(schedule: str, hyper: Hyper, step: Array) -> Array:
    """The learning rate of update `step` (0 for the first), float32.

    All rise linearly over the warm-up, to the peak at its last update. Then 'constant' stays; 'cosine' falls along half
    a cosine to `final` of the peak at the last update; 'wsd' stays, then falls linearly to `final` over the last
    `decay` updates (arXiv 2405.18392); 'rsqrt' falls with the inverse square root of the updates (T5, arXiv 1910.10683,
    section 3.1.2).
    """
    t = step.astype(jnp.float32) + 1
    rise = jnp.minimum(t / hyper.warmup, 1.0)
    if schedule == "cosine":
        done = jnp.clip((t - hyper.warmup) / jnp.maximum(hyper.total - hyper.warmup, 1.0), 0.0, 1.0)
        shape = hyper.final + (1 - hyper.final) * 0.5 * (1 + jnp.cos(jnp.pi * done))
    elif schedule == "wsd":
        left = jnp.clip((hyper.total - t) / hyper.decay, 0.0, 1.0)
        shape = hyper.final + (1 - hyper.final) * left
    elif schedule == "rsqrt":
        shape = jnp.sqrt(hyper.warmup / jnp.maximum(t, hyper.warmup))
    else:
        shape = jnp.ones(())
    return hyper.lr * rise * shape
