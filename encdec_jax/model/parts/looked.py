"""Where an attention's queries look: near themselves, and at which of the source's tokens.

The analyses of RedLLM (arXiv 2510.26622): how much of the attention is local, by position; whether cross-attention
looks at a few tokens, the same for all queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from encdec_jax.model.lazy import jax, jnp

if TYPE_CHECKING:
    from jax import Array

WINDOW = 5  # keys: the query's own and those before it, or to both sides of it where it sees what is behind it
MOST = 5  # of the source's tokens


class Looked(NamedTuple):
    """Of one attention and a batch without padding, means over heads, float32; NaN where there are no such keys.

    Attributes:
      local: weight on the `WINDOW` keys nearest to the query, of its own stream [batch, queries].
      source: weight on all of the source's keys [batch, queries].
      entropy: of the weights on the source's keys, scaled to a sum of 1, in bits [batch, queries].
      common: the same of their mean over queries [batch]: no more than the mean of `entropy` where all queries look at
        the same tokens.
      most: share of that mean on the `MOST` keys of most weight [batch].
    """

    local: Array
    source: Array
    entropy: Array
    common: Array
    most: Array


def look(weights: Array, own: int, position: Array, around: Array) -> Looked:
    """What the weights of an attention say.

    Args:
      weights: float32 [batch, queries, heads, keys], of which each query's sum to at most 1.
      own: the last keys so many are the queries' stream's, in the order of the queries; those in front the source's.
      position: of the queries, and of the own keys, int32 [batch, queries].
      around: whether a query sees what is behind it, bool [batch, queries].
    """
    rows, queries, _, keys = weights.shape
    absent = jnp.full((rows, queries), jnp.nan, jnp.float32)
    local, source, entropy = absent, absent, absent
    common = most = absent[:, 0]
    if own:
        away = position[:, :, None] - position[:, None, :]
        near = jnp.where(around[:, :, None], jnp.abs(away) <= WINDOW // 2, (away >= 0) & (away < WINDOW))
        local = (weights[..., keys - own :] * near[:, :, None]).sum(-1).mean(-1)
    if keys > own:
        of_source = weights[..., : keys - own]
        total = of_source.sum(-1, keepdims=True)
        source = total[..., 0].mean(-1)
        scaled = of_source / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
        entropy = _bits(scaled).mean(-1)
        mean = scaled.mean(axis=1)  # [batch, heads, keys]
        common = _bits(mean).mean(-1)
        most = jax.lax.top_k(mean, min(MOST, keys - own))[0].sum(-1).mean(-1)
    return Looked(local, source, entropy, common, most)


def _bits(shares: Array) -> Array:
    """Entropy of shares [..., keys], in bits."""
    return -(shares * jnp.log2(jnp.where(shares > 0, shares, 1.0))).sum(-1)
