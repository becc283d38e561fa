"""Embeddings of the two sides of a stream: what tells a source's tokens from a target's."""

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
class SideVectors:
    """A learned vector for open tokens, and one for the others (PALM's language embeddings, arXiv 2304.04052).

    Drawn from N(0, 1), as embeddings are once they are scaled.
    """

    reads: tuple[Reads, ...] = ()

    def group(self, scope: Scope) -> str:
        """They are counted apart."""
        return "sides"

    def declare(self, scope: Scope) -> Tree:
        """Two vectors."""
        d, group = scope.size.d_model, self.group(scope)
        return {"rows": Param((2, d), ("buckets", "norm"), "bias", d, d, group, scope.streams, matmul=False, std=1.0)}

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """Nothing: the gradient of a sum reads neither part."""
        return Residuals(0, 0)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """One of the two at every position of x [batch, length, d_model]."""
        rows = node.weight("rows")
        return Out(jnp.where(seen.tokens.open[:, :, None], rows[0], rows[1]))
