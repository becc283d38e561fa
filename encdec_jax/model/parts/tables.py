"""Embedding tables, which may serve as output heads too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.lazy import jnp
from encdec_jax.model.param import Param, StreamName

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


def declare(vocab: int, width: int, group: str, sees: tuple[StreamName, ...]) -> Param:
    """A table [vocab, d_model]."""
    return Param((vocab, width), ("vocab", "embed"), "table", width, width, group, sees, matmul=False)


def embed(node: Node, tokens: Array) -> Array:
    """Embeddings of tokens [batch, length], scaled to unit variance."""
    from encdec_jax.model.placement import by_rows, rows_whole

    table = node.weight("table")
    return by_rows(rows_whole(table)[tokens]) * jnp.asarray(table.shape[1] ** 0.5, table.dtype)


def logits(node: Node, x: Array) -> Array:
    """float32 logits [batch, length, vocab] of x [batch, length, d_model]."""
    from encdec_jax.model.placement import by_vocab

    found = by_vocab(jnp.einsum("btd,vd->btv", x, node.weight("table"), preferred_element_type=jnp.float32))
    scale = logit_scale(node.config)
    return found if scale == 1 else found * scale


def logit_scale(config: ModelConfig) -> float:
    """What logits are multiplied by: (base_width / d_model) ** 0.5 under muP, else 1 (`encdec_jax.train.transfer`)."""
    return (config.base_width / config.decoder.d_model) ** 0.5 if config.base_width else 1.0
