"""The attention sublayer: of a stream to itself, to the source's states, or to both at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jnp
from encdec_jax.model.param import Param, StreamName, Tree, bias
from encdec_jax.model.parts.dropout import dropped
from encdec_jax.model.parts.looked import Looked, look
from encdec_jax.model.parts.norms import declare_scale, rms, scaled
from encdec_jax.model.parts.positions import POSITIONS, CosSin, apply_rope
from encdec_jax.model.parts.sublayer import Residuals, Scope, fixed, looks
from encdec_jax.model.seen import KeyValues, Out, Seen
from encdec_jax.model.sees import Prefix

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


@dataclass(frozen=True)
class Attention:
    """Multi-head attention, with keys that query heads share in groups.

    Attributes:
      reads: what the queries of each stream look at, their own keys first; several of one stream share one softmax.
      keeps: layers behind this one may read its keys and values.
    """

    reads: tuple[Reads, ...]
    keeps: bool = False
    options: ClassVar[tuple[str, ...]] = (
        "qk_norm", "qk_scaled_norm", "v_norm", "mixed_norm", "score_cap", "score_scale", "attention_dropout"
    )  # fmt: skip

    @property
    def own(self) -> bool:
        """Whether it has keys of the query's own pass."""
        return any(one.states == "own" for one in self.reads)

    def group(self, scope: Scope) -> str:
        """The part of the ledger that it is counted under."""
        return "cross-attention" if all(one.memory for one in self.reads) else f"{scope.side} self-attention"

    def projected(self) -> tuple[StreamName, ...]:
        """The streams whose states become keys, once a kind of states."""
        found = dict.fromkeys((one.memory, one.key, one.states) for one in self.reads if one.states != "kept")
        return tuple(key for _, key, _ in sorted(found, key=lambda kind: kind[0]))

    def declare(self, scope: Scope) -> Tree:
        """Its matrices, of which keys and values may share one or be kept for it; biases, sinks, and scales."""
        size, config, group = scope.size, scope.config, self.group(scope)
        d, h, kv, dim = size.d_model, size.n_heads, size.n_kv_heads, size.head_dim
        memory = d if self.own else scope.memory
        key = Param(
            (memory, kv, dim), ("embed", "kv_heads", "head_dim"), "matrix", memory, memory, group, self.projected(),
            once=fixed(self), stride=self.reads[0].strides[1],
        )  # fmt: skip
        queries = tuple(dict.fromkeys(one.query for one in self.reads))
        normed = config.qk_norm or config.qk_scaled_norm
        std = None if normed or not config.score_scale else (d * dim) ** -0.5 / config.score_scale
        mine: dict[str, Any] = {"group": group, "sees": queries, "stride": self.reads[0].strides[0]}
        four = {
            "q": Param((d, h, dim), ("embed", "heads", "head_dim"), "matrix", d, d, std=std, **mine),
            **({"k": key} if self.projected() else {}),
            **({"v": key} if self.projected() and not config.tied_kv else {}),
            "o": Param((h, dim, d), ("heads", "head_dim", "embed"), "matrix", h * dim, d, **mine),
        }
        tree: Tree = {**four}
        if config.attention_bias != "none":
            biased = [name for name in four if name != "o" or config.attention_bias == "all"]
            tree |= {f"{name}_bias": bias(four[name], 1 if name == "o" else 2) for name in biased}
        if config.sinks:
            tree["sinks"] = Param((h,), ("heads",), "bias", 1, d, group, queries, matmul=False)
        if config.qk_scaled_norm:
            tree["q_scale"] = declare_scale(config, dim, d, queries)
            if self.projected():
                tree["k_scale"] = declare_scale(config, dim, d, self.projected())
        return tree | POSITIONS[self.reads[0].position].declare_layer(scope)

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """Nothing but what its edges imply (`encdec_jax.compute.memory`)."""
        return Residuals(0, 0)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """What the queries of x find: merged attention joins the source's keys in front of the stream's own."""
        from encdec_jax.model.softmax import attention

        view = seen.views[looks(self, seen.stream)]
        q = queries(node, x, view.query)
        new = None
        if self.own:
            new = joined_kv(node, seen, x if seen.longer is None else seen.longer, view.key)
            kv = new if seen.cache is None else seen.cache.write(new)
            if seen.memory is not None:
                kv = KeyValues(*(jnp.concatenate(both, axis=1) for both in zip(seen.memory, kv, strict=True)))
        elif seen.memory is not None:
            kv = seen.memory
        elif not self.projected():
            assert seen.kept is not None
            kv = seen.kept
        else:
            assert seen.states is not None
            kv = project_kv(node, seen.norm(seen.states), view.key)
        config = node.config
        scale, cap = config.score_scale or None, config.score_cap
        sinks, added = node.exact("sinks") if config.sinks else None, _bias(node, view.bias)
        drop = None if seen.key is None else partial(dropped, rate=config.attention_dropout, keys=seen.key(0))
        mixed = attention(q, kv.keys, kv.values, view.mask, config.attention, added, scale, cap, sinks, drop)
        if config.mixed_norm:
            mixed = rms(mixed, config.norm_epsilon).astype(mixed.dtype)
        y = node.biased("o_bias", jnp.einsum("bthk,hkd->btd", mixed, node.weight("o")))
        looked = None
        if seen.look:  # the weights are what attention gives of values that are the keys' numbers
            one = jnp.eye(kv.keys.shape[1], dtype=jnp.float32)[None, :, None]
            values = jnp.broadcast_to(one, (*kv.keys.shape[:3], kv.keys.shape[1]))
            both = (q.astype(jnp.float32), kv.keys.astype(jnp.float32))
            looked = self._looked(attention(*both, values, view.mask, "plain", added, scale, cap, sinks), seen)
        return Out(y, new, kept=kv if self.keeps else None, looked=looked)

    def _looked(self, weights: Array, seen: Seen) -> Looked:
        """Of weights [batch, queries, n_heads, keys]."""
        mine = next((one for one in looks(self, seen.stream) if not one.memory), None)
        around = seen.tokens.open if mine is not None and isinstance(mine.sees, Prefix) else None
        if around is None:
            around = jnp.full(seen.tokens.tokens.shape, mine is not None and not mine.sees.halved)
        return look(weights, 0 if mine is None else weights.shape[1], seen.tokens.position, around)


def queries(node: Node, x: Array, cos_sin: CosSin | None) -> Array:
    """Queries [batch, queries, n_heads, head_dim] of x [batch, queries, d_model], rotated by RoPE's (cos, sin)."""
    q = node.biased("q_bias", jnp.einsum("btd,dhk->bthk", x, node.weight("q")))
    return apply_rope(_normed(node, "q_scale", q), cos_sin)


def project_kv(node: Node, y: Array, cos_sin: CosSin | None) -> KeyValues:
    """Keys, rotated by RoPE's (cos, sin), and values of y [batch, keys, width of the memory]."""
    from encdec_jax.model.placement import whole

    k = node.biased("k_bias", jnp.einsum("bsd,dhk->bshk", y, node.weight("k")))
    v = k if node.config.tied_kv else node.biased("v_bias", jnp.einsum("bsd,dhk->bshk", y, node.weight("v")))
    if node.config.v_norm:
        v = rms(v, node.config.norm_epsilon).astype(v.dtype)
    return KeyValues(whole(apply_rope(_normed(node, "k_scale", k), cos_sin)), whole(v))


def joined_kv(node: Node, seen: Seen, x: Array, cos_sin: CosSin | None) -> KeyValues:
    """Keys and values of the stream's own states x, behind those of the source's states where there are any."""
    from encdec_jax.model.placement import parts

    if seen.states is None:
        return project_kv(node, x, cos_sin)
    states = seen.norm(seen.states)
    if parts() == 1:
        return project_kv(node, jnp.concatenate([states, x], axis=1), cos_sin)
    # Devices that have parts of either can't join them without sending all: keys are sent anyway.
    n = states.shape[1]
    first, second = None, None
    if cos_sin is not None:
        cos, sin = cos_sin
        first, second = (cos[:, :n], sin[:, :n]), (cos[:, n:], sin[:, n:])
    both = project_kv(node, states, first), project_kv(node, x, second)
    return KeyValues(*(jnp.concatenate(pair, axis=1) for pair in zip(*both, strict=True)))


def _bias(node: Node, bias: Array | None) -> Array | None:
    """A view's bias, looked up in the attention's own table where it says rows of that."""
    if bias is None or jnp.issubdtype(bias.dtype, jnp.floating):
        return bias
    table = node.exact("bias")
    return jnp.moveaxis(jnp.concatenate([jnp.zeros_like(table[:1]), table])[bias[:, 0]], 3, 1)


def _normed(node: Node, scale: str, x: Array) -> Array:
    """Queries or keys as `qk_norm` and `qk_scaled_norm` say."""
    if node.config.qk_scaled_norm:
        return scaled(node, scale, x)
    return rms(x, node.config.norm_epsilon).astype(x.dtype) if node.config.qk_norm else x
