"""Norms of the residual stream, as values of `model.norm_kind`."""

from __future__ import annotations

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.param import Param, StreamName, Tree


def declare(config: ModelConfig, width: int, sees: tuple[StreamName, ...]) -> Tree:
    """A norm's parameters: a scale."""
    return {"scale": Param((width,), ("norm",), "vector", width, width, "norms", sees, matmul=False)}
