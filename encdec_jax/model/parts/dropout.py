"""Dropout (Srivastava et al. 2014): of what attention weighs values by, of what sublayers add, and of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encdec_jax.model.lazy import jax, jnp

if TYPE_CHECKING:
    from jax import Array

# Of the keys that `Seen.key` gives, those that no sublayer takes; and of a stream's pass, the one that no layer takes.
ADDED, EMBEDDED = 1 << 16, 1 << 16


def dropped(x: Array, rate: float, keys: Array | None) -> Array:
    """x [batch, ...], whose numbers are 0 with a probability, and else divided by that of staying.

    Each row draws by its own key, so that it draws the same wherever it stands in a batch.

    Args:
      x: what to drop of.
      rate: the probability; with 0 nothing is drawn.
      keys: of random numbers, [batch]; None outside training, where x stays.
    """
    if keys is None or not rate:
        return x
    stays = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(stays, x / (1 - rate), 0).astype(x.dtype)
