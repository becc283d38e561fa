"""Softmax attention itself: the plain implementation, and where a fused kernel takes over."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from encdec_jax.model.kernels import Pattern, Told, cudnn, splash
from encdec_jax.model.placement import by_rows, parts
from encdec_jax.model.product import mixed, scored

HIDDEN = -1e30  # the score of a key that may not be seen: finite, so that a row of padding stays finite


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | Pattern | Told,
    kernel: str = "plain",
    bias: Array | None = None,
    scale: float | None = None,
    cap: float = 0.0,
    sinks: Array | None = None,
    drop: Callable[[Array], Array] | None = None,
) -> Array:
    """Scaled dot-product attention, grouped where there are fewer key heads than query heads.

    The one place where a fused kernel takes over (`encdec_jax.model.kernels`): splash attention for a pattern, else
    cuDNN's if that is the kernel. Scores and softmax are float32. The division by the softmax's sum comes after the
    product with the values: on a CPU that makes a training step up to 2.7 times as fast as `jax.nn.softmax` (LOG.md).

    Args:
      q: [batch, queries, n_heads, head_dim].
      k, v: [batch, keys, n_kv_heads, head_dim].
      mask: bool [batch, queries, keys], or a pattern, or what cuDNN is told of it.
      kernel: what `model.attention` was resolved to.
      bias: added to the scores, float32 [batch, n_heads, queries, keys].
      scale: that the scores are multiplied by, head_dim^-0.5 if None.
      cap: c, where scores z become c tanh(z / c) before the bias is added; 0 for none. Plain alone.
      sinks: scores of one more key a head, whose value is 0: float32 [n_heads]; None for none. Plain alone.
      drop: dropout of the softmax [batch, ...]; None for none. Fused kernels leave it out.

    Returns:
      [batch, queries, n_heads, head_dim]. The row of a query that may see nothing is finite and meaningless.
    """
    b, t, h, d = q.shape
    scale = d**-0.5 if scale is None else scale
    if isinstance(mask, Pattern):
        assert bias is None, "splash attention takes no bias"
        assert not cap, "splash attention takes no cap here"
        assert sinks is None, "splash attention takes no sinks here"
        return splash(q, k, v, mask, scale).astype(k.dtype)
    if kernel == "cudnn":
        assert not cap, "cuDNN's attention takes no cap"
        assert sinks is None, "cuDNN's attention takes no sinks"
        return cudnn(q, k, v, mask if isinstance(mask, Told) else Told(mask), scale, bias)
    assert not isinstance(mask, Told)
    if parts() > 1:  # each device has a part of the queries: those of a key's heads could not lie along time
        k, v, mask = *(jnp.repeat(x, h // k.shape[2], axis=2) for x in (k, v)), by_rows(mask)
    kv = k.shape[2]
    # Heads stand before time, and the query heads of one key head lie along time: batched matrix products of rank 4.
    q = jnp.moveaxis(q * scale, 2, 1).reshape(b, kv, h // kv * t, d)
    k, v = jnp.moveaxis(k, 2, 1), jnp.moveaxis(v, 2, 1)
    scores = scored(q, k)
    if cap:
        scores = cap * jnp.tanh(scores / cap)
    if bias is not None:
        scores = scores + bias.reshape(scores.shape)
    scores = jnp.where(jnp.tile(mask, (1, h // kv, 1))[:, None], scores, HIDDEN)
    most = scores.max(axis=-1, keepdims=True)
    if sinks is None:
        weights = jnp.exp(scores - jax.lax.stop_gradient(most))
        total = weights.sum(axis=-1, keepdims=True)
    else:
        sink = jnp.repeat(sinks.reshape(kv, h // kv), t, axis=1)[None, :, :, None]
        most = jax.lax.stop_gradient(jnp.maximum(most, sink))
        weights = jnp.exp(scores - most)
        total = weights.sum(axis=-1, keepdims=True) + jnp.exp(sink - most)
    weights = weights if drop is None else drop(weights)
    return jnp.moveaxis((mixed(weights.astype(v.dtype), v) / total).reshape(b, h, t, v.shape[-1]), 1, 2).astype(k.dtype)
