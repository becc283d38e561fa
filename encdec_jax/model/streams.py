"""Token streams and the one mask formula. Works on numpy and jax arrays alike."""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any  # a numpy or jax array


class Stream(NamedTuple):
    """Rows of tokens that attend and are attended to. Each field is [batch, length].

    Attributes:
      tokens: int32 ids.
      position: int32 positions of the tokens within their document; RoPE turns by them, masks compare them.
      segment: int32; tokens see only their own segment. 0 is padding.
      open: bool; the whole segment may see this token, whatever its position.
    """

    tokens: Array
    position: Array
    segment: Array
    open: Array


def mask(query: Stream, key: Stream) -> Array:
    """Which key each query may see: bool [batch, query length, key length].

    Same segment, and (key open, or query not before key), and key not padding.
    """
    same = query.segment[:, :, None] == key.segment[:, None, :]
    ordered = query.position[:, :, None] >= key.position[:, None, :]
    return same & (key.open[:, None, :] | ordered) & (key.segment[:, None, :] != 0)


def opened(stream: Stream) -> Stream:
    """The same stream, every token open: how a decoder sees a source that precedes it whole."""
    return stream._replace(open=stream.segment != 0)
