"""The feed-forward sublayer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jax, jax_version
from encdec_jax.model.param import Param, Tree
from encdec_jax.model.parts.sublayer import Residuals, Scope
from encdec_jax.model.seen import Out, Seen

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node

TANH_SINCE = (0, 11, 2)  # of tanh, and so of GELU, JAX keeps only the derivative for the backward pass


@dataclass(frozen=True)
class MLP:
    """SwiGLU (Shazeer, arXiv 2002.05202), or GELU (arXiv 1606.08415) in its tanh form."""

    reads: tuple[Reads, ...] = ()

    def group(self, scope: Scope) -> str:
        """All MLPs are counted together."""
        return "MLPs"

    def declare(self, scope: Scope) -> Tree:
        """Its two or three matrices."""
        d, d_ff, sees = scope.size.d_model, scope.size.d_ff, scope.streams
        up = Param((d, d_ff), ("embed", "mlp"), "matrix", d, d, self.group(scope), sees)
        down = Param((d_ff, d), ("mlp", "embed"), "matrix", d_ff, d, self.group(scope), sees)
        gate: Tree = {"gate": up} if scope.config.mlp == "swiglu" else {}
        return {**gate, "up": up, "down": down}

    def kept(self, scope: Scope, tensor: int) -> Residuals:
        """The products and what the activation's derivative reads."""
        config, d_ff = scope.config, scope.size.d_ff / tensor
        none = 5 if config.mlp == "gelu" and jax_version() >= TANH_SINCE else 6
        return Residuals(none * d_ff, (2 if config.mlp == "swiglu" else 1) * d_ff)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """x [batch, length, d_model], transformed; the shape stays."""
        from encdec_jax.model.product import product

        up = product(x, node.weight("up"))
        swiglu = node.config.mlp == "swiglu"
        gate = jax.nn.silu(product(x, node.weight("gate"))) * up if swiglu else jax.nn.gelu(up, approximate=True)
        return Out(product(gate, node.weight("down")))
