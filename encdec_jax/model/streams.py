"""Token streams and the one mask formula. Works on numpy and jax arrays alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from encdec_jax.model.arch import Arch

Array = Any  # a numpy or jax array


class Stream(NamedTuple):
    """Rows of tokens that attend and are attended to. Each field is [batch, length].

    Attributes:
      tokens: int32 ids.
      position: int32 positions of the tokens within their document; RoPE rotates by them, masks compare them.
      segment: int32; tokens see only their own segment. 0 is padding.
      open: bool; the whole segment may see this token, whatever its position.
    """

    tokens: Array
    position: Array
    segment: Array
    open: Array


class WholeStream(Stream):
    """Rows that are each one segment, without padding, its tokens in the order of their positions and none left out.

    What a type says holds while a program is traced: kernels need no mask to be shown that documents end.
    """

    __slots__ = ()


def stream(tokens: Array, first: int = 0, open: bool = False) -> Stream:
    """Rows of one document each, without padding: ids [batch, length] at positions from `first` on (numpy)."""
    ids = np.asarray(tokens, np.int32)
    position = np.broadcast_to(np.arange(first, first + ids.shape[1], dtype=np.int32), ids.shape)
    return Stream(ids, position, np.ones_like(ids), np.full(ids.shape, open))


def streams(arch: Arch, source: Array, target: Array) -> tuple[Stream | None, Stream]:
    """Source and target as an architecture takes them: apart, or joined into one stream (numpy).

    Args:
      arch: `config.choices`.
      source: ids [batch, source].
      target: ids [batch, target], which follow the source's.
    """
    read, written = stream(source, 0, arch.source_open), stream(target, np.shape(source)[1])
    if arch.own_stream:
        return read, written
    return None, Stream(*(np.concatenate(both, axis=1) for both in zip(read, written, strict=True)))


def mask(query: Stream, key: Stream) -> Array:
    """Which key each query may see: bool [batch, query length, key length].

    Same segment, and (key open, or query not before key), and key not padding.
    """
    same = query.segment[:, :, None] == key.segment[:, None, :]
    ordered = query.position[:, :, None] >= key.position[:, None, :]
    return same & (key.open[:, None, :] | ordered) & (key.segment[:, None, :] != 0)


def restarted(stream: Stream, around: Stream) -> Stream:
    """The same tokens, those that are not open at positions without the open ones of their segment `around` them."""
    same = (stream.segment[:, :, None] == around.segment[:, None, :]) & around.open[:, None, :]
    return stream._replace(position=stream.position - same.sum(axis=2) * ~stream.open)


def opened(stream: Stream) -> Stream:
    """The same stream, every token open: how a decoder sees a source that precedes it whole."""
    return stream._replace(open=stream.segment != 0)
