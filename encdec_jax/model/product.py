"""A matrix product whose gradient a CPU computes faster."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


@jax.custom_vjp
def product(x: Array, w: Array) -> Array:
    """x [batch, length, n] @ w [n, m], with a gradient that a CPU computes faster: 0.86 of a training step (LOG.md).

    The weight's gradient sums over tokens, for which a CPU copies the left operand transposed, and fuses into that
    strided copy whatever computes the operand. JAX writes (g^T x)^T, where g is an MLP's widest array and the whole
    derivative of its activation; here the narrower operand stands left. On a TPU or GPU both are one program.
    """
    return x @ w


def _product_forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ w, (x, w)


def _product_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = kept
    n, m = w.shape
    by_w = jnp.einsum("btn,btm->nm", x, g) if n <= m else jnp.einsum("btm,btn->mn", g, x).T
    return g @ w.T, by_w


product.defvjp(_product_forward, _product_backward)
