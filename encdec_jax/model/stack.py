"""Blocks, and stacks of blocks: parameters stacked along 'layers', applied by `lax.scan` or unrolled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.layers import AttentionLayer, KeyValues, KVCache, MLPLayer, RMSNorm, View
from encdec_jax.model.param import Tree, subtree
from encdec_jax.model.placement import by_rows

Emit = Literal["inputs", "outputs", "keys"]


class Block(nnx.Module):
    """A pre-norm block: self-attention, cross-attention where the declaration has it, MLP."""

    def __init__(self, tree: Tree, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.attn_norm = RMSNorm(subtree(tree, "attn_norm"), config, rngs)
        self.attn = AttentionLayer(subtree(tree, "attn"), config, rngs)
        self.cross = AttentionLayer(subtree(tree, "cross"), config, rngs) if "cross" in tree else None
        self.cross_norm = RMSNorm(subtree(tree, "cross_norm"), config, rngs) if "cross" in tree else None
        self.memory_norm = RMSNorm(subtree(tree, "memory_norm"), config, rngs) if "memory_norm" in tree else None
        self.mlp_norm = RMSNorm(subtree(tree, "mlp_norm"), config, rngs)
        self.mlp = MLPLayer(subtree(tree, "mlp"), config, rngs)

    def __call__(
        self,
        x: Array,
        view: View,
        memory: Array | KeyValues | None,
        memory_view: View | None,
        cache: KVCache | None = None,
    ) -> tuple[Array, KeyValues]:
        """One layer.

        Args:
          x: the stream's states [batch, length, d_model].
          view: how the stream sees its self-attention's keys; where memory is merged, memory's keys come first.
          memory: what to attend to of the source: its states [batch, source, width], or their keys and values as
            `project_kv` gives them; or None.
          memory_view: how the stream sees the memory through the cross-attention sublayer; None without that sublayer.
          cache: the slots that self-attention sees instead of the stream alone. `view` is of the slots then (behind
            merged memory, which is projected already), and its `key` of the stream's own tokens.

        Returns:
          the stream's states, and the keys and values that its self-attention projected.
        """
        h = y = self.attn_norm(x)
        if isinstance(memory, Array) and self.cross is None:
            y = jnp.concatenate([self.attn_norm(memory), h], axis=1)
        q, new = self.attn.queries(h, view.query), self.attn.project_kv(y, view.key)
        seen = new if cache is None else cache.write(new)
        if isinstance(memory, KeyValues) and self.cross is None:
            seen = KeyValues(*(jnp.concatenate(both, axis=1) for both in zip(memory, seen, strict=True)))
        x = x + self.attn(q, seen, view)
        if self.cross is not None:
            assert self.cross_norm is not None
            assert memory is not None
            assert memory_view is not None
            q = self.cross.queries(self.cross_norm(x), memory_view.query)
            seen = self.project_kv(memory, memory_view.key) if isinstance(memory, Array) else memory
            x = x + self.cross(q, seen, memory_view)
        return x + self.mlp(self.mlp_norm(x)), new

    def project_kv(self, memory: Array, cos_sin: tuple[Array, Array]) -> KeyValues:
        """Keys and values of the source's states [batch, source, width], for the attention that reads them."""
        if self.cross is None:
            return self.attn.project_kv(self.attn_norm(memory), cos_sin)
        return self.cross.project_kv(memory if self.memory_norm is None else self.memory_norm(memory), cos_sin)


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
        memory: Array | KeyValues | None = None,
        memory_view: View | None = None,
        cache: KVCache | None = None,
        *,
        by_layer: bool = False,
        emit: Emit | None = None,
    ) -> tuple[Array, Any]:
        """All layers, without the final norm.

        Args:
          x: [batch, length, d_model].
          view, memory, memory_view, cache: as `Block` takes them; cache.kv has a leading 'layers' axis.
          by_layer: memory has a leading 'layers' axis, and each layer reads its own.
          emit: also return what goes into each layer, what comes out of it, or the keys and values it projected.

        Returns:
          the last layer's states, and what each layer emits, stacked: states [layers, batch, length, d_model] or
          `KeyValues` [layers, batch, length, n_kv_heads, head_dim]; else None.
        """
        graph, params = nnx.split(self.blocks)

        def body(x: Array, layer: tuple[Any, Any, KeyValues | None]) -> tuple[Array, Any]:
            own, layer_memory, kv = layer
            layer_cache = None if cache is None or kv is None else cache._replace(kv=kv)
            block = nnx.merge(graph, own)
            x = by_rows(x)
            y, new = block(x, view, layer_memory if by_layer else memory, memory_view, layer_cache)
            y = by_rows(y)
            return y, {"inputs": x, "outputs": y, "keys": new, None: None}[emit]

        layers = (params, memory if by_layer else None, None if cache is None else cache.kv)
        return self._each(remat(body, self.config), x, layers)

    def project_kv(self, memory: Array, cos_sin: tuple[Array, Array], *, by_layer: bool) -> KeyValues:
        """Every layer's `Block.project_kv` of the source's states: [layers, batch, source, n_kv_heads, head_dim]."""
        graph, params = nnx.split(self.blocks)

        def body(carry: None, layer: tuple[Any, Any]) -> tuple[None, KeyValues]:
            own, layer_memory = layer
            return None, nnx.merge(graph, own).project_kv(layer_memory if by_layer else memory, cos_sin)

        return self._each(body, None, (params, memory if by_layer else None))[1]

    def _each(self, body: Callable, carry: Any, layers: Any) -> tuple[Any, Any]:
        """`body` over the leading axis of `layers`, scanned or unrolled: the last carry, and what it emits, stacked."""
        if self.config.scan:
            return jax.lax.scan(body, carry, layers)
        emitted = []
        for i in range(self.n_layers):
            carry, one = body(carry, jax.tree.map(lambda leaf, i=i: leaf[i], layers))
            emitted.append(one)
        return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *emitted)


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
