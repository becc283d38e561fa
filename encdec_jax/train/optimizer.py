"""Optimizers from optax, without the learning rate: the step multiplies by it, so that it can be a traced argument."""

from __future__ import annotations

from typing import Any

import jax
import optax
from flax import nnx

from encdec_jax.config import RunConfig
from encdec_jax.train.config import OptimConfig
from encdec_jax.train.transfer import factors


def optimizer(optim: OptimConfig, decays: Any, rates: Any = None) -> optax.GradientTransformation:
    """Gradients to the change of parameters at a learning rate of 1 (to be subtracted).

    'adamw' is decoupled (arXiv 1711.05101). 'adafactor' is T5's (arXiv 1804.04235 and 1910.10683, section 3.1.2):
    factored second moments, updates clipped to an RMS of 1 and scaled by the RMS of their parameter; so its learning
    rate is relative.

    Args:
      optim: the configuration.
      decays: booleans in the shape of the parameters: which ones weight decay applies to.
      rates: factors of the learning rate in the shape of the parameters (`rates_of`); None where all are 1. Weight
        decay is without them (`encdec_jax.train.transfer`).
    """
    parts = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    if optim.name == "adamw":
        parts.append(optax.scale_by_adam(optim.b1, optim.b2, optim.eps))
    else:
        parts += [optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0), optax.scale_by_param_block_rms()]
    if rates is not None:
        parts.append(optax.stateless(lambda updates, _: jax.tree.map(lambda u, rate: u * rate, updates, rates)))
    if optim.weight_decay:
        parts.append(optax.add_decayed_weights(optim.weight_decay, decays))
    return optax.chain(*parts)


def rates_of(run: RunConfig, params: nnx.State) -> nnx.State | None:
    """muP's factors of the learning rate in the shape of the parameters; None where all are 1."""
    found = factors(run.model, run.optim.name)
    if not found:
        return None
    placed = ((path, leaf.replace(found[tuple(map(str, path))])) for path, leaf in nnx.to_flat_state(params))
    return nnx.from_flat_state(placed)
