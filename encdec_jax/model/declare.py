"""A model, declared once: every parameter, and who attends to whom.

Initialisation, sharding, weight decay, parameter counts and FLOPs all read the parameters; masks, pairs, caches and
bytes the edges. The parameters are a nested dict whose paths are the attribute paths of
`encdec_jax.model.model.Model`; stacks carry a leading 'layers' axis. No jax here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial

from encdec_jax.model.blocks import Plan, plans
from encdec_jax.model.compatible import check_edges, check_read
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.edge import Edge
from encdec_jax.model.param import Param, StreamName, Tree, changed, leaves, stacked, subtree
from encdec_jax.model.parts import norms, softmaxes, tables, transform
from encdec_jax.model.parts.positions import POSITIONS
from encdec_jax.model.parts.sublayer import Scope, reached
from encdec_jax.model.period import copies, stride
from encdec_jax.model.sub import BlockSpec


def model(config: ModelConfig) -> Tree:
    """All parameters of the model of `config`."""
    arch, vocab = config.choices, config.vocab_size
    width = config.decoder.d_model
    streams: tuple[StreamName, ...] = ("source", "target") if arch.own_stream else ("target",)
    tree: Tree = {}
    std = tables.looked_up_std(config)
    own_source = arch.own_stream and config.tie in ("decoder", "none")
    if own_source:
        source_width = config.encoder.d_model if config.encoder else width
        tree["source_embed"] = {"table": tables.declare(vocab, source_width, "source embedding", ("source",), std)}
    seen: tuple[StreamName, ...] = ("target",) if own_source else streams
    tree["embed"] = {"table": tables.declare(vocab, width, "target embedding", seen, std)}
    for side, plan in plans(config).items():
        tree[side] = stack(plan)
    if config.tie in ("inputs", "none"):
        head = tables.declare(vocab, width, "output head", ("target",))
        tree["head"] = {"table": replace(head, matmul=True)}
    if config.logit_bias:
        bias = Param((vocab,), ("vocab",), "bias", 1, width, "output head", ("target",), matmul=False)
        subtree(tree, "head" if "head" in tree else "embed")["logit_bias"] = bias
    if config.output_transform:
        tree["transform"] = transform.declare(config)
    if mixed := softmaxes.declare(config):
        tree["softmaxes"] = mixed
    return tree


def known_positions(config: ModelConfig) -> int | None:
    """Positions that a model has weights for, in a sequence; None where it can be at any."""
    held = any("positions" in param.axes for _, param in leaves(model(config)))
    return config.position_rows - config.position_offset if held else None


def stack(plan: Plan) -> Tree:
    """A stack of blocks, the norms of what goes in and comes out where it has them, and what its positions need."""
    tree: Tree = {}
    last = [n == len(segment.period) for segment in plan.segments for n in range(1, len(segment.period) + 1)]
    for (path, segment, spec), ends in zip(plan.slots(), last, strict=True):
        node = stacked(block(spec, plan.scope, ends), segment.times, segment.shared)
        if len(path) == 1:
            tree["blocks"] = node
        else:
            inner = tree.setdefault("blocks", {})
            assert isinstance(inner, dict)
            inner[path[1]] = node
    norm = norms.declare(plan.scope.config, plan.scope.size.d_model, plan.scope.streams)
    if plan.final_norm:
        tree["norm"] = norm
    if plan.scope.config.embedding_norm:
        tree["embedding_norm"] = norm
    places = {name: POSITIONS[name].declare(plan.scope) for name in plan.positions()}
    if any(places.values()):
        tree["positions"] = {name: place for name, place in places.items() if place}
    return tree


def block(spec: BlockSpec, scope: Scope, ends: bool) -> Tree:
    """One block's parameters, in the order in which their initial values are drawn; whether it ends its period."""
    tree: Tree = {}
    for sub in spec:
        streams = reached(sub.layer, scope.streams)
        around: Tree = {}
        for name in (sub.in_norm, sub.branch_norm, sub.out_norm):
            if name is not None:
                around[name] = norms.declare(scope.config, scope.size.d_model, streams)
        own, steps = sub.layer.declare(scope), max(stride(spec, stream) for stream in scope.streams)
        if not sub.layer.reads and steps > 1:
            own = changed(own, partial(replace, stride=steps))
        if not ends or sub is not spec[-1] or sub.branch_norm or sub.out_norm:
            own = changed(own, _read)
        node: Tree = {sub.name: own}
        if any(reads.memory for reads in sub.layer.reads[:1]):  # drawn before its norms: seeds draw as ever
            tree |= node | around
        else:
            tree |= around | node
        if sub.memory_norm not in (None, sub.in_norm):
            tree[sub.memory_norm] = norms.declare(scope.config, scope.memory, ("source",))
    return tree


def _read(param: Param) -> Param:
    """A parameter of a sublayer whose result is read behind it, so that remat computes its last product again too."""
    return param if param.again or not param.matmul else replace(param, again=("full",))


@cache
def edges(config: ModelConfig) -> tuple[Edge, ...]:
    """Everything that attention looks at: by sublayer in order, then by the query's stream, its own keys first.

    Raises:
      UserError: the model's parts do not go together.
    """
    found = tuple(edge for side, plan in plans(config).items() for edge in _edges(side, plan))
    check_edges(config, found)
    layers = [sub.layer for plan in plans(config).values() for _, _, spec in plan.slots() for sub in spec]
    check_read(config, layers, found, declared)
    return found


def declared(config: ModelConfig) -> object:
    """All that is declared of a model, to compare."""
    slots = {side: [*plan.slots()] for side, plan in plans(config).items()}
    return changed(model(config), lambda param: replace(param, spare=None, between=None)), slots


def _edges(side: str, plan: Plan) -> Iterator[Edge]:
    scope, size = plan.scope, plan.scope.size
    joined = not scope.config.choices.own_stream
    for path, segment, spec in plan.slots():
        for sub in spec:
            layer = sub.layer
            apart = all(reads.memory for reads in layer.reads)
            memory = scope.memory if apart else size.d_model
            for stream in scope.streams:
                for reads in layer.reads:
                    if reads.query == stream:
                        own = size.n_heads, size.n_kv_heads, size.head_dim
                        yield Edge(
                            (side, *path, sub.name), reads, joined, segment.times, copies(segment),
                            *((1, 1, size.d_model) if reads.whole else own), size.d_model, memory, layer.group(scope),
                        )  # fmt: skip
