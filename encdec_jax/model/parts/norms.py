"""Norms of the residual stream, as values of `model.norm_kind`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.lazy import jax, jnp
from encdec_jax.model.param import Param, StreamName, Tree

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node

EPSILON = 1e-6


def declare(config: ModelConfig, width: int, sees: tuple[StreamName, ...]) -> Tree:
    """A norm's parameters: a scale, and for 'layer' a bias."""
    scale = Param((width,), ("norm",), "vector", width, width, "norms", sees, matmul=False)
    bias = Param((width,), ("norm",), "bias", width, width, "norms", sees, matmul=False)
    return {"scale": scale, "bias": bias} if config.norm_kind == "layer" else {"scale": scale}


def apply(node: Node, x: Array) -> Array:
    """x [..., d_model], normalised: RMSNorm (arXiv 1910.07467), or LayerNorm (arXiv 1607.06450)."""
    if node.config.norm_kind == "rms":
        return (rms(x) * node.exact("scale")).astype(x.dtype)
    centred = x.astype(jnp.float32) - x.astype(jnp.float32).mean(axis=-1, keepdims=True)
    return (rms(centred) * node.exact("scale") + node.exact("bias")).astype(x.dtype)


def rms(x: Array) -> Array:
    """X over its root mean square along the last axis, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON)
