"""The attention sublayer: of a stream to itself, to the source's states, or to both at once."""

from __future__ import annotations

from dataclasses import dataclass

from encdec_jax.model.edge import Reads
from encdec_jax.model.param import Param, StreamName, Tree
from encdec_jax.model.parts.sublayer import Residuals, Scope


@dataclass(frozen=True)
class Attention:
    """Multi-head attention, with keys that query heads share in groups.

    Attributes:
      reads: what the queries of each stream look at, their own keys first; several of one stream share one softmax.
    """

    reads: tuple[Reads, ...]

    @property
    def own(self) -> bool:
        """Whether it has keys of the query's own pass."""
        return any(one.states == "own" for one in self.reads)

    def group(self, scope: Scope) -> str:
        """The part of the ledger that it is counted under."""
        return f"{scope.side} self-attention" if self.own else "cross-attention"

    def projected(self) -> tuple[StreamName, ...]:
        """The streams whose states become keys, once a kind of states."""
        found = dict.fromkeys((one.states != "own", one.key, one.states) for one in self.reads)
        return tuple(key for _, key, _ in sorted(found, key=lambda kind: kind[0]))

    def declare(self, scope: Scope) -> Tree:
        """Its four matrices."""
        size, group = scope.size, self.group(scope)
        d, h, kv, dim = size.d_model, size.n_heads, size.n_kv_heads, size.head_dim
        memory = d if self.own else scope.memory
        key = Param(
            (memory, kv, dim), ("embed", "kv_heads", "head_dim"), "matrix", memory, memory, group, self.projected()
        )
        queries = tuple(dict.fromkeys(one.query for one in self.reads))
        return {
            "q": Param((d, h, dim), ("embed", "heads", "head_dim"), "matrix", d, d, group, queries),
            "k": key,
            "v": key,
            "o": Param((h, dim, d), ("heads", "head_dim", "embed"), "matrix", h * dim, d, group, queries),
        }

    def kept(self, scope: Scope, tensor: int) -> Residuals:
        """Nothing but what its edges imply (`encdec_jax.compute.memory`)."""
        return Residuals(0, 0)
