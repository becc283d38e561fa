"""Optimizers from optax, without the learning rate: the step multiplies by it, so that it can be a traced argument."""

from __future__ import annotations

from typing import Any

import optax

from encdec_jax.config import OptimConfig


def optimizer(optim: OptimConfig, decays: Any) -> optax.GradientTransformation:
    """Gradients to the change of parameters at a learning rate of 1 (to be subtracted).

    'adamw' is decoupled (arXiv 1711.05101). 'adafactor' is T5's (arXiv 1804.04235 and 1910.10683, section 3.1.2):
    factored second moments, updates clipped to an RMS of 1 and scaled by the RMS of their parameter; so its learning
    rate is relative.

    Args:
      optim: the configuration.
      decays: booleans in the shape of the parameters: which ones weight decay applies to.
    """
    parts = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    if optim.name == "adamw":
        parts.append(optax.scale_by_adam(optim.b1, optim.b2, optim.eps))
    else:
        parts += [optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0), optax.scale_by_param_block_rms()]
    if optim.weight_decay:
        parts.append(optax.add_decayed_weights(optim.weight_decay, decays))
    return optax.chain(*parts)
