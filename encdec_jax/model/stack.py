"""Stacks: a plan's segments, each a period of blocks with stacked parameters, applied by `lax.scan` or unrolled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from encdec_jax.model.blocks import Plan
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.cursor import Cursor
from encdec_jax.model.edge import Reads
from encdec_jax.model.node import Node
from encdec_jax.model.param import StreamName, Tree, subtree
from encdec_jax.model.parts import norms
from encdec_jax.model.parts.attention import project_kv
from encdec_jax.model.parts.dropout import ADDED, dropped
from encdec_jax.model.parts.positions import CosSin
from encdec_jax.model.parts.sublayer import fixed, looks, reached
from encdec_jax.model.period import Segment, attends, copies, ring, stride
from encdec_jax.model.placement import by_rows
from encdec_jax.model.repeated import concatenated, each, interleaved, remat, split
from encdec_jax.model.seen import Feed, KeyValues, Out, Seen, Slots, View
from encdec_jax.model.stages import pool, pooled
from encdec_jax.model.streams import Stream
from encdec_jax.model.sub import Sub

Emit = Literal["inputs", "outputs", "keys", "attention"]
Views = Mapping[tuple[Reads, ...], View]


class Aux(NamedTuple):
    """What sublayers give beside states.

    Attributes:
      loss: in nats a loss token, summed over layers; None for none.
      sums: of each number to log, float32 [2]: its sum, and how many it is the sum of.
    """

    loss: Array | None = None
    sums: Mapping[str, Array] = {}

    def joined(self, other: Aux) -> Aux:
        """Both."""
        losses = [loss for loss in (self.loss, other.loss) if loss is not None]
        both = {name: self.sums[name] + other.sums[name] for name in self.sums if name in other.sums}
        return Aux(sum(losses[1:], losses[0]) if losses else None, {**self.sums, **other.sums, **both})


class Ran(NamedTuple):
    """A stream's pass through a stack: its last states, what layers emitted, what came beside, and what they keep."""

    x: Array
    emitted: Any
    aux: Aux
    states: list[dict[str, Any]]


class Stack(nnx.Module):
    """Blocks with stacked parameters; norms of both ends and parameters of positions where the declaration has them."""

    def __init__(self, tree: Tree, plan: Plan, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = nnx.static(config)
        self.plan = nnx.static(plan)
        self.blocks = Node(subtree(tree, "blocks"), config, rngs)
        self.norm = Node(subtree(tree, "norm"), config, rngs) if "norm" in tree else None
        normed = "embedding_norm" in tree
        self.embedding_norm = Node(subtree(tree, "embedding_norm"), config, rngs) if normed else None
        self.positions = Node(subtree(tree, "positions"), config, rngs) if "positions" in tree else None

    def __call__(
        self,
        x: Array,
        stream: StreamName,
        tokens: Stream,
        views: Views,
        states: Array | None = None,
        memory: KeyValues | None = None,
        cache: Feed | None = None,
        *,
        by_layer: bool = False,
        emit: Emit | None = None,
        brief: bool = False,
        keys: Array | None = None,
    ) -> Ran:
        """All layers, without the final norm.

        Args:
          x: [batch, length, d_model].
          stream: whose tokens these are.
          tokens: they, [batch, length].
          views: how the stream sees, by what an attention's queries look at. With a cache, of its slots.
          states: of the source, to read: [batch, source, width], or one for each layer in front of that.
          memory: the same, as `project_kv` gives it.
          cache: what the stream's tokens before these have left.
          by_layer: each layer reads its own states.
          emit: also give what goes into each layer, what comes out of it, the keys and values it projected, or where
            its attentions look.
          brief: leave out the layers behind the last that has keys of the stream's own.
          keys: of what each row draws, [batch]; None outside training.

        Returns:
          the last layer's states, and what is emitted, stacked in the order of the layers: states
          [layers, batch, length, d_model], `KeyValues` [sublayers, batch, length, n_kv_heads, head_dim] or `Looked`
          [attentions, ...]; else None.
          With keys, what sublayers keep beside them comes too.
        """
        found, after_all, aux, at, first, kept = [], [], Aux(), Cursor(), 0, None
        parts, stage, steps = list(self._segments()), tokens, 1
        for part, (segment, nodes) in enumerate(parts[: self.plan.brief() if brief else None]):
            graphs, stacked, shared = split(nodes)
            reading = sum(attends(spec, stream, own=False) for spec in segment.period)
            n, rings = len(segment.period), [] if cache is None else _rings(segment, stream, cache)
            step, longer = stride(segment.period[0], stream) // steps, None
            if step > 1:
                longer, x, stage, steps = x, pool(x, stage, step), pooled(stage, step, step), step * steps
            projected = at.take(memory, copies(segment), reading, "memory")
            once = {}
            if segment.shared and memory is None and states is not None:
                once = _once(segment, nodes, stream, states, views)
            elif projected and copies(segment) < segment.times:
                once, projected = _held(segment, stream, projected), None
            layers = (
                stacked,
                first + n * jnp.arange(segment.times),
                at.take(states, segment.times, n, "layers") if by_layer else None,
                projected,
                {r: at.take(cache.kv[r], segment.times, rings.count(r), f"own {r}") for r in set(rings)}
                if cache
                else {},
                cache.states[part] if cache is not None and cache.states is not None else None,
            )

            def body(
                x: Array,
                layer: Any,
                segment: Any = segment,
                graphs: Any = graphs,
                shared: Any = shared,
                kept: Any = kept,
                once: Any = once,
                stage: Stream = stage,
                longer: Any = longer,
            ) -> Any:
                held, number, of_layer, memories, caches, before = layer
                made: KeyValues | None = None
                memories, caches = iter(memories or ()), {r: iter(held) for r, held in caches.items()}
                emitted: Any = []
                after: dict[str, Any] = {}
                aux = Aux()
                for i, spec in enumerate(segment.period):
                    node = nnx.merge(graphs[i], held[i], shared[i])
                    x = by_rows(x)
                    given, read, new, looked = x, x, [], []
                    for place, sub in enumerate(spec):
                        if stream not in reached(sub.layer, (stream,)):
                            continue
                        own, reading = (attends((sub,), stream, kind) for kind in (True, False))
                        r = ring(looks(sub.layer, stream), caches)
                        seen = Seen(
                            stream=stream,
                            tokens=stage,
                            layer=number + i,
                            views=views,
                            states=(of_layer[i] if of_layer else states) if reading and memory is None else None,
                            memory=next(memories, once.get((i, place))) if reading else None,
                            cache=Slots(next(caches[r]), cache.stream[r], cache.at[r])
                            if own and cache is not None
                            else None,
                            kept=made or kept,
                            norm=memory_norm(node, sub),
                            key=None if keys is None else partial(folded, keys, number + i, place),
                            state=None if before is None else before.get(f"{i}.{sub.name}"),
                            look=emit == "attention",
                            longer=_normed(node, sub.in_norm, longer) if own and longer is not None else None,
                        )
                        read = read if sub.beside else x
                        x, out = apply(node, sub, x, read, seen)
                        sums = {name: jnp.stack([value, jnp.ones_like(value)]) for name, value in out.numbers.items()}
                        aux = aux.joined(Aux(out.loss, sums))
                        new += [] if out.new is None else [out.new]
                        looked += [] if out.looked is None else [out.looked]
                        made = out.kept or made
                        if emit == "keys" and out.state is not None:
                            after[f"{i}.{sub.name}"] = out.state
                    x = by_rows(x)
                    emitted += {"inputs": [given], "outputs": [x], "keys": new, "attention": looked, None: []}[emit]
                return x, (emitted, after, aux, made)

            x, (emitted, after, more, made) = each(self.config.scan, remat(body, self.config), x, layers, segment.times)
            kept = kept if made is None else jax.tree.map(lambda leaf: leaf[-1], made)
            found.append(interleaved(emitted))
            after_all.append(after)
            aux = aux.joined(jax.tree.map(lambda leaf: leaf.sum(axis=0), more))
            first += n * segment.times
        after_all += [{}] * (len(parts) - len(after_all))
        return Ran(x, concatenated([one for one in found if one is not None]), aux, after_all)

    def project_kv(self, states: Array, cos_sin: Callable[[Reads], CosSin | None], *, by_layer: bool) -> KeyValues:
        """Keys and values of the source's states, for every sublayer that reads them.

        Args:
          states: [batch, source, width], or one for each layer in front of that.
          cos_sin: what keys are rotated by, by what looks at them.
          by_layer: each layer reads its own states.

        Returns:
          [sublayers, batch, source, n_kv_heads, head_dim], where layers that share weights count once if they read the
          same states.
        """
        found, at = [], Cursor()
        for segment, nodes in self._segments():
            graphs, stacked, shared = split(nodes)
            of_layer = at.take(states, segment.times, len(segment.period), "layers") if by_layer else None

            def body(
                carry: None, layer: Any, segment: Any = segment, graphs: Any = graphs, shared: Any = shared
            ) -> Any:
                held, of_layer = layer
                new = []
                for i, spec in enumerate(segment.period):
                    node = nnx.merge(graphs[i], held[i], shared[i])
                    for sub in spec:
                        for reads in [one for one in sub.layer.reads if one.memory][:1]:
                            normed = memory_norm(node, sub)(of_layer[i] if of_layer else states)
                            new.append(project_kv(node.node(sub.name), normed, cos_sin(reads)))
                return None, new

            layers = (stacked, of_layer)
            if copies(segment) < segment.times:
                one = body(None, jax.tree.map(lambda leaf: leaf[0], layers))[1]
                new = jax.tree.map(lambda leaf: leaf[None], one)
            else:
                new = each(self.config.scan, body, None, layers, segment.times)[1]
            found.append(interleaved(new))
        return concatenated([one for one in found if one is not None])

    def position(self, name: str) -> Node | None:
        """The stack's parameters of a kind of positions; None where it has none."""
        return getattr(self.positions, name, None)

    def _segments(self) -> Iterator[tuple[Segment, list[Node]]]:
        """Each segment with its blocks' parameters."""
        slots = [(segment, path) for path, segment, _ in self.plan.slots()]
        for segment in self.plan.segments:
            taken, slots = slots[: len(segment.period)], slots[len(segment.period) :]
            yield segment, [self.blocks.node(path[1]) if path[1:] else self.blocks for _, path in taken]


def _rings(segment: Segment, stream: StreamName, cache: Feed) -> list[int]:
    """The r of each attention of a period that keeps keys of a stream's own pass."""
    subs = [sub for spec in segment.period for sub in spec if attends((sub,), stream, own=True)]
    return [ring(looks(sub.layer, stream), cache.kv) for sub in subs]


def _once(
    segment: Segment, nodes: list[Node], stream: StreamName, states: Array, views: Views
) -> dict[tuple[int, int], KeyValues]:
    """By block of a period and place in it, what all layers that share weights see of the source alike."""
    found = {}
    for i, (spec, node) in enumerate(zip(segment.period, nodes, strict=True)):
        for place, sub in enumerate(spec):
            if fixed(sub.layer):
                normed, key = memory_norm(node, sub)(states), views[looks(sub.layer, stream)].key
                found[i, place] = project_kv(node.node(sub.name), normed, key)
    return found


def _held(segment: Segment, stream: StreamName, projected: list[KeyValues]) -> dict[tuple[int, int], KeyValues]:
    """The same, of keys and values [1, batch, ...] of each sublayer that reads the source, in order."""
    subs = [((i, place), sub) for i, spec in enumerate(segment.period) for place, sub in enumerate(spec)]
    reading = [at for at, sub in subs if attends((sub,), stream, own=False)]
    return {at: jax.tree.map(lambda leaf: leaf[0], kv) for at, kv in zip(reading, projected, strict=True)}


def folded(keys: Array, *numbers: Array | int) -> Array:
    """The random keys [batch] that numbers choose of keys [batch], one after the other."""
    for number in numbers:
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
    return keys


def apply(node: Node, sub: Sub, x: Array, read: Array, seen: Seen) -> tuple[Array, Out]:
    """A sublayer of what it reads, and its norms, on the residual stream x: `Sub` has the formula."""
    out = sub.layer(node.node(sub.name), _normed(node, sub.in_norm, read), seen)
    y = _normed(node, sub.branch_norm, out.y)
    y = y if seen.key is None else dropped(y, node.config.residual_dropout, seen.key(ADDED))
    return _normed(node, sub.out_norm, x + (y if sub.scale == 1 else y * sub.scale)), out


def memory_norm(node: Node, sub: Sub) -> Callable[[Array], Array]:
    """What the source's states that a sublayer reads go through."""
    return lambda states: _normed(node, sub.memory_norm, states)


def normed(stack: Stack, x: Array) -> Array:
    """States [batch, length, d_model] behind the stack's final norm, where it has one."""
    return x if stack.norm is None else norms.apply(stack.norm, x)


def _normed(node: Node, name: str | None, x: Array) -> Array:
    return x if name is None else norms.apply(node.node(name), x)
