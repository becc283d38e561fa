"""Embedding tables, which may serve as output heads too."""

from __future__ import annotations

from encdec_jax.model.param import Param, StreamName


def declare(vocab: int, width: int, group: str, sees: tuple[StreamName, ...]) -> Param:
    """A table [vocab, d_model]."""
    return Param((vocab, width), ("vocab", "embed"), "table", width, width, group, sees, matmul=False)
