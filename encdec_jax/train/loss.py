"""The training loss: weighted cross-entropy with z-loss, float32 whatever the compute dtype."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from encdec_jax.evaluate.fair import token_nll


def weighted_sums(
    logits: Array, labels: Array, weights: Array, z_loss: float, smoothing: float = 0.0
) -> tuple[Array, Array]:
    """Sums over a batch, so that microbatches and shards add up exactly.

    The z-loss is z_loss * log(Z)^2 a token (PaLM, arXiv 2204.02311, section 5). With smoothing s a label stands for the
    distribution (1 - s) * label + s / vocab (Szegedy et al. 2016, arXiv 1512.00567, section 7).

    Args:
      logits: [rows, n, vocab].
      labels: int [rows, n].
      weights: float32 [rows, n].
      z_loss: weight of the z-loss.
      smoothing: share of a label that is spread evenly over the vocabulary.

    Returns:
      the sum to minimise (z-loss and smoothing included), and the sum of negative log-likelihoods in nats.
    """
    nll, log_z = token_nll(logits, labels)
    total = (nll * weights).sum()
    aim = total
    if smoothing:
        even = log_z - logits.astype(jnp.float32).mean(axis=-1)
        aim = (1 - smoothing) * total + smoothing * (even * weights).sum()
    return aim + z_loss * (log_z**2 * weights).sum(), total
