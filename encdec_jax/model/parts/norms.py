"""Norms of the residual stream, as values of `model.norm_kind`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.lazy import jax, jnp
from encdec_jax.model.param import Param, StreamName, Tree
from encdec_jax.model.parts.again import again

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


def declare(config: ModelConfig, width: int, sees: tuple[StreamName, ...]) -> Tree:
    """A norm's parameters: a scale, and for 'layer' a bias."""
    scale = declare_scale(config, width, width, sees)
    bias = Param((width,), ("norm",), "bias", width, width, "norms", sees, matmul=False)
    return {"scale": scale, "bias": bias} if config.norm_kind == "layer" else {"scale": scale}


def declare_scale(config: ModelConfig, size: int, width: int, sees: tuple[StreamName, ...]) -> Param:
    """The scale of a norm of `size` numbers, in a stack of a width: 1, which `zero_centred` holds as 0."""
    std = 0.0 if config.zero_centred else None
    return Param((size,), ("norm",), "vector", size, width, "norms", sees, matmul=False, std=std)


def apply(node: Node, x: Array) -> Array:
    """x [..., d_model], normalised: RMSNorm (arXiv 1910.07467), or LayerNorm (arXiv 1607.06450)."""
    return again(node.config, partial(_normalised, node))(x)


def _normalised(node: Node, x: Array) -> Array:
    if node.config.norm_kind == "rms":
        return scaled(node, "scale", x)
    centred = x.astype(jnp.float32) - x.astype(jnp.float32).mean(axis=-1, keepdims=True)
    y = rms(centred, node.config.norm_epsilon) * scale(node, "scale")
    return (y + node.exact("bias") if node.config.norm_kind == "layer" else y).astype(x.dtype)


def scaled(node: Node, name: str, x: Array) -> Array:
    """RMSNorm of x along its last axis, by the scale that is declared under a name."""
    return (rms(x, node.config.norm_epsilon) * scale(node, name)).astype(x.dtype)


def scale(node: Node, name: str) -> Array:
    """What a declared scale multiplies by, float32."""
    held = node.exact(name)
    return 1 + held if node.config.zero_centred else held


def rms(x: Array, epsilon: float) -> Array:
    """X over its root mean square along the last axis, in float32; `epsilon` is added to the mean square."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)
