"""How positions enter a model: a table of values. `model.position` names one, and so does each edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jnp
from encdec_jax.model.param import Tree
from encdec_jax.model.parts.sublayer import Scope
from encdec_jax.model.streams import Stream

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


CosSin = tuple["Array", "Array"]


class Position:
    """No positions: what is seen is told apart by the mask alone."""

    pairs = False  # whether it turns pairs of numbers: head_dim is even
    biased = False  # whether scores get a bias, which splash attention does not take
    crosses = True  # whether `model.cross_position` 'same' gives it to cross-attention; merged keys always have it

    def declare(self, scope: Scope) -> Tree:
        """Parameters, one set a stack: of the stack that the tokens go through, or whose attention it is."""
        return {}

    def embed(self, node: Node | None, config: ModelConfig, stream: Stream, width: int) -> Array | None:
        """What is added to embeddings: [batch, length, width]; None for nothing. `node` holds what was declared."""
        return None

    def turn(self, config: ModelConfig, stream: Stream, head_dim: int) -> CosSin | None:
        """What queries or keys of a stream are rotated by; None for nothing."""
        return None

    def bias(
        self, node: Node | None, config: ModelConfig, reads: Reads, query: Stream, key: Stream, n_heads: int
    ) -> Array | None:
        """What is added to scores: float32 [batch, n_heads, queries, keys]; None for nothing.

        With a cache the queries are the tokens being decoded, and the keys its slots.
        """
        return None


class Rotary(Position):
    """RoPE (Su et al., arXiv 2104.09864), by the base `model.rope_theta`."""

    pairs = True

    def turn(self, config: ModelConfig, stream: Stream, head_dim: int) -> CosSin | None:
        """As `Position.turn`."""
        return rope(stream.position, head_dim, config.rope_theta)


POSITIONS: dict[str, Position] = {"rope": Rotary(), "none": Position()}


def rope(position: Array, head_dim: int, theta: float) -> CosSin:
    """Cosines and sines of RoPE, each float32 [batch, length, 1, head_dim / 2]."""
    frequency = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angle = position[:, :, None, None].astype(jnp.float32) * frequency
    return jnp.cos(angle), jnp.sin(angle)


def apply_rope(x: Array, cos_sin: CosSin | None) -> Array:
    """Rotate the halves of each head of x [batch, length, heads, head_dim] against each other."""
    if cos_sin is None:
        return x
    cos, sin = cos_sin
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
