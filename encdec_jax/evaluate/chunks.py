"""Sums over a batch of what is computed from logits, which are never held whole where they are large."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import PartitionSpec

from encdec_jax.mesh import ROWS, TOKENS, logit_chunks
from encdec_jax.model.model import Model
from encdec_jax.model.parts import tables

Sums = Callable[[Array, Array, Array], Any]  # of logits [rows, n, vocab], labels and weights [rows, n]


def summed(sums: Sums, model: Model, states: Array, labels: Array, weights: Array) -> Any:
    """`sums(model.logits(states), labels, weights)`, computed for as many positions at a time as `logit_chunks` says.

    Of several chunks each one's gradient is computed with it, so that no logits are kept or computed again. Each device
    cuts its own positions, and adds up its gradient of the head, which then crosses the wire once.

    Args:
      sums: what adds up over positions, with a weight of 0 for positions that are to add nothing. To be differentiated
        it returns the number to differentiate, in states and the model's weights, and another that is not.
      states: final states [rows, n, d_model].
      labels, weights: [rows, n].
    """
    rows, n = labels.shape
    chunks = logit_chunks(rows, n, model.config.outputs, dict(jax.sharding.get_abstract_mesh().shape))
    if chunks == 1:
        return sums(model.logits(states), labels, weights)
    given, labels, weights = _filled((model.contexts(states), labels, weights), _devices(TOKENS))
    graph, head = nnx.split(model.head or model.embed)

    def chunk(head: nnx.State, given: Any, labels: Array, weights: Array) -> Any:
        return sums(tables.logits(nnx.merge(graph, head), given), labels, weights)

    def total(head: nnx.State, *batch: Any) -> Any:
        def add(seen: Any, part: tuple[Any, ...]) -> tuple[Any, None]:
            return _add(seen, chunk(head, *part)), None

        parts = _cut(batch, chunks)
        return jax.lax.scan(add, _zeros(jax.eval_shape(chunk, head, *_first(parts))), parts)[0]

    def with_gradient(head: nnx.State, *batch: Any) -> Any:
        def add(seen: Any, part: tuple[Any, ...]) -> tuple[Any, Any]:
            value, back, other = jax.vjp(lambda head, x: chunk(head, x, *part[1:]), head, part[0], has_aux=True)
            by_head, by_given = back(jnp.ones_like(value))
            return _add(seen, (value, other, by_head)), by_given

        parts = _cut(batch, chunks)
        start = (*jax.eval_shape(chunk, head, *_first(parts)), jax.eval_shape(_float32, head))
        (value, other, by_head), by_given = jax.lax.scan(add, _zeros(start), parts)
        return value, other, by_head, jax.tree.map(lambda x: _joined(x, batch[1].shape[1]), by_given)

    def forward(head: nnx.State, *batch: Any) -> Any:
        value, other, by_head, by_given = _on_own_part(with_gradient)(head, *batch)
        return (value, other), (jax.tree.map(lambda g, w: g.astype(w.dtype), by_head, head), by_given)

    def backward(gradients: Any, by: Any) -> Any:
        return *jax.tree.map(lambda g: (g * by[0]).astype(g.dtype), gradients), None, None

    differentiable = jax.custom_vjp(_on_own_tokens(total))
    differentiable.defvjp(forward, backward)
    return differentiable(jax.tree.map(lambda w: w.astype(states.dtype), head), given, labels, weights)


def _filled(batch: Any, unit: int) -> Any:
    """Trees of arrays [rows, n, ...] with zeros up to a multiple of `unit` positions."""

    def filled(x: Array) -> Array:
        return jnp.pad(x, [(0, 0), (0, -x.shape[1] % unit), *[(0, 0)] * (x.ndim - 2)])

    return jax.tree.map(filled, batch)


def _cut(batch: tuple[Any, ...], chunks: int) -> Any:
    """Trees of arrays [rows, n, ...] as [chunks, rows, positions, ...]; zeros fill up the last chunk."""

    def cut(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(x.shape[0], chunks, -1, *x.shape[2:]), 1, 0)

    return jax.tree.map(cut, _filled(batch, -(-batch[1].shape[1] // chunks) * chunks))


def _joined(parts: Array, n: int) -> Array:
    """The inverse of `_cut`."""
    x = jnp.moveaxis(parts, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :n]


def _on_own_part(function: Callable[..., Any]) -> Callable[..., Any]:
    """`with_gradient`, of a device's rows and tokens, and its sums over all: left to itself, a loop sums each turn."""
    (data, fsdp), axes = ROWS, (*ROWS, TOKENS)
    if _devices(*axes) == 1:
        return function

    def scattered(leaf: Array) -> Array:  # the table's second dimension is d_model; a bias has none
        if leaf.ndim < 2:
            return jax.lax.psum(leaf, axes)
        return jax.lax.psum_scatter(jax.lax.psum(leaf, (data, TOKENS)), fsdp, scatter_dimension=1, tiled=True)

    def own(head: nnx.State, *batch: Any) -> Any:
        value, other, by_head, by_given = function(head, *batch)
        return *jax.lax.psum((value, other), axes), jax.tree.map(scattered, by_head), by_given

    def whole(head: nnx.State, *batch: Any) -> Any:
        part, one = PartitionSpec(ROWS, TOKENS), PartitionSpec()
        out = (one, one, jax.tree.map(lambda leaf: PartitionSpec(None, fsdp) if leaf.ndim > 1 else one, head), part)
        return jax.shard_map(
            own, in_specs=(one, part, part, part), out_specs=out, axis_names=set(axes), check_vma=False
        )(head, *batch)

    return whole


def _on_own_tokens(function: Callable[..., Any]) -> Callable[..., Any]:
    """`total`, of a device's rows and tokens where a mesh divides these: numbers are summed, and those of rows kept."""
    if _devices(TOKENS) == 1:
        return function

    def own(head: nnx.State, *batch: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.psum(x, TOKENS if x.ndim else (*ROWS, TOKENS)), function(head, *batch))

    def whole(head: nnx.State, *batch: Any) -> Any:
        part, one = PartitionSpec(ROWS, TOKENS), PartitionSpec()
        out = jax.tree.map(lambda x: PartitionSpec(ROWS) if x.ndim else one, jax.eval_shape(function, head, *batch))
        return jax.shard_map(
            own, in_specs=(one, part, part, part), out_specs=out, axis_names={*ROWS, TOKENS}, check_vma=False
        )(head, *batch)

    return whole


def _devices(*axes: str) -> int:
    """Of the mesh in use, along some axes."""
    return prod(jax.sharding.get_abstract_mesh().shape.get(axis, 1) for axis in axes)


def _add(one: Any, other: Any) -> Any:
    return jax.tree.map(jnp.add, one, other)


def _zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _first(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    return jax.tree.map(lambda part: part[0], parts)


def _float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
