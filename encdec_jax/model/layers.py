"""The layers that every architecture is built from. Activations are [batch, length, d_model].

Layers take the node of the parameter declaration that describes them (`encdec_jax.model.declare`), so shapes, axes and
initialisation stand in one place. Weights are float32 and cast to the compute dtype where they are used.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import logit_scale
from encdec_jax.model.kernels import Pattern, Sees, cudnn, join_patterns, pattern, splash
from encdec_jax.model.param import Param, Tree
from encdec_jax.model.placement import by_rows, rows_whole
from encdec_jax.model.streams import Stream, mask

HIDDEN = -1e30  # the score of a key that may not be seen: finite, so that a row of padding stays finite


class View(NamedTuple):
    """How the queries of one stream see the keys of another.

    Attributes:
      mask: bool [batch, queries, keys], or the pattern of it that splash attention takes.
      query, key: (cos, sin) of RoPE for the two streams, each [batch, length, 1, head_dim / 2].
    """

    mask: Array | Pattern
    query: tuple[Array, Array]
    key: tuple[Array, Array]


class KeyValues(NamedTuple):
    """What queries attend to: keys (rotated by RoPE) and values, each [batch, keys, n_kv_heads, head_dim]."""

    keys: Array
    values: Array


class KVCache(NamedTuple):
    """What a stream's self-attention has seen, and room for more.

    Attributes:
      kv: keys and values of each slot, in the compute dtype; unwritten ones may hold anything finite.
      stream: the token of each slot [batch, slots], those being decoded included. An unwritten slot's segment is 0, so
        the one mask formula hides it.
      used: slots written, int32 []; the first of the tokens being decoded goes to the next.
    """

    kv: KeyValues
    stream: Stream
    used: Array

    def write(self, new: KeyValues) -> KeyValues:
        """All slots of one layer, with those of the tokens being decoded."""
        both = zip(self.kv, new, strict=True)
        return KeyValues(*(jax.lax.dynamic_update_slice_in_dim(old, add, self.used, axis=1) for old, add in both))


def view(query: Stream, key: Stream, head_dim: int, theta: float, sees: Sees | None = None) -> View:
    """The view of `key` from `query` under the one mask formula and RoPE (Su et al., arXiv 2104.09864).

    With `sees`, which must say what the formula would, the mask is a `Pattern`.
    """
    shown: Array | Pattern = mask(query, key) if sees is None else pattern(sees, query, key)
    return View(shown, rope(query.position, head_dim, theta), rope(key.position, head_dim, theta))


def join_views(first: View, second: View) -> View:
    """The view from the same queries of the keys of `first` followed by those of `second`."""
    key = tuple(jnp.concatenate(pair, axis=1) for pair in zip(first.key, second.key, strict=True))
    one, other = first.mask, second.mask
    joined: Array | Pattern
    if isinstance(one, Pattern) or isinstance(other, Pattern):
        assert isinstance(one, Pattern)
        assert isinstance(other, Pattern)
        joined = join_patterns(one, other)
    else:
        joined = jnp.concatenate([one, other], axis=2)
    return View(joined, first.query, (key[0], key[1]))


def rope(position: Array, head_dim: int, theta: float) -> tuple[Array, Array]:
    """Cosines and sines of RoPE, each float32 [batch, length, 1, head_dim / 2]."""
    frequency = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angle = position[:, :, None, None].astype(jnp.float32) * frequency
    return jnp.cos(angle), jnp.sin(angle)


def apply_rope(x: Array, cos_sin: tuple[Array, Array]) -> Array:
    """Rotate the halves of each head of x [batch, length, heads, head_dim] against each other."""
    cos, sin = cos_sin
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def attention(q: Array, k: Array, v: Array, mask: Array | Pattern, kernel: str = "plain") -> Array:
    """Scaled dot-product attention, grouped where there are fewer key heads than query heads.

    The one place where a fused kernel takes over (`encdec_jax.model.kernels`): splash attention for a pattern, else
    cuDNN's if that is the kernel. Scores and softmax are float32. The division by the softmax's sum comes after the
    product with the values: on a CPU that makes a training step up to 2.7 times as fast as `jax.nn.softmax` (LOG.md).

    Args:
      q: [batch, queries, n_heads, head_dim].
      k, v: [batch, keys, n_kv_heads, head_dim].
      mask: bool [batch, queries, keys], or a pattern.
      kernel: what `model.attention` was resolved to.

    Returns:
      [batch, queries, n_heads, head_dim]. The row of a query that may see nothing is finite and meaningless.
    """
    if isinstance(mask, Pattern):
        return splash(q, k, v, mask).astype(k.dtype)
    if kernel == "cudnn":
        return cudnn(q, k, v, mask)
    b, t, h, d = q.shape
    kv = k.shape[2]
    # Heads stand before time, and the query heads of one key head lie along time: batched matrix products of rank 4.
    q = jnp.moveaxis(q * d**-0.5, 2, 1).reshape(b, kv, h // kv * t, d)
    k, v = jnp.moveaxis(k, 2, 1), jnp.moveaxis(v, 2, 1)
    scores = jnp.einsum("bkqd,bksd->bkqs", q, k, preferred_element_type=jnp.float32)
    scores = jnp.where(jnp.tile(mask, (1, h // kv, 1))[:, None], scores, HIDDEN)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    mixed = jnp.einsum("bkqs,bksd->bkqd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return jnp.moveaxis((mixed / total).reshape(b, h, t, d), 1, 2).astype(k.dtype)


class Layer(nnx.Module):
    """The parameters of one node of the declaration, as `nnx.Param`s that carry their logical axes."""

    def __init__(self, tree: Tree, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = nnx.static(config)
        for name, param in tree.items():
            assert isinstance(param, Param)
            setattr(self, name, nnx.Param(draw(param, rngs.params()), axes=param.axes, role=param.role))

    def weight(self, name: str) -> Array:
        """A parameter in the compute dtype."""
        return getattr(self, name)[...].astype(self.config.dtype)


def draw(param: Param, key: Array) -> Array:
    """The initial value of a parameter, float32."""
    if param.role == "vector":
        return jnp.ones(param.shape, jnp.float32)
    if param.role == "bias":
        return jnp.zeros(param.shape, jnp.float32)
    std = param.fan_in**-0.5 if param.std is None else param.std
    return jax.random.normal(key, param.shape, jnp.float32) * std


def rms(x: Array) -> Array:
    """X over its root mean square along the last axis, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


class RMSNorm(Layer):
    """RMSNorm (Zhang and Sennrich, arXiv 1910.07467) with a scale."""

    scale: nnx.Param

    def __call__(self, x: Array) -> Array:
        """x [..., d_model], normalised."""
        return (rms(x) * self.scale[...]).astype(x.dtype)


class Embed(Layer):
    """An embedding table [vocab, d_model], which may serve as the output head too."""

    def __call__(self, tokens: Array) -> Array:
        """Embeddings of tokens [batch, length], scaled to unit variance."""
        table = self.weight("table")
        return by_rows(rows_whole(table)[tokens]) * jnp.asarray(table.shape[1] ** 0.5, table.dtype)

    def logits(self, x: Array) -> Array:
        """float32 logits [batch, length, vocab] of x [batch, length, d_model]."""
        logits = jnp.einsum("btd,vd->btv", x, self.weight("table"), preferred_element_type=jnp.float32)
        scale = logit_scale(self.config)
        return logits if scale == 1 else logits * scale


class AttentionLayer(Layer):
    """Multi-head attention of x to y, in steps; it never knows whether they are the same stream."""

    def queries(self, x: Array, cos_sin: tuple[Array, Array]) -> Array:
        """Queries [batch, queries, n_heads, head_dim] of x [batch, queries, d_model], rotated by RoPE's (cos, sin)."""
        q = jnp.einsum("btd,dhk->bthk", x, self.weight("q"))
        if self.config.qk_norm:
            q = rms(q).astype(q.dtype)
        return apply_rope(q, cos_sin)

    def project_kv(self, y: Array, cos_sin: tuple[Array, Array]) -> KeyValues:
        """Keys, rotated by RoPE's (cos, sin), and values of y [batch, keys, width of the memory]."""
        k = jnp.einsum("bsd,dhk->bshk", y, self.weight("k"))
        v = jnp.einsum("bsd,dhk->bshk", y, self.weight("v"))
        if self.config.qk_norm:
            k = rms(k).astype(k.dtype)
        return KeyValues(apply_rope(k, cos_sin), v)

    def __call__(self, q: Array, kv: KeyValues, view: View) -> Array:
        """What queries find in keys and values: [batch, queries, d_model]."""
        mixed = attention(q, kv.keys, kv.values, view.mask, self.config.attention)
        return jnp.einsum("bthk,hkd->btd", mixed, self.weight("o"))


class MLPLayer(Layer):
    """The feed-forward sublayer: SwiGLU (Shazeer, arXiv 2002.05202), or GELU (arXiv 1606.08415) in its tanh form."""

    def __call__(self, x: Array) -> Array:
        """x [batch, length, d_model], transformed; the shape stays."""
        up = product(x, self.weight("up"))
        swiglu = self.config.mlp == "swiglu"
        hidden = jax.nn.silu(product(x, self.weight("gate"))) * up if swiglu else jax.nn.gelu(up, approximate=True)
        return product(hidden, self.weight("down"))


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
