"""Who attends to whom: what masks, counts, bytes, caches and kernels iterate over. No jax here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from encdec_jax.model.param import StreamName
from encdec_jax.model.sees import Fused, Sees, fused
from encdec_jax.model.stages import places, slots

States = Literal["own", "kept", "final", "layer"]


class Reads(NamedTuple):
    """One thing that an attention's queries look at.

    Attributes:
      query: the stream whose queries look.
      key: the stream whose keys they look at.
      states: which of its states the keys are made of: those of the query's own pass, by this layer ('own') or by one
        before it ('kept'); the final ones of the stack that reads the stream, or that stack's of the same layer.
      sees: which keys a query sees.
      position: how positions enter: a name of `encdec_jax.model.parts.positions.POSITIONS`.
      whole: one head has all of d_model, and there are no scores: a weight belongs to two positions.
      strides: tokens of the query's stream, and of the key's, that one place of either stands for
        (`encdec_jax.model.stages`). Positions count in the smaller of them.
    """

    query: StreamName
    key: StreamName
    states: States
    sees: Sees
    position: str
    whole: bool = False
    strides: tuple[int, int] = (1, 1)

    @property
    def fused(self) -> Fused | None:
        """What splash attention calls the pattern; None where it has no such attention."""
        return None if self.whole or self.strides != (1, 1) else fused(self.sees)

    @property
    def memory(self) -> bool:
        """Whether another pass has made the states."""
        return self.states in ("final", "layer")


@dataclass(frozen=True)
class Edge:
    """One thing that an attention sublayer's queries look at, in all layers that have these parameters.

    Attributes:
      path: of the sublayer in the declaration.
      reads: who looks at whom.
      joined: the query's stream holds the source in front of the target.
      layers, heads, kv_heads, head_dim: of the sublayer.
      copies: of its keys and values that a cache holds: one a layer, or one where all layers make the same.
      width, memory: of the states that queries, and that keys and values, are projected from.
      group: the part of the ledger that its parameters are counted under.
    """

    path: tuple[str, ...]
    reads: Reads
    joined: bool
    layers: int
    copies: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    memory: int
    group: str

    @property
    def query(self) -> StreamName:
        """The stream whose queries look."""
        return self.reads.query

    @property
    def key(self) -> StreamName:
        """The stream whose keys they look at."""
        return self.reads.key

    @property
    def own(self) -> bool:
        """Whether this layer makes keys of the query's own pass."""
        return self.reads.states == "own"

    @property
    def kept(self) -> bool:
        """Whether a layer before this one has made the keys."""
        return self.reads.states == "kept"

    def pairs(self, source: float, target: float) -> float:
        """Pairs of query and key that the mask shows in one segment of `source` and `target` tokens."""
        sees, (rough, fine) = self.reads.sees, self.reads.strides
        if self.key != self.query or rough != fine:
            return sees.across(places(source if self.query == "source" else target, rough), places(source, fine))
        source = places(source, fine)
        if self.query == "source":
            return sees.within(source, 0)
        return sees.within(source if self.joined else 0, target)

    def cells(self, length: dict[StreamName, int]) -> int:
        """Pairs of a query and a key in rows of such lengths."""
        (queries, keys), reads = self.reads.strides, self.reads
        return slots(length[reads.query], queries) * slots(length[reads.key], keys)

    def keys(self, source: float, target: float) -> float:
        """Keys that a cache holds of one segment of `source` and `target` tokens: its own as far back as it sees."""
        if self.key == "source":
            return places(source, self.reads.strides[1])
        tokens = source + target if self.joined else target
        return min(tokens, self.reads.sees.reach or tokens) if self.own else tokens
