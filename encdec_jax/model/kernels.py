"""Fused attention: Pallas splash attention for TPUs, cuDNN flash attention for GPUs.

Neither holds the scores of all pairs in memory. Splash attention (arXiv 2205.14135 on TPUs) takes no mask as data: it
knows causal and full attention, and segments. `splash` builds the one mask formula of `encdec_jax.model.streams` from
these, exactly, prefixes of any length and packed rows included. cuDNN's takes any mask, as a bias, and skips no pair
that a bias hides: `told` says of a mask what can be said without one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas.ops.tpu import splash_attention as pallas

from encdec_jax.mesh import TOKENS
from encdec_jax.model.edge import Reads
from encdec_jax.model.placement import by_heads, parts
from encdec_jax.model.sees import Causal, Full, Fused
from encdec_jax.model.streams import Stream, WholeStream

LANES = 128  # a TPU's vectors: the lengths that splash attention takes are multiples
BLOCKS = (512, 256, 128)


class Pattern(NamedTuple):
    """A mask as splash attention can compute it. The tokens of a segment stand in the order of their positions.

    Attributes:
      sees: 'full': every key of the segment. 'causal': those not behind the query, where the last query stands beside
        the last key. 'prefix': those, and all open ones; open keys stand before the others of their segment.
      query_segment, key_segment: int32 [batch, queries] and [batch, keys]; 0 is padding.
      query_open, key_open: bool of the same shapes; only 'prefix' reads them.
    """

    sees: Fused
    query_segment: Array
    key_segment: Array
    query_open: Array
    key_open: Array


def pattern(sees: Fused, query: Stream, key: Stream) -> Pattern:
    """The pattern in which the queries of one stream see the keys of another."""
    return Pattern(sees, query.segment, key.segment, query.open, key.open)


def join_patterns(first: Pattern, second: Pattern) -> Pattern:
    """The pattern of a source that is seen whole, followed by a causal target: causal, with the source before it."""
    assert (first.sees, second.sees) == ("full", "causal")
    keys = (jnp.concatenate(pair, axis=1) for pair in zip(first[2::2], second[2::2], strict=True))
    return Pattern("causal", second.query_segment, next(keys), second.query_open, next(keys))


class Told(NamedTuple):
    """A mask as cuDNN's attention is told of it: by flags, whose hidden pairs it does not compute, and as a bias.

    Attributes:
      mask: bool [batch, queries, keys]; None where the flags say all of it.
      causal: no query sees a key behind its own place in the row.
      window: keys that a query sees at most, its own and those right in front of it; 0 for no such limit.
    """

    mask: Array | None
    causal: bool = False
    window: int = 0


def told(reads: Reads, query: Stream, key: Stream) -> Told:
    """What the queries of one stream see of another, or of their own: then `key` is `query`.

    In packed rows too the tokens of a segment stand in the order of their positions.
    """
    sees, causal = reads.sees, reads.sees.ordered and query is key
    if isinstance(query, WholeStream) and isinstance(key, WholeStream):
        if causal and isinstance(sees, Causal):
            return Told(None, causal, sees.window)
        if isinstance(sees, Full) and not sees.window:
            return Told(None)
    return Told(sees.mask(query, key), causal)


def cudnn(q: Array, k: Array, v: Array, told: Told, scale: float, bias: Array | None = None) -> Array:
    """`encdec_jax.model.softmax.attention` by cuDNN. Any mask will do: it enters as a bias shared by the heads.

    With a bias cuDNN's gradient takes even lengths alone: an odd one is padded with a token that nobody sees. A query
    alone is one of decoding, which has no gradient.
    """
    mask, queries, more = told.mask, q.shape[1], (q.shape[1] % 2, k.shape[1] % 2)
    if queries > 1 and any(more) and not (mask is None and bias is None):
        mask = jnp.ones((len(q), queries, k.shape[1]), bool) if mask is None else mask
        q, (k, v) = _longer(q, more[:1], 1), (_longer(x, more[1:], 1) for x in (k, v))
        mask, bias = _longer(mask, more, 1), None if bias is None else _longer(bias, more, 2)
    mixed = jax.nn.dot_product_attention(
        q,
        k,
        v,
        None if bias is None else bias.astype(q.dtype),
        None if mask is None else mask[:, None],
        scale=scale,
        is_causal=told.causal,
        local_window_size=(told.window - 1, 0) if told.window else None,
        implementation="cudnn",
    )
    return mixed[:, :queries]


def _longer(x: Array, more: tuple[int, ...], axis: int) -> Array:
    """With so many zeros behind each of the axes from `axis` on."""
    return jnp.pad(x, [(0, 0)] * axis + [(0, n) for n in more] + [(0, 0)] * (x.ndim - axis - len(more)))


def splash(q: Array, k: Array, v: Array, pattern: Pattern, scale: float, interpret: bool = False) -> Array:
    """`encdec_jax.model.softmax.attention` by splash attention, on each device's rows and heads.

    With a prefix, two passes and a choice: queries that are open see the open keys of their segment, all others see
    what is not behind them. That is the mask formula, because open keys stand before the others.

    Args:
      q: [batch, queries, n_heads, head_dim].
      k, v: [batch, keys, n_kv_heads, head_dim].
      pattern: what each query sees.
      scale: that the scores are multiplied by.
      interpret: run the kernel's steps one by one on a CPU.
    """
    if pattern.sees != "prefix":
        return _pass(pattern.sees, interpret, q * scale, k, v, pattern.query_segment, pattern.key_segment)
    before = splash(q, k, v, pattern._replace(sees="causal"), scale, interpret)
    hidden = jnp.where(pattern.key_open, pattern.key_segment, -1)
    around = splash(q, k, v, pattern._replace(sees="full", key_segment=hidden), scale, interpret)
    return jnp.where(pattern.query_open[:, :, None, None], around, before)


def _pass(sees: str, interpret: bool, q: Array, k: Array, v: Array, query_segment: Array, key_segment: Array) -> Array:
    """One pass of the kernel. Lengths are padded to whole vectors of each device with keys that nobody sees."""
    (queries, keys), devices = (q.shape[1], k.shape[1]), parts()
    more_queries, more_keys = -queries % (LANES * devices), -keys % LANES
    shape = (queries + more_queries, keys + more_keys)
    here = shape[0] // devices, shape[1]
    # A device's part of a full mask is full: one kernel serves all. That of a causal mask depends on the device.
    causal = sees == "causal"
    mask = pallas.CausalMask(shape, offset=keys - queries) if causal else pallas.FullMask(here)

    def kernel(heads: int) -> Any:
        return pallas.make_splash_mha(
            pallas.MultiHeadMask([mask] * heads),
            block_sizes=_blocks(*here),
            head_shards=1,
            q_seq_shards=devices if causal else 1,
            interpret=interpret,
        )

    def mixed(kernel: Any, q: Array, k: Array, v: Array, *segments: Array) -> Array:
        q, k, v = (jnp.moveaxis(x, 2, 1) for x in (q, k, v))
        return jnp.moveaxis(jax.vmap(kernel)(q, k, v, pallas.SegmentIds(*segments)), 1, 2)

    def padded(x: Array, more: int, with_value: int = 0) -> Array:
        return jnp.pad(x, [(0, 0), (0, more), *[(0, 0)] * (x.ndim - 2)], constant_values=with_value)

    given = (padded(q, more_queries), padded(k, more_keys), padded(v, more_keys))
    segments = padded(query_segment, more_queries), padded(key_segment, more_keys, -1)
    return by_heads(mixed, kernel, TOKENS if causal else None, *given, *segments)[:, :queries]


def _blocks(queries: int, keys: int) -> pallas.BlockSizes:
    """The largest tiles that divide the lengths."""
    q, kv = (next(block for block in BLOCKS if n % block == 0) for n in (queries, keys))
    return pallas.BlockSizes(
        block_q=q,
        block_kv=kv,
        block_kv_compute=kv,
        block_q_dkv=q,
        block_kv_dkv=kv,
        block_kv_dkv_compute=kv,
        block_q_dq=q,
        block_kv_dq=kv,
    )
