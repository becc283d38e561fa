"""Caches of keys and values, and the two pure steps of inference: take up a source, feed target tokens.

A prompt of P tokens is a source of P - 1 tokens, and its last token is the first of the target: `prefill` computes no
logits, and every architecture decodes alike. Both steps are the model's own blocks, so what they cost is what the
declaration says, and no more (dense counting; S source tokens, C = capacity):

prefill: the blocks' pass over the source (S x S pairs of query and key a layer): the encoder's, or the decoder's where
  blocks are shared or there is one stream. Then, for cross-attention or 'enc_dec_shared', the projection of the
  source's final (of 'layerwise', every layer's) states to keys and values by each decoder layer. Not so for
  'coordinated' and one stream: their own pass has just made those keys. There the last layer's queries, attention and
  MLP serve nobody; they are computed all the same, because one body serves all layers.
decode: every decoder weight but the source's keys and values on each token; attention to C slots and S source keys
  (one stream: to its S + C slots), or to as many slots as a window or a block shows at most; logits of each token.

Where one stream goes through a context first ('double_decoder'), both steps are passes through it and then through the
decoder: a token's keys of the context are made when it is fed, and their block hides them until the next one begins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from encdec_jax.errors import require
from encdec_jax.model.blocks import plans, source_stream
from encdec_jax.model.declare import edges
from encdec_jax.model.model import Model
from encdec_jax.model.seen import KeyValues, KVCache, put
from encdec_jax.model.streams import Stream


class CrossCache(NamedTuple):
    """Keys and values of the source, for each decoder layer; decoding reads them and never writes.

    Attributes:
      kv: in the compute dtype, [layers, batch, source, n_kv_heads, head_dim]; layers that make the same have one.
      stream: the source [batch, source].
    """

    kv: KeyValues
    stream: Stream


class Cache(NamedTuple):
    """All that decoding needs beside the parameters. One-stream architectures hold the source in `own`.

    Attributes:
      own: of the decoder's self-attention; and the states of sublayers in its place.
      cross: of a source with a stream of its own, or of a context, whose slots are those of `own`; else None.
      context: of a context's own self-attention, else None.
    """

    own: KVCache
    cross: CrossCache | None
    context: KVCache | None = None


# Logical axes. 'rows' lie along the batch's mesh axes, 'kv_heads' as in the parameters; the others are whole on every
# device.
_KEYS: Any = ("layers", "rows", "slots", "kv_heads", "head_dim")
_KV = KeyValues(_KEYS, _KEYS)
_STREAM = Stream(*[("rows", "slots")] * 4)
_SCALAR: Any = ()


def cache_axes(cache: Cache) -> Cache:
    """Logical axes of each array of a cache, in its shape."""

    def own(held: KVCache) -> KVCache:
        states = jax.tree.map(lambda leaf: ("layers", "rows", *["slots"] * (leaf.ndim - 2)), held.states)
        return KVCache(dict.fromkeys(held.kv, _KV), dict.fromkeys(held.stream, _STREAM), _SCALAR, states)

    cross = None if cache.cross is None else CrossCache(_KV, _STREAM)
    return Cache(own(cache.own), cross, None if cache.context is None else own(cache.context))


def prefill(graph: nnx.GraphDef, params: nnx.State, source: Stream, capacity: int) -> Cache:
    """Take up a source.

    Args:
      graph: `encdec_jax.model.model.graph(config)`.
      params: the model's parameters.
      source: [batch, source], as the architecture is trained on it; rows of fewer tokens are padded with segment 0.
      capacity: target tokens to make room for; static.

    Raises:
      UserError: the source is empty, or the capacity.
    """
    batch, length = source.tokens.shape
    require(length >= 1, "source length", length, "at least 1 token, which may be padding")
    require(capacity >= 1, "capacity", capacity, "at least 1 token")
    model: Model = nnx.merge(graph, params)
    context, states = model.context(source) if model.config.choices.context else (None, None)
    kv, kept = model.project_kv(source, states)
    own_keys = [edge for edge in edges(model.config) if edge.own and edge.query == "target"]
    reaches = plans(model.config)["decoder"].reaches("target")

    def empty(slots: int) -> KeyValues:
        shape = (own_keys[0].kv_heads, own_keys[0].head_dim) if own_keys else (0, 0)
        zeros = jnp.zeros((len(reaches), batch, slots, *shape), model.config.dtype)
        return KeyValues(zeros, zeros)

    if source_stream(model.config) == "source":
        assert kv is not None
        own = _held(Stream(*(leaf[:, :0] for leaf in source)), empty(0), reaches, capacity)
        first = Stream(*(leaf[:, :1] for leaf in source))
        shapes = jax.eval_shape(lambda: model.decode(first, source, kv, own.fed(first))[2])
        own = own._replace(states=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
        return Cache(own, CrossCache(kv, source))
    kv = empty(length) if kv is None else kv
    if context is None:
        return Cache(_held(source, kv, reaches, capacity)._replace(states=kept), None)
    of_context, of_own = (KeyValues(*(leaf[:, :, at] for leaf in kv)) for at in (slice(length), slice(length, None)))
    own = _held(source, of_own, reaches, capacity)
    seen = _held(source, context, plans(model.config)["encoder"].reaches("target"), capacity)
    room = KeyValues(*(jnp.pad(leaf, ((0, 0), (0, 0), (0, capacity), (0, 0), (0, 0))) for leaf in of_context))
    return Cache(own, CrossCache(room, own.stream[0]), seen)


def _held(tokens: Stream, kv: KeyValues, reaches: list[int], capacity: int) -> KVCache:
    """A cache of tokens [batch, n] and what each sublayer made of them, with room for `capacity` more."""
    batch, n = tokens.tokens.shape
    slots = n + capacity
    rings = _rings(reaches, slots)
    room = {r: r or slots for r in {0, *rings}}
    stream = {r: Stream(*(jnp.zeros((batch, m), leaf.dtype) for leaf in tokens)) for r, m in room.items()}
    empty = {
        r: KeyValues(*(jnp.zeros((rings.count(r), batch, room[r], *leaf.shape[3:]), leaf.dtype) for leaf in kv))
        for r in set(rings)
    }
    cache = KVCache(empty, stream, jnp.zeros((), jnp.int32))
    return cache.written(tokens, kv, rings) if n else cache


def _rings(reaches: list[int], slots: int) -> list[int]:
    """The r of each sublayer (`KVCache`): what sees as far back as there are slots keeps them all."""
    return [reach if reach < slots else 0 for reach in reaches]


def decode(graph: nnx.GraphDef, params: nnx.State, cache: Cache, token: Stream) -> tuple[Array, Cache]:
    """Feed the next token of each row, or several at once.

    Jit it with the cache donated, and the cache is updated in place.

    Args:
      graph, params: as `prefill` takes them.
      cache: of `prefill` or of the last call.
      token: [batch, n], of the source's segment; its positions continue those of the row's source.

    Returns:
      float32 logits [batch, n, vocab] of what follows each token, and the cache with the tokens in it. A compiled step
      cannot raise: where the cache has no room left for the tokens, the logits are NaN.

    Raises:
      UserError: there are more tokens than the cache has slots.
    """
    model: Model = nnx.merge(graph, params)
    own, cross, context = cache
    n, slots = token.tokens.shape[1], own.stream[0].tokens.shape[1]
    require(n <= slots, "tokens to decode", n, f"at most {slots}, the slots of the cache")
    if context is not None and cross is not None:
        made, seen = model.context(token, context.fed(token))
        context = context.written(token, made, _rings(plans(model.config)["encoder"].reaches("target"), slots))
        projected = zip(cross.kv, model.project_context(seen, token), strict=True)
        cross = CrossCache(KeyValues(*(put(old, new, own.used, axis=2) for old, new in projected)), context.stream[0])
    source, memory = (None, None) if cross is None else (cross.stream, cross.kv)
    states, new, kept = model.decode(token, source, memory, own.fed(token))
    # Layers only read the cache; it is written here, once for all of them, so that a donated one is written in place.
    written = own.written(token, new, _rings(plans(model.config)["decoder"].reaches("target"), slots))
    logits = jnp.where(written.used <= slots, model.logits(states), jnp.nan)
    return logits, Cache(written._replace(states=kept), cross, context)


def greedy(graph: nnx.GraphDef, params: nnx.State, source: Stream, first: Stream, steps: int) -> Array:
    """The most likely token, `steps` times: int32 [batch, steps], behind `first` [batch, 1], in one `lax.scan`.

    Raises:
      UserError: `steps` (static) is not positive.
    """
    require(steps >= 1, "steps", steps, "at least 1")

    def step(carry: tuple[Cache, Stream], _: None) -> tuple[tuple[Cache, Stream], Array]:
        cache, token = carry
        logits, cache = decode(graph, params, cache, token)
        best = logits.argmax(axis=-1).astype(token.tokens.dtype)
        return (cache, token._replace(tokens=best, position=token.position + 1)), best[:, 0]

    _, best = jax.lax.scan(step, (prefill(graph, params, source, steps), first), length=steps)
    return best.T
