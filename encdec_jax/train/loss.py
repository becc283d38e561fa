"""The training loss: weighted cross-entropy with z-loss, float32 whatever the compute dtype."""

from __future__ import annotations

from jax import Array

from encdec_jax.evaluate.fair import token_nll


def weighted_sums(logits: Array, labels: Array, weights: Array, z_loss: float) -> tuple[Array, Array]:
    """Sums over a batch, so that microbatches and shards add up exactly.

    The z-loss is z_loss * log(Z)^2 a token (PaLM, arXiv 2204.02311, section 5).

    Args:
      logits: [rows, n, vocab].
      labels: int [rows, n].
      weights: float32 [rows, n].
      z_loss: weight of the z-loss.

    Returns:
      the sum to minimise (z-loss included), and the sum of negative log-likelihoods in nats.
    """
    nll, log_z = token_nll(logits, labels)
    total = (nll * weights).sum()
    return total + z_loss * (log_z**2 * weights).sum(), total
