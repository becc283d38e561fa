"""How activations lie on the mesh in use (`jax.set_mesh`): by rows and tokens, and within attention by heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from encdec_jax.mesh import ROWS, RULES, TOKENS, axis_of


def parts() -> int:
    """Devices that the mesh in use divides the tokens of a row over."""
    return int(jax.sharding.get_abstract_mesh().shape.get(TOKENS, 1))


def by_rows(x: Array) -> Array:
    """The same x [rows, tokens, ...], divided by both over the mesh in use (`jax.set_mesh`); one device's stays as is.

    Tokens that the mesh does not divide evenly the compiler fills up, and leaves the filling out of every sum.

    Weights have d_model divided over 'fsdp'. Left to itself the compiler may divide the activations' d_model that way
    too, and rows over 'data' alone: it then adds up activations behind every product where it could have gathered the
    weights before it, and a device holds `fsdp` times the rows (LOG.md).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1 or x.shape[0] % (mesh.shape[ROWS[0]] * mesh.shape[ROWS[1]]):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(ROWS, TOKENS if parts() > 1 else None))


def whole(x: Array) -> Array:
    """The same keys or values [rows, tokens, heads, head_dim], all tokens on each device, whose queries look at them.

    Their gradient is added up where the tokens are, not on every device.
    """
    return _whole(x) if parts() > 1 else x


@jax.custom_vjp
def _whole(x: Array) -> Array:
    return _by_tokens(x, None)


def _by_tokens(x: Array, axis: str | None) -> Array:
    free = PartitionSpec.UNCONSTRAINED
    return jax.lax.with_sharding_constraint(x, PartitionSpec(free, axis, free, free))


_whole.defvjp(lambda x: (_whole(x), None), lambda _, g: (_by_tokens(g, TOKENS),))


def rows_whole(table: Array) -> Array:
    """The same table [vocab, d_model], its rows whole on each device: gathered over 'fsdp' before a lookup.

    Tokens are divided by rows over 'fsdp' too, and one axis can't divide both: the compiler would look up its part of
    d_model for all rows, then replicate the activations to divide them by rows.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return table
    return jax.lax.with_sharding_constraint(table, PartitionSpec(axis_of("vocab", table.shape[0], mesh.shape)))


def by_vocab(logits: Array) -> Array:
    """The same logits [rows, length, ..., vocab], divided by vocabulary too: unevenly, where the table could not be.

    The compiler fills up the last device's part and leaves the filling out of every sum.
    """
    mesh, axis = jax.sharding.get_abstract_mesh(), RULES["vocab"]
    if mesh.empty or logits.shape[-1] % mesh.shape[axis] == 0:
        return logits
    free = PartitionSpec.UNCONSTRAINED
    return jax.lax.with_sharding_constraint(logits, PartitionSpec(*[free] * (logits.ndim - 1), axis))


def by_heads(
    function: Callable[..., Array],
    make: Callable[[int], Any],
    along: str | None,
    q: Array,
    k: Array,
    v: Array,
    query_segment: Array,
    key_segment: Array,
) -> Array:
    """An attention on each device's rows, queries and heads: a fused kernel, which the compiler can't divide by itself.

    Args:
      function: of the kernel and the parts that a device has, to the shape of its q.
      make: the kernel, by how many heads a device has.
      along: the axis of the mesh that the kernel's queries are divided over; None where it is of a device's.
      q: [rows, queries, heads, head_dim]; `parts` divides the queries.
      k, v: [rows, keys, heads, head_dim].
      query_segment, key_segment: [rows, queries] and [rows, keys].
    """
    mesh, axis = jax.sharding.get_abstract_mesh(), RULES["heads"]
    if mesh.empty:
        return function(make(q.shape[2]), q, k, v, query_segment, key_segment)
    tensor, n = mesh.shape[axis], k.shape[2]
    if q.shape[2] % tensor:
        axis = None  # each device computes all heads
    elif n % tensor:  # key heads stand beside each other as often as it takes for a device to have those of its queries
        k, v = (jnp.repeat(x, tensor // gcd(n, tensor), axis=2) for x in (k, v))
    kernel = make(q.shape[2] // (tensor if axis else 1))
    held = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, along)))  # heads are all alike
    queries, keys = PartitionSpec(ROWS, TOKENS, axis), PartitionSpec(ROWS, None, axis)
    specs = (held, queries, keys, keys, PartitionSpec(ROWS, TOKENS), PartitionSpec(ROWS))
    divided = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=queries, check_vma=False)
    return divided(kernel, q, k, v, query_segment, key_segment)


def by_experts(function: Callable[..., Array], weights: Sequence[Array], *rows: Array) -> Array:
    """What a device's experts make of its rows, added up over the devices that experts are divided over.

    Args:
      function: of the number of the first expert that a device has, their weights, and rows.
      weights: [experts, ...].
      *rows: [rows, tokens, ...], the first in the shape of what `function` gives, for each token by itself.
    """
    mesh, axis = jax.sharding.get_abstract_mesh(), RULES["experts"]
    if mesh.size <= 1:
        return function(0, weights, *rows)
    here = weights[0].shape[0] // mesh.shape[axis]

    def part(weights: Sequence[Array], *rows: Array) -> Array:
        return jax.lax.psum(function(jax.lax.axis_index(axis) * here, weights, *rows), axis)

    whole = rows[0].shape[0] % (mesh.shape[ROWS[0]] * mesh.shape[ROWS[1]])
    tokens = None if rows[0].shape[1] % mesh.shape[TOKENS] else TOKENS
    row, one = PartitionSpec(None if whole else ROWS, tokens), PartitionSpec(axis)
    specs = (one, *[row] * len(rows))
    return jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=row, check_vma=False)(weights, *rows)
