"""One body for many layers: what it is given of each, how it is repeated, and the order of what it emits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.node import Node


def split(nodes: list[Node]) -> tuple[list[Any], list[Any], list[Any]]:
    """Each block's graph, its parameters that have 'layers' in front, and those that depth shares."""
    parts: list[Any] = [nnx.split(node, lambda _, leaf: leaf.axes[0] == "layers", ...) for node in nodes]
    return [graph for graph, *_ in parts], [held for _, held, _ in parts], [shared for *_, shared in parts]


def each(scan: bool, body: Callable, carry: Any, layers: Any, times: int) -> tuple[Any, Any]:
    """`body` over the leading axis of `layers`, scanned or unrolled: the last carry, and what it emits, stacked."""
    if scan:
        return jax.lax.scan(body, carry, layers, length=times)
    emitted = []
    for i in range(times):
        carry, one = body(carry, jax.tree.map(lambda leaf, i=i: leaf[i], layers))
        emitted.append(one)
    return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *emitted)


def remat(body: Callable, config: ModelConfig) -> Callable:
    """`body` with what its backward pass recomputes as `config.remat` says."""
    if config.remat == "none":
        return body
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if config.remat == "dots" else None
    return jax.checkpoint(body, policy=policy, prevent_cse=not config.scan)


def interleaved(parts: list[Any]) -> Any:
    """n trees with a leading axis of `times` as one of times x n: the order of the layers."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1).reshape(-1, *leaves[0].shape[1:]), *parts)


def concatenated(parts: list[Any]) -> Any:
    """Trees one behind the other, along the leading axis; None of none."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
