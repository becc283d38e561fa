"""Stages of a stack in which rows get shorter: a place of a stage stands for `stride` tokens in turn. No jax at import.

A document of n tokens has n // stride places, but at least one, and the last takes what is left over: so a packed
document is pooled as it is alone, and a row of `length` tokens has room for all in length // stride slots, whatever is
packed in it, but for documents that are shorter than the stride. Of a row that they fill too much the loss is no
number.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from encdec_jax.model.lazy import jnp
from encdec_jax.model.streams import Stream

if TYPE_CHECKING:
    from jax import Array


def places(tokens: float, stride: int) -> float:
    """Places of a document of so many tokens; of a mean of them, in proportion between the whole numbers around it."""
    low = floor(tokens)
    some, more = (max(n // stride, min(n, 1)) for n in (low, low + 1))
    return some + (tokens - low) * (more - some)


def slots(length: int, stride: int) -> int:
    """Slots of a row of `length` tokens."""
    return max(length // stride, min(length, 1))


def pooled(tokens: Stream, stride: int, unit: int) -> Stream:
    """The places of tokens [batch, length]: [batch, slots], each with its first token, and its position in `unit`s.

    Slots behind the last document's places have segment 0, as padding.
    """
    if stride == 1:
        return tokens
    place, first, slot = _placed(tokens, stride)
    n = slots(tokens.tokens.shape[1], stride)
    rows, at = jnp.arange(len(slot))[:, None], jnp.where(first, slot, n)
    every = tokens._replace(position=place * stride // unit)
    return Stream(*(jnp.zeros((len(slot), n), leaf.dtype).at[rows, at].set(leaf, mode="drop") for leaf in every))


def pool(x: Array, tokens: Stream, stride: int) -> Array:
    """Means of x [batch, length, d_model] over the tokens of each place: [batch, slots, d_model]; zeros of padding."""
    _, first, slot = _placed(tokens, stride)
    n, rows = slots(x.shape[1], stride), jnp.arange(len(x))[:, None]
    sums = jnp.zeros((len(x), n, x.shape[2])).at[rows, slot].add(x.astype(jnp.float32), mode="drop")
    number = jnp.zeros((len(x), n)).at[rows, slot].add(1.0, mode="drop")
    full = first.sum(axis=1)[:, None, None] > n
    return jnp.where(full, jnp.nan, sums / jnp.maximum(number, 1)[:, :, None]).astype(x.dtype)


def _placed(tokens: Stream, stride: int) -> tuple[Array, Array, Array]:
    """Of each token its place in its document, whether it is that place's first, and its slot; padding has none."""
    segment, position = jnp.asarray(tokens.segment), jnp.asarray(tokens.position)
    shown = segment != 0
    n = (segment[:, :, None] == segment[:, None, :]).sum(axis=2)
    place = jnp.minimum(position // stride, jnp.maximum(n // stride, 1) - 1)
    first = shown & (position == place * stride)
    return place, first, jnp.where(shown, first.cumsum(axis=1) - 1, segment.shape[1])
