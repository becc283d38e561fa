"""Embedding tables, which may serve as output heads too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.lazy import jnp
from encdec_jax.model.param import Param, StreamName
from encdec_jax.model.parts import softmaxes

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


def declare(vocab: int, width: int, group: str, sees: tuple[StreamName, ...], std: float | None = None) -> Param:
    """A table [vocab, d_model], drawn at d_model^-0.5 if `std` says nothing else."""
    return Param((vocab, width), ("vocab", "embed"), "table", width, width, group, sees, matmul=False, std=std)


def looked_up_std(config: ModelConfig) -> float | None:
    """How a table that ids are looked up in is drawn."""
    return 1.0 if config.embedding == "plain" else None


def embed(node: Node, tokens: Array) -> Array:
    """Embeddings of tokens [batch, length], of unit variance as drawn."""
    from encdec_jax.model.placement import by_rows, rows_whole

    return scaled(by_rows(rows_whole(node.weight("table"))[tokens]), node.config)


def scaled(x: Array, config: ModelConfig) -> Array:
    """Rows of a table, as they are looked up."""
    return x * jnp.asarray(x.shape[-1] ** 0.5, x.dtype) if config.embedding == "scaled" else x


def logits(node: Node, x: Array | softmaxes.Contexts) -> Array:
    """float32 logits [batch, length, vocab] of x [batch, length, d_model], or of the contexts of several softmaxes."""
    if isinstance(x, softmaxes.Contexts):
        return softmaxes.mixed(_logits(node, x.context), x.log_share)
    return _logits(node, x)


def _logits(node: Node, x: Array) -> Array:
    from encdec_jax.model.placement import by_vocab

    found = by_vocab(jnp.einsum("...d,vd->...v", x, node.weight("table"), preferred_element_type=jnp.float32))
    config = node.config
    scale = logit_scale(config)
    found = found if scale == 1 else found * scale
    found = node.biased("logit_bias", found)
    return config.logit_cap * jnp.tanh(found / config.logit_cap) if config.logit_cap else found


def logit_scale(config: ModelConfig) -> float:
    """What logits are multiplied by.

    Under muP (base_width / d_model) ** 0.5 (`encdec_jax.train.transfer`); d_model ** -0.5 where the head is a table
    that is drawn at 1; else 1.
    """
    if config.embedding == "plain" and config.tie in ("all", "decoder"):
        return config.decoder.d_model**-0.5
    return (config.base_width / config.decoder.d_model) ** 0.5 if config.base_width else 1.0
