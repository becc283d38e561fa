"""What stands between a stack's states and the output head: BERT's transform, in ModernBERT's form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.lazy import jax, jnp
from encdec_jax.model.param import Param, Tree
from encdec_jax.model.parts import norms

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


def declare(config: ModelConfig) -> Tree:
    """A square matrix, and a norm."""
    d = config.decoder.d_model
    dense = Param((d, d), ("embed", "context"), "matrix", d, d, "output transform", ("target",))
    return {"dense": dense, "norm": norms.declare(config, d, ("target",))}


def transformed(node: Node, x: Array) -> Array:
    """The norm of the exact GELU of a product of states x [batch, length, d_model]."""
    inner = jax.nn.gelu(jnp.einsum("btd,dc->btc", x, node.weight("dense")), approximate=False)
    return norms.apply(node.node("norm"), inner)
