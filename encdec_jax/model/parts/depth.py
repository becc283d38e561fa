"""Embeddings of steps through depth: what tells one repetition of a shared layer from the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jnp
from encdec_jax.model.param import Param, Tree
from encdec_jax.model.parts.sublayer import Residuals, Scope
from encdec_jax.model.seen import Out, Seen

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


@dataclass(frozen=True)
class Step:
    """A learned vector for each layer, added to what goes into it (Universal Transformer, arXiv 1807.03819).

    Drawn from N(0, 1), as embeddings are once they are scaled (tensorflow/mesh: N(0, d^-.5) times sqrt(d)).
    """

    reads: tuple[Reads, ...] = ()

    def group(self, scope: Scope) -> str:
        """Steps are counted apart."""
        return "steps"

    def declare(self, scope: Scope) -> Tree:
        """One vector, which each repetition has of its own."""
        d = scope.size.d_model
        row = Param((d,), ("norm",), "bias", d, d, self.group(scope), scope.streams, matmul=False, std=1.0, own=True)
        return {"row": row}

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """Nothing: the gradient of a sum reads neither part."""
        return Residuals(0, 0)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """The vector at every position of x [batch, length, d_model]."""
        return Out(jnp.broadcast_to(node.weight("row"), x.shape))
