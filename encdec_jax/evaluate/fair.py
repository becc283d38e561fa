"""The fair loss: every architecture scored on the same held-out suffixes under the same prefixes.

The unit is bits per byte of text in the suffix, so neither the objective, nor the architecture, nor the vocabulary
enters the comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from encdec_jax.data.packing import Batch


def token_nll(logits: Array, labels: Array) -> tuple[Array, Array]:
    """NLL in nats of labels [..., n], and log Z, both float32 [..., n], of logits [..., n, vocab]."""
    logits = logits.astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    return log_z - jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0], log_z


def row_nats(logits: Array, labels: Array, weights: Array) -> Array:
    """Nats of each row's scored labels, float32 [rows]: labels and weights [rows, n], logits [rows, n, vocab]."""
    return (token_nll(logits, labels)[0] * weights).sum(axis=-1)


def suffix_bits(score: Callable[[Batch], Array | np.ndarray], rows: Batch, batch_size: int) -> Callable[[], np.ndarray]:
    """Have each row's scored labels scored; what is given back waits for it: their bits, float64 [rows].

    Args:
      score: `row_nats` of a batch of `batch_size` rows; may return before the devices have finished.
      rows: all held-out rows (numpy).
      batch_size: rows at a time; the last batch is filled up with repeated rows, whose scores are dropped.
    """
    n = len(rows.labels)
    parts = []
    for first in range(0, n, batch_size):
        take = np.minimum(np.arange(first, first + batch_size), n - 1)
        parts.append(score(jax.tree.map(lambda leaf, take=take: leaf[take], rows)))
    return lambda: np.concatenate([np.asarray(part) for part in parts])[:n].astype(np.float64) / np.log(2)


def bits_per_byte(bits: np.ndarray, nbytes: np.ndarray) -> tuple[float, float]:
    """Bits per byte over all rows, and the standard error that the choice of held-out rows brings.

    The error is that of a ratio of sums (linearised), rows taken as independent.

    Args:
      bits: float64 [rows].
      nbytes: bytes of text in each row's suffix, [rows].
    """
    rate = bits.sum() / nbytes.sum()
    spread = np.sum((bits - rate * nbytes) ** 2) * len(bits) / max(len(bits) - 1, 1)
    return float(rate), float(np.sqrt(spread) / nbytes.sum())
