"""How activations lie on the mesh in use (`jax.set_mesh`): divided by rows, and within attention by heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

from encdec_jax.mesh import ROWS, RULES, axis_of


def by_rows(x: Array) -> Array:
    """The same x [rows, ...], divided by rows over the mesh in use (`jax.set_mesh`); one device's is left alone.

    Weights have d_model divided over 'fsdp'. Left to itself the compiler may divide the activations' d_model that way
    too, and rows over 'data' alone: it then adds up activations behind every product where it could have gathered the
    weights before it, and a device holds `fsdp` times the rows (LOG.md).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1 or x.shape[0] % (mesh.shape[ROWS[0]] * mesh.shape[ROWS[1]]):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(ROWS))


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


def by_heads(function: Callable[..., Array], q: Array, k: Array, v: Array, *segments: Array) -> Array:
    """An attention on each device's rows and heads: a fused kernel, which the compiler can't divide by itself.

    Args:
      function: of the parts that a device has, to the shape of its q.
      q, k, v: [rows, length, heads, head_dim].
      *segments: [rows, length].
    """
    mesh, axis = jax.sharding.get_abstract_mesh(), RULES["heads"]
    if mesh.empty:
        return function(q, k, v, *segments)
    tensor, n = mesh.shape[axis], k.shape[2]
    if q.shape[2] % tensor:
        axis = None  # each device computes all heads
    elif n % tensor:  # key heads stand beside each other as often as it takes for a device to have those of its queries
        k, v = (jnp.repeat(x, tensor // gcd(n, tensor), axis=2) for x in (k, v))
    heads, rows = PartitionSpec(ROWS, None, axis), PartitionSpec(ROWS)
    specs = (heads,) * 3 + (rows,) * len(segments)
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=heads, check_vma=False)(q, k, v, *segments)


def by_experts(function: Callable[..., Array], weights: Sequence[Array], *rows: Array) -> Array:
    """What a device's experts make of its rows, added up over the devices that experts are divided over.

    Args:
      function: of the number of the first expert that a device has, their weights, and rows.
      weights: [experts, ...].
      *rows: [rows, ...], the first in the shape of what `function` gives.
    """
    mesh, axis = jax.sharding.get_abstract_mesh(), RULES["experts"]
    if mesh.size <= 1:
        return function(0, weights, *rows)
    here = weights[0].shape[0] // mesh.shape[axis]

    def part(weights: Sequence[Array], *rows: Array) -> Array:
        return jax.lax.psum(function(jax.lax.axis_index(axis) * here, weights, *rows), axis)

    whole = rows[0].shape[0] % (mesh.shape[ROWS[0]] * mesh.shape[ROWS[1]])
    row, one = PartitionSpec(None if whole else ROWS), PartitionSpec(axis)
    specs = (one, *[row] * len(rows))
    return jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=row, check_vma=False)(weights, *rows)
