"""Blocks, and stacks of blocks: parameters stacked along 'layers', applied by `lax.scan` or unrolled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from encdec_jax.config import ModelConfig
from encdec_jax.model.declare import Tree
from encdec_jax.model.layers import MLP, Attention, RMSNorm, View, subtree

Emit = Literal["inputs", "outputs"]


class Block(nnx.Module):
    """A pre-norm block: self-attention, cross-attention where the declaration has it, MLP."""

    def __init__(self, tree: Tree, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.attn_norm = RMSNorm(subtree(tree, "attn_norm"), config, rngs)
        self.attn = Attention(subtree(tree, "attn"), config, rngs)
        self.cross = Attention(subtree(tree, "cross"), config, rngs) if "cross" in tree else None
        self.cross_norm = RMSNorm(subtree(tree, "cross_norm"), config, rngs) if "cross" in tree else None
        self.memory_norm = RMSNorm(subtree(tree, "memory_norm"), config, rngs) if "memory_norm" in tree else None
        self.mlp_norm = RMSNorm(subtree(tree, "mlp_norm"), config, rngs)
        self.mlp = MLP(subtree(tree, "mlp"), config, rngs)

    def __call__(self, x: Array, view: View, memory: Array | None, memory_view: View | None) -> Array:
        """One layer.

        Args:
          x: the stream's states [batch, length, d_model].
          view: how the stream sees its self-attention's keys; where memory is merged, memory's keys come first.
          memory: states of the source to attend to, [batch, source, width], or None.
          memory_view: how the stream sees the memory through the cross-attention sublayer; None without that sublayer.
        """
        h = keys = self.attn_norm(x)
        if memory is not None and self.cross is None:
            keys = jnp.concatenate([self.attn_norm(memory), h], axis=1)
        x = x + self.attn(h, keys, view)
        if self.cross is not None:
            assert self.cross_norm is not None
            assert memory is not None
            assert memory_view is not None
            source = memory if self.memory_norm is None else self.memory_norm(memory)
            x = x + self.cross(self.cross_norm(x), source, memory_view)
        return x + self.mlp(self.mlp_norm(x))


class Stack(nnx.Module):
    """Blocks with stacked parameters, and a final norm where the declaration has it."""

    def __init__(self, tree: Tree, config: ModelConfig, n_layers: int, rngs: nnx.Rngs) -> None:
        self.config = nnx.static(config)
        self.n_layers = n_layers
        self.blocks = Block(subtree(tree, "blocks"), config, rngs)
        self.norm = RMSNorm(subtree(tree, "norm"), config, rngs) if "norm" in tree else None

    def __call__(
        self,
        x: Array,
        view: View,
        memory: Array | None = None,
        memory_view: View | None = None,
        *,
        by_layer: bool = False,
        emit: Emit | None = None,
    ) -> tuple[Array, Array | None]:
        """All layers, without the final norm.

        Args:
          x: [batch, length, d_model].
          view, memory, memory_view: as `Block` takes them.
          by_layer: memory has a leading 'layers' axis, and each layer reads its own.
          emit: also return what goes into each layer, or what comes out of it.

        Returns:
          the last layer's states, and the emitted states [layers, batch, length, d_model] or None.
        """
        graph, params = nnx.split(self.blocks)

        def body(x: Array, layer: tuple[Any, Array | None]) -> tuple[Array, Array | None]:
            own, layer_memory = layer
            y = nnx.merge(graph, own)(x, view, layer_memory if by_layer else memory, memory_view)
            return y, {"inputs": x, "outputs": y, None: None}[emit]

        layers = (params, memory if by_layer else None)
        body = remat(body, self.config)
        if self.config.scan:
            return jax.lax.scan(body, x, layers)
        states = []
        for i in range(self.n_layers):
            x, state = body(x, jax.tree.map(lambda leaf, i=i: leaf[i], layers))
            states.append(state)
        return x, None if emit is None else jnp.stack(states)


def normed(stack: Stack, x: Array) -> Array:
    """States [batch, length, d_model] behind the stack's final norm."""
    assert stack.norm is not None
    return stack.norm(x)


def remat(body: Callable, config: ModelConfig) -> Callable:
    """`body` with what its backward pass recomputes as `config.remat` says."""
    if config.remat == "none":
        return body
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if config.remat == "dots" else None
    return jax.checkpoint(body, policy=policy, prevent_cse=not config.scan)
