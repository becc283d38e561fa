"""Matrix products whose gradients a CPU computes faster."""

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


def scored(q: Array, k: Array) -> Array:
    """Attention's scores, float32 [batch, heads, queries, keys], of q [batch, heads, queries, d] and k alike."""
    if _one_head(q):
        return _scored(q, k)
    return jnp.einsum("bkqd,bksd->bkqs", q, k, preferred_element_type=jnp.float32)


def mixed(w: Array, v: Array) -> Array:
    """What weights [batch, heads, queries, keys] make of v [batch, heads, keys, d]: float32 [batch, heads, queries, d].

    A CPU's fast kernel takes the products of one head, but not those of their gradient that sum over queries: XLA has
    it transpose the scores. Here the narrow operand is transposed, behind a barrier that keeps it so: 0.82 of a
    training step at d_model 8, 0.88 at 16 (`tools/bench gradient`); with several heads it is no faster.
    """
    if _one_head(w):
        return _mixed(w, v)
    return jnp.einsum("bkqs,bksd->bkqd", w, v, preferred_element_type=jnp.float32)


def _one_head(x: Array) -> bool:
    return x.shape[1] == 1 and x.dtype == jnp.float32


@jax.custom_vjp
def _scored(q: Array, k: Array) -> Array:
    return jnp.einsum("bkqd,bksd->bkqs", q, k)


@jax.custom_vjp
def _mixed(w: Array, v: Array) -> Array:
    return jnp.einsum("bkqs,bksd->bkqd", w, v)


def _scored_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    q, k = kept
    return jnp.einsum("bkqs,bksd->bkqd", g, k), _over_queries(g, q)


def _mixed_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    w, v = kept
    return jnp.einsum("bkqd,bksd->bkqs", g, v), _over_queries(w, g)


def _over_queries(s: Array, x: Array) -> Array:
    """[batch, 1, keys, d]: the sum over queries of s [batch, 1, queries, keys] times x [batch, 1, queries, d]."""
    narrow = jax.lax.optimization_barrier(x.mT)
    return jnp.einsum("bkdq,bkqs->bkds", narrow, s).mT


_scored.defvjp(lambda q, k: (_scored(q, k), (q, k)), _scored_backward)
_mixed.defvjp(lambda w, v: (_mixed(w, v), (w, v)), _mixed_backward)
