"""The declared parameters as flax holds them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.param import Param, Tree


class Node(nnx.Module):
    """A node of the declaration: its parameters as `nnx.Param`s with their axes and role, its nodes as `Node`s.

    Weights are float32 and cast to the compute dtype where they are used.
    """

    def __init__(self, tree: Tree, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = nnx.static(config)
        for name, value in tree.items():
            if isinstance(value, Param):
                setattr(self, name, nnx.Param(draw(value, rngs.params()), axes=value.axes, role=value.role))
            else:
                setattr(self, name, Node(value, config, rngs))

    def weight(self, name: str) -> Array:
        """A parameter in the compute dtype."""
        return self.exact(name).astype(self.config.dtype)

    def exact(self, name: str) -> Array:
        """A parameter in float32."""
        return getattr(self, name)[...]

    def biased(self, name: str, x: Array) -> Array:
        """`x` plus a parameter along its last dimensions, where the declaration has one of that name."""
        return x + self.weight(name) if hasattr(self, name) else x

    def node(self, name: str) -> Node:
        """A node below this one."""
        below: Any = getattr(self, name)
        assert isinstance(below, Node)
        return below


def draw(param: Param, key: Array) -> Array:
    """The initial value of a parameter, float32."""
    if param.role == "vector" and param.std is None:
        return jnp.ones(param.shape, jnp.float32)
    if param.role == "bias" and param.std is None:
        return jnp.zeros(param.shape, jnp.float32)
    if param.std == 0:
        return jnp.zeros(param.shape, jnp.float32)
    std = param.fan_in**-0.5 if param.std is None else param.std
    return jax.random.normal(key, param.shape, jnp.float32) * std
