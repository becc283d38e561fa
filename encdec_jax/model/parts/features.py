"""Performer's attention by positive random features, FAVOR+ (Choromanski et al., arXiv 2009.14794)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jax, jnp
from encdec_jax.model.param import Between, Param, Tree
from encdec_jax.model.parts.attention import Attention, project_kv, queries
from encdec_jax.model.parts.positions import POSITIONS
from encdec_jax.model.parts.sublayer import Residuals, Scope
from encdec_jax.model.seen import Out, Seen
from encdec_jax.model.streams import Stream

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node

CHUNK = 64  # tokens, at most, among which pairs are computed; those before and behind a chunk are one sum
STABLE = 60.0  # a key's exponent, at most: its features and their sums stay far below float32's largest number
EPSILON = 1e-6


class Carried(NamedTuple):
    """Of tokens: float32 sums of features times values [batch, n_kv_heads, features, head_dim], and of features."""

    values: Array
    features: Array


@dataclass(frozen=True)
class FeatureAttention:
    """Attention whose softmax is a kernel of features: exp(q k) is the mean of phi(q) phi(k) over random directions.

    phi(x) = exp(w x - |x|^2 / 2), of `model.random_features` directions w, orthogonal in blocks of head_dim, with norms
    as of Gaussian vectors: one draw, the same for all layers, heads, runs and seeds, which is never drawn anew. The
    paper's code subtracts a maximum over a row's keys, which tells of tokens that follow; here a key's exponent needs
    none, for it is at most |w|^2 / 2. Self-attention alone: cross-attention is the standard one (which attentions Tay
    et al. replaced is unverified).

    A row is cut into chunks of the greatest common divisor of its length and `CHUNK` tokens. Pairs are computed within
    a chunk; what stands before it, and behind it where that is seen, is one sum of its document, so that packed
    documents stay apart. For decoding the sum takes the place of keys and values.

    Attributes:
      own: what each stream's tokens see of it: all, what is not behind them, or what is open besides.
    """

    own: tuple[Reads, ...]
    reads: tuple[Reads, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """Its own, and those of what turns its queries and keys."""
        turning = POSITIONS[self.own[0].position].options
        return ("random_features", "qk_norm", "qk_scaled_norm", "v_norm", "score_scale", *turning)

    def group(self, scope: Scope) -> str:
        """As attention to the stream itself."""
        return Attention(self.own).group(scope)

    def declare(self, scope: Scope) -> Tree:
        """As attention."""
        tree = Attention(self.own).declare(scope)
        q = tree["q"]
        assert isinstance(q, Param)
        return {**tree, "q": replace(q, between=partial(self._products, scope))}

    def _products(self, scope: Scope, length: int) -> tuple[Between, ...]:
        """Those of a token in a row of `length`: features, sums and their reading, pairs within a chunk."""
        size, m, chunk = scope.size, scope.config.random_features, gcd(length, CHUNK)
        d, h, kv = size.head_dim, size.n_heads, size.n_kv_heads
        sums, pairs = self._ways() * 2 * m * d * (h + kv), 2 * chunk * (m + d) * h
        return Between(2 * m * d * (h + kv), 1, ("full",)), Between(sums + pairs, 2, ("full", "dots"))

    def _ways(self) -> int:
        """Sides of a chunk that are seen."""
        return 1 if self.own[0].sees.fused == "causal" else 2

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """Projections, features and the sums of whole chunks; as state one sum, in float32."""
        size, m, number = scope.size, scope.config.random_features, 4 if scope.config.dtype == "float32" else 2
        d, heads, kv, chunk = size.head_dim, size.n_heads, size.n_kv_heads, gcd(length, CHUNK)
        projected = d * (heads + 2 * kv)
        away = self._ways() * (m * (heads + kv) + m * d * kv / chunk)
        inside = (2 * m * (heads + kv) + away + chunk * heads + d * heads) * 4 / number
        dots = projected + m * (heads + kv) * 4 / number
        return Residuals((projected + inside) / tensor, dots / tensor, kv * m * (d + 1) * 4 / number)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """What the queries of x [batch, length, d_model] find. The state is the sum over the tokens before."""
        config, tokens = node.config, seen.tokens
        reads = next(one for one in self.own if one.query == seen.stream)
        turn = POSITIONS[reads.position].turn(config, tokens, node.weight("q").shape[-1])
        q, (k, v) = queries(node, x, turn), project_kv(node, x, turn)
        scale = (config.score_scale or q.shape[-1] ** -0.5) ** 0.5
        w, away = directions(config.random_features, q.shape[-1])
        q, k = (scale * one.astype(jnp.float32) for one in (q, k))
        shown = (tokens.segment != 0)[:, :, None, None]
        raised = jnp.einsum("bthd,md->bthm", q, w)
        phi_q = jnp.exp(raised - jax.lax.stop_gradient(raised.max(axis=-1, keepdims=True))) + EPSILON
        raised = jnp.einsum("bthd,md->bthm", k, w) - (k**2).sum(axis=-1, keepdims=True) / 2 - away
        phi_k = jnp.where(shown, jnp.exp(raised) + EPSILON, 0)
        before = None if seen.state is None else Carried(*seen.state)
        y, after = attended(phi_q, phi_k, v.astype(jnp.float32), tokens, reads, before)
        y = jnp.einsum("bthk,hkd->btd", y.astype(x.dtype), node.weight("o"))
        return Out(node.biased("o_bias", y), state=tuple(after))


@cache
def directions(n: int, d: int) -> tuple[np.ndarray, float]:
    """The random directions [n, d], and what keys' exponents are lowered by: at most |w|^2 / 2, they stay `STABLE`."""
    draw = np.random.default_rng(0)
    blocks = []
    for _ in range(-(-n // d)):
        block, triangle = np.linalg.qr(draw.standard_normal((d, d)))
        blocks.append((block * np.sign(np.diag(triangle))).T)  # without the signs some directions are likelier
    norms = np.linalg.norm(draw.standard_normal((n, d)), axis=1, keepdims=True)
    return (norms * np.concatenate(blocks)[:n]).astype(np.float32), max(0.0, float((norms**2).max()) / 2 - STABLE)


def attended(
    q: Array, k: Array, v: Array, tokens: Stream, reads: Reads, before: Carried | None
) -> tuple[Array, Carried]:
    """Values' means by weights q k, over what each token sees, and the sums that tokens behind the row go on from.

    Args:
      q: features [batch, length, n_heads, features], float32.
      k: the same of keys [batch, length, n_kv_heads, features], zeros of padding.
      v: [batch, length, n_kv_heads, head_dim], float32.
      tokens: [batch, length].
      reads: what they see.
      before: sums over the tokens before the row, of the document that it begins with.

    Returns:
      [batch, length, n_heads, head_dim]; what padding finds is meaningless.
    """
    b, t, kv, m = k.shape
    n = gcd(t, CHUNK)

    def chunks(x: Array) -> Array:
        return x.reshape(b, t // n, n, *x.shape[2:])

    of = chunks(_filled(tokens.segment))
    cut = Stream(*(leaf.reshape(b * t // n, n) for leaf in tokens))
    mask = reads.sees.mask(cut, cut).reshape(b, t // n, n, n)
    q, k, v = chunks(q.reshape(b, t, kv, -1, m)), chunks(k), chunks(v)
    pairs = jnp.where(mask[:, :, None, None], jnp.einsum("bnqkgm,bnskm->bnkgqs", q, k), 0)
    found, weight = jnp.einsum("bnkgqs,bnskd->bnqkgd", pairs, v), jnp.moveaxis(pairs.sum(axis=-1), -1, 2)
    if before is None:
        before = Carried(jnp.zeros((b, kv, m, v.shape[-1])), jnp.zeros((b, kv, m)))
    after, ways = before, [(k, False)]
    if reads.sees.fused != "causal":
        opened = tokens.open if reads.sees.fused == "prefix" else tokens.segment != 0
        ways.append((k * chunks(opened)[..., None, None], True))
    for keys, back in ways:
        sums, whose, end = _carried(keys, v, of, jax.tree.map(jnp.zeros_like, before) if back else before, back)
        mine = q * (of == whose[:, :, None])[..., None, None, None]
        found += jnp.einsum("bnqkgm,bnkmd->bnqkgd", mine, sums.values)
        weight += (mine * sums.features[:, :, None, :, None]).sum(axis=-1)
        after = after if back else end
    y = found / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)[..., None]
    return y.reshape(b, t, -1, v.shape[-1]), after


def _carried(k: Array, v: Array, of: Array, start: Carried, back: bool) -> tuple[Carried, Array, Carried]:
    """Sums over what stands before each chunk of the document that goes on into it, which that is, and after the last.

    Args:
      k, v: [batch, chunks, tokens, n_kv_heads, ...].
      of: the document of each token [batch, chunks, tokens].
      start: of what stands before the row.
      back: from the row's end: 'before' is behind.
    """
    ends = of[:, :, 0 if back else -1]
    own = k * (of == ends[:, :, None])[..., None, None]
    added = Carried(jnp.einsum("bnskm,bnskd->bnkmd", own, v), own.sum(axis=2))
    beside = [ends[:, 1:], of[:, -1:, -1]] if back else [of[:, :1, 0], ends[:, :-1]]
    whose = jnp.concatenate(beside, axis=1)

    def step(sums: Carried, chunk: tuple[Carried, Array]) -> tuple[Carried, Carried]:
        more, same = chunk
        goes_on = (one * same.reshape(-1, *[1] * (one.ndim - 1)) for one in sums)
        return Carried(*(one + add for one, add in zip(goes_on, more, strict=True))), sums

    by_chunk = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), (added, ends == whose))
    end, sums = jax.lax.scan(step, start, by_chunk, reverse=back)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), sums), whose, end


def _filled(segment: Array) -> Array:
    """Segments [batch, length] in which padding belongs to the document in front of it, or else to the first."""
    t = segment.shape[1]
    at = jax.lax.cummax(jnp.where(segment != 0, jnp.arange(t), -1), axis=1)
    at = jnp.where(at < 0, (segment != 0).argmax(axis=1)[:, None], at)
    return jnp.take_along_axis(segment, at, axis=1)
