"""Experts in place of an MLP, and the router that chooses among them for each token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from encdec_jax.model.config import ExpertConfig
from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jax, jnp
from encdec_jax.model.param import Param, Tree
from encdec_jax.model.parts.mlp import Kind, kind
from encdec_jax.model.parts.sublayer import Residuals, Scope
from encdec_jax.model.seen import Out, Seen

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


class Routes(NamedTuple):
    """Where tokens go. Arrays are [rows, length, chosen].

    Attributes:
      expert: its number, int32; the number of experts for nowhere.
      slot: among the tokens of the row that go to the same expert, in order of the row, int32.
      gate: what the expert's result is multiplied by, float32.
    """

    expert: Array
    slot: Array
    gate: Array


@dataclass(frozen=True)
class Experts:
    """`model.experts`: MLPs of which each token goes through the few that a router chooses.

    Shazeer et al. (arXiv 1701.06538); GShard (arXiv 2006.16668); Switch Transformer (arXiv 2101.03961, section 2). The
    router has no noise, and is computed in float32. Where capacity is limited, tokens find room in the order of their
    row, all choices of one before those of the next: first choices first, as GShard has it, or the most probable first,
    would let a token push out one before it. So what precedes a document in its row may take its room, what follows it
    may not; dropless, rows are nobody's rivals. Padding goes nowhere.
    """

    reads: tuple[Reads, ...] = ()
    options: ClassVar[tuple[str, ...]] = ("mlp",)

    def group(self, scope: Scope) -> str:
        """Experts are counted apart from MLPs, the router with them."""
        return "experts"

    def declare(self, scope: Scope) -> Tree:
        """The router's matrix, and an MLP's two or three for each expert."""
        d, d_ff, sees, experts = scope.size.d_model, scope.size.d_ff, scope.streams, scope.config.experts
        n, share, group = experts.number, experts.chosen / experts.number, self.group(scope)

        def matrix(one: int, other: int, axes: tuple[str, str]) -> Param:
            # A policy that saves products without a batch saves none of experts.
            return Param(
                (n, one, other), ("experts", *axes), "matrix", one, d, group, sees,
                rate=share, active=share, again=("full", "dots"), spare=experts.spare,
            )  # fmt: skip

        up = matrix(d, d_ff, ("embed", "expert_mlp"))
        gate: Tree = {"gate": up} if kind(scope.config.mlp).gated else {}
        router = Param((d, n), ("embed", "choices"), "router", d, d, group, sees)
        return {"router": router, **gate, "up": up, "down": matrix(d_ff, d, ("expert_mlp", "embed"))}

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """The products and what the activation's derivative reads, of each expert a token goes through."""
        mlp, experts = kind(scope.config.mlp), scope.config.experts
        one = mlp.kept * scope.size.d_ff + 3 * scope.size.d_model
        return Residuals(experts.chosen * max(1, experts.capacity) * one / tensor + 4 * experts.number, experts.number)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """x [batch, length, d_model], each token through its experts; the losses are means over rows and over tokens.

        Load balance: E sum_e f_e P_e of a row, f_e the share of its choices that fall on expert e before any is
        dropped, P_e the mean of its probability (Switch Transformer, equation 4, whose groups are rows here). The
        router's z-loss: the mean square of log sum exp of its outputs (ST-MoE, arXiv 2202.08906, equation 5).
        """
        from encdec_jax.model.placement import by_experts

        config = node.config.experts
        shown = seen.tokens.segment != 0
        scores = jnp.einsum("btd,de->bte", x.astype(jnp.float32), node.exact("router"), precision="highest")
        routes, balance = route(scores, shown, config)
        z = jax.nn.logsumexp(scores, axis=-1) ** 2
        z = jnp.where(shown, z, 0).sum() / jnp.maximum(shown.sum(), 1)
        numbers = {"expert_imbalance": balance, "router_z": z}
        run = partial(dropless, kind(node.config.mlp))
        if config.capacity:
            room = config.slots(x.shape[1])
            late = (routes.expert < config.number) & (routes.slot >= room)
            numbers["expert_dropped"] = late.sum() / jnp.maximum(shown.sum() * config.chosen, 1)
            routes = routes._replace(expert=jnp.where(late, config.number, routes.expert))
            run = partial(slotted, kind(node.config.mlp), room)
        names = ("gate", "up", "down") if kind(node.config.mlp).gated else ("up", "down")
        weights = [node.weight(name) for name in names]
        y = by_experts(run, weights, x, *routes)
        return Out(y, loss=config.balance * balance + config.z_loss * z, numbers=numbers)


def route(scores: Array, shown: Array, config: ExpertConfig) -> tuple[Routes, Array]:
    """Routes by a router's outputs, and how unevenly they load experts: 1 for evenly, `number` for all on one.

    Args:
      scores: float32 [rows, length, experts].
      shown: bool [rows, length]; the others go nowhere.
      config: of the experts.
    """
    n = config.number
    share = jax.nn.softmax(scores, axis=-1)
    gate, expert = jax.lax.top_k(share, config.chosen)
    if config.chosen > 1:
        gate = gate / gate.sum(axis=-1, keepdims=True)
    expert = jnp.where(shown[:, :, None], expert, n)
    flat = expert.reshape(len(expert), -1)
    falls = jax.nn.one_hot(flat, n, dtype=jnp.int32)
    before = (jnp.cumsum(falls, axis=1) * falls).sum(axis=-1) - 1
    tokens = jnp.maximum(shown.sum(axis=1, dtype=jnp.float32), 1)[:, None]
    fell = falls.sum(axis=1) / (tokens * config.chosen)
    mean = jnp.where(shown[:, :, None], share, 0).sum(axis=1) / tokens
    rows = jnp.maximum(shown.any(axis=1).sum(), 1)
    return Routes(expert, before.reshape(expert.shape), gate), n * (fell * mean).sum() / rows


def dropless(mlp: Kind, first: Array | int, weights: Sequence[Array], x: Array, expert: Array, *rest: Array) -> Array:
    """Every token through its experts of those from number `first` on: tokens sorted by expert, ragged products.

    Args:
      mlp: what an expert is.
      first: number of the first expert whose weights these are.
      weights: of its matrices, [experts, inputs, outputs].
      x: [rows, length, d_model].
      expert: as the rest the fields of `Routes`.
    """
    n, (*_, gate) = len(weights[0]), rest
    here = (expert - first).reshape(-1)
    here = jnp.where((here >= 0) & (here < n), here, n)
    order = jnp.argsort(here, stable=True)
    sizes = jnp.bincount(here, length=n + 1)[:n].astype(jnp.int32)
    rows = x.reshape(-1, x.shape[-1])[order // expert.shape[-1]]
    y = _mlp(mlp, weights, lambda one, w: jax.lax.ragged_dot(one, w, sizes), rows)
    y = jnp.where((here[order] < n)[:, None], y, 0)[jnp.argsort(order)]
    return _weighted(y.reshape(*expert.shape, -1), gate, x)


def slotted(
    mlp: Kind,
    room: int,
    first: Array | int,
    weights: Sequence[Array],
    x: Array,
    expert: Array,
    slot: Array,
    gate: Array,
) -> Array:
    """The same of tokens that have a slot each, of the `room` that each expert has in a row."""
    n, (rows, length, chosen) = len(weights[0]), expert.shape
    here = expert - first
    place = jnp.where((here >= 0) & (here < n), here * room + slot, n * room).reshape(rows, -1)
    nothing = jnp.zeros((rows, 1, x.shape[-1]), x.dtype)
    empty = jnp.full((rows, n * room), length)
    token = jnp.broadcast_to(jnp.arange(length * chosen) // chosen, place.shape)
    held = empty.at[jnp.arange(rows)[:, None], place].set(token, mode="drop")
    taken = jnp.take_along_axis(jnp.concatenate([x, nothing], axis=1), held[:, :, None], axis=1)
    y = _mlp(mlp, weights, lambda one, w: jnp.einsum("rect,etu->recu", one, w), taken.reshape(rows, n, room, -1))
    y = jnp.concatenate([y.reshape(rows, n * room, -1), nothing], axis=1)
    return _weighted(jnp.take_along_axis(y, place[:, :, None], axis=1).reshape(*expert.shape, -1), gate, x)


def _mlp(mlp: Kind, weights: Sequence[Array], product: Callable[[Array, Array], Array], x: Array) -> Array:
    *gate, up, down = weights
    inner = mlp.of(product(x, gate[0])) * product(x, up) if gate else mlp.of(product(x, up))
    return product(inner, down)


def _weighted(y: Array, gate: Array, x: Array) -> Array:
    return (y * gate[..., None]).sum(axis=2).astype(x.dtype)
