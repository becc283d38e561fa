"""What a sublayer may look at beside its input, and what it gives. Activations are [batch, length, d_model]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jax, jnp
from encdec_jax.model.param import StreamName
from encdec_jax.model.streams import Stream

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.kernels import Pattern, Told
    from encdec_jax.model.parts.looked import Looked

T = TypeVar("T")


class View(NamedTuple):
    """How the queries of one stream see keys.

    Attributes:
      mask: bool [batch, queries, keys], or the pattern of it that splash attention takes, or what cuDNN's is told.
      query, key: (cos, sin) of RoPE for either, each [batch, length, 1, head_dim / 2]; None where nothing is rotated.
      bias: added to the scores, as `encdec_jax.model.parts.positions.Position.bias` gives it; or None.
    """

    mask: Array | Pattern | Told
    query: tuple[Array, Array] | None
    key: tuple[Array, Array] | None
    bias: Array | None = None


class KeyValues(NamedTuple):
    """What queries attend to: keys (rotated by RoPE) and values, each [batch, keys, n_kv_heads, head_dim]."""

    keys: Array
    values: Array


class Slots(NamedTuple):
    """What one attention of a layer has seen of its stream, and where what it makes now goes.

    Attributes:
      kv: keys and values of each slot, in the compute dtype; unwritten ones may hold anything finite.
      stream: the token of each slot, those being decoded included.
      at: as `put` takes it.
    """

    kv: KeyValues
    stream: Stream
    at: Array

    def write(self, new: KeyValues) -> KeyValues:
        """All that the tokens being decoded may see, they included."""
        return KeyValues(*(joined(old, add, self.at) for old, add in zip(self.kv, new, strict=True)))


class Feed(NamedTuple):
    """A cache as the tokens being decoded see it.

    Attributes:
      kv: as in `KVCache`, without them.
      stream: as in `KVCache`, they included.
      at: of each r, where they go, as `put` takes it.
      states: as in `KVCache`.
    """

    kv: Mapping[int, KeyValues]
    stream: Mapping[int, Stream]
    at: Mapping[int, Array]
    states: list[dict[str, Array]] | None = None


class KVCache(NamedTuple):
    """What a stream's self-attentions have seen, and room for more.

    An attention that sees no farther back than `r` positions keeps the keys of a position p in slot p % r of r; the
    others keep all keys, in the order in which they came, under r = 0.

    Attributes:
      kv: of each r, those of its sublayers [sublayers, batch, slots, n_kv_heads, head_dim].
      stream: of each r, the token of each slot [batch, slots]; under 0 all tokens, whether a sublayer keeps their keys
        or not. An unwritten slot's segment is 0, so that every mask hides it.
      used: slots written of those under 0, int32 [].
      states: what else sublayers have kept, by segment of the stack and by name, each with a leading axis of the times
        that the segment's period is applied; None where nothing was seen yet.
    """

    kv: Mapping[int, KeyValues]
    stream: Mapping[int, Stream]
    used: Array
    states: list[dict[str, Array]] | None = None

    def at(self, tokens: Stream) -> dict[int, Array]:
        """Where the next tokens [batch, n] go, of each r."""
        return {r: ring_slots(tokens, r) if r else self.used for r in self.stream}

    def fed(self, tokens: Stream) -> Feed:
        """As the next tokens [batch, n] see it."""
        at = self.at(tokens)
        stream = {r: _each(joined, held, tokens, at[r]) for r, held in self.stream.items()}
        return Feed(self.kv, stream, at, self.states)

    def written(self, tokens: Stream, new: KeyValues | None, rings: Sequence[int]) -> KVCache:
        """With the next tokens [batch, n] and what each sublayer, of an r in `rings`, made of them; without states."""
        at = self.at(tokens)
        stream = {r: _each(put, held, tokens, at[r]) for r, held in self.stream.items()}
        kv = {
            r: _each(put, held, chosen(new, rings, r), at[r], axis=2) for r, held in self.kv.items() if new is not None
        }
        return KVCache(kv, stream, self.used + tokens.tokens.shape[1])


def ring_slots(tokens: Stream, r: int) -> Array:
    """The slot of each token, int32 [batch, n]; r, which is none, of padding and of what later ones push out."""
    shown = tokens.segment != 0
    last = jnp.where(shown, tokens.position, -1).max(axis=1, keepdims=True)
    return jnp.where(shown & (tokens.position > last - r), tokens.position % r, r)


def chosen(kv: KeyValues, rings: Sequence[int], r: int) -> KeyValues:
    """Of keys and values of all sublayers, those of the sublayers that keep r."""
    if set(rings) == {r}:
        return kv
    places = np.array([i for i, ring in enumerate(rings) if ring == r])
    return KeyValues(*(leaf[places] for leaf in kv))


def joined(slots: Array, new: Array, at: Array, axis: int = 1) -> Array:
    """What queries of `new` see: as `put`, but that of several at once none pushes out what another sees."""
    several = at.ndim > 0 and new.shape[axis] > 1
    return jnp.concatenate([slots, new], axis=axis) if several else put(slots, new, at, axis)


def put(slots: Array, new: Array, at: Array, axis: int = 1) -> Array:
    """`slots` with `new` written along `axis`, behind the batch's: from index `at` [] on, or to `at` [batch, n]."""
    if at.ndim == 0:
        return jax.lax.dynamic_update_slice_in_dim(slots, new, at, axis)
    rows = jnp.arange(len(at))[:, None]
    where = (rows, at) if axis == 1 else (slice(None), rows, at)
    return slots.at[where].set(new, mode="drop")


def _each(write: Callable[..., Array], slots: T, new: T, at: Array, axis: int = 1) -> T:
    return jax.tree.map(lambda old, add: write(old, add, at, axis), slots, new)


class Seen(NamedTuple):
    """What a sublayer of one layer may look at.

    Attributes:
      stream: whose tokens go through it.
      tokens: they, [batch, length]: ids, positions, segments (0 is padding).
      layer: the number of the layer in its stack, from 0, int32 []; where depth shares weights, of the repetition.
      views: by what its queries look at.
      states: of the source, which it reads [batch, source, width]; None where there are none, or they are projected.
      memory: keys and values of those states, projected already.
      cache: the slots that self-attention sees instead of the stream alone.
      kept: keys and values that a layer before this one kept; None where none did.
      state: what it kept of the tokens before, in any form; None where there are none.
      norm: what states that it reads go through.
      longer: what its input was a mean of, where a stage begins (`encdec_jax.model.stages`); else None.
      look: whether an attention is to say where its queries look, which no training asks for.
      key: random keys [batch], one a row, for each of the sublayer's uses, by a number; None outside training. They
        follow from the run's seed, the update, the row, the stream and the layer: a restarted run draws the same, and
        so does one whose batch is divided otherwise.
    """

    stream: StreamName
    tokens: Stream
    layer: Array
    views: Mapping[tuple[Reads, ...], View]
    states: Array | None
    memory: KeyValues | None
    cache: Slots | None
    kept: KeyValues | None
    norm: Callable[[Array], Array]
    key: Callable[[int], Array] | None = None
    state: Any = None
    look: bool = False
    longer: Array | None = None


class Out(NamedTuple):
    """What a sublayer gives.

    Attributes:
      y: in the shape of its input.
      new: keys and values that it made of the stream's own states.
      kept: keys and values for the layers behind this one.
      state: what it is to be given with the tokens that follow, arrays whose first axis is the batch's. Zeros are to
        mean that nothing was seen.
      looked: where an attention's queries look, if that was asked for.
      loss: to be added to the training loss, in nats a loss token, float32 []; None for none.
      numbers: to be logged, float32 [], by name: means over the batch. Those of one name are averaged over layers.
    """

    y: Array
    new: KeyValues | None = None
    loss: Array | None = None
    numbers: Mapping[str, Array] = {}
    kept: KeyValues | None = None
    state: Any = None
    looked: Looked | None = None
