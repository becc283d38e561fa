"""What a sublayer may look at beside its input, and what it gives. Activations are [batch, length, d_model]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jax
from encdec_jax.model.param import StreamName
from encdec_jax.model.streams import Stream

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.kernels import Pattern
    from encdec_jax.model.parts.looked import Looked


class View(NamedTuple):
    """How the queries of one stream see keys.

    Attributes:
      mask: bool [batch, queries, keys], or the pattern of it that splash attention takes.
      query, key: (cos, sin) of RoPE for either, each [batch, length, 1, head_dim / 2]; None where nothing is rotated.
      bias: added to the scores, as `encdec_jax.model.parts.positions.Position.bias` gives it; or None.
    """

    mask: Array | Pattern
    query: tuple[Array, Array] | None
    key: tuple[Array, Array] | None
    bias: Array | None = None


class KeyValues(NamedTuple):
    """What queries attend to: keys (rotated by RoPE) and values, each [batch, keys, n_kv_heads, head_dim]."""

    keys: Array
    values: Array


class KVCache(NamedTuple):
    """What a stream's self-attention has seen, and room for more.

    Attributes:
      kv: keys and values of each slot, in the compute dtype; unwritten ones may hold anything finite.
      stream: the token of each slot [batch, slots], those being decoded included. An unwritten slot's segment is 0, so
        that every mask hides it.
      used: slots written, int32 []; the first of the tokens being decoded goes to the next.
      states: what else sublayers have kept, by segment of the stack and by name, each with a leading axis of the times
        that the segment's period is applied; None where nothing was seen yet.
    """

    kv: KeyValues
    stream: Stream
    used: Array
    states: list[dict[str, Array]] | None = None

    def write(self, new: KeyValues) -> KeyValues:
        """All slots of one layer, with those of the tokens being decoded."""
        both = zip(self.kv, new, strict=True)
        return KeyValues(*(jax.lax.dynamic_update_slice_in_dim(old, add, self.used, axis=1) for old, add in both))


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
    cache: KVCache | None
    kept: KeyValues | None
    norm: Callable[[Array], Array]
    key: Callable[[int], Array] | None = None
    state: Any = None
    look: bool = False


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
