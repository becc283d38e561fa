"""Blocks and stacks as data: which sublayers, behind which norms, what they look at, and what repeats. No jax here.

A block is a tuple of `Sub`s. A stack is its layers, each a block, written as segments: a period of blocks, scanned so
many times. Cross-attention in every k-th layer, local and global layers in turn, or experts in every second block are
longer periods; `segments` finds them. This file, `declare` and `config` are all that read an architecture's choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from encdec_jax.errors import require
from encdec_jax.model.compatible import check_positions
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.edge import Reads, States
from encdec_jax.model.param import StreamName
from encdec_jax.model.parts.attention import Attention
from encdec_jax.model.parts.depth import Step
from encdec_jax.model.parts.experts import Experts
from encdec_jax.model.parts.mlp import MLP
from encdec_jax.model.parts.positions import POSITIONS
from encdec_jax.model.parts.sides import SideVectors
from encdec_jax.model.parts.sublayer import Scope, looks
from encdec_jax.model.period import Segment, attends, segments, stride
from encdec_jax.model.replaced import dynamic, evolved, funnel, lightweight, mixer, performer
from encdec_jax.model.sees import Block, Causal, Earlier, Full, Opened, Prefix, Sees
from encdec_jax.model.sub import BlockSpec, Sub, placed


@dataclass(frozen=True)
class Plan:
    """A stack.

    Attributes:
      scope: the model, the stack's size, and the streams that go through it.
      segments: its layers.
      final_norm: whether its last states are normalised.
      unread: the stream whose pass through the last layer nobody reads, if there is one: the target reads what goes
        into the layers.
    """

    scope: Scope
    segments: tuple[Segment, ...]
    final_norm: bool
    unread: StreamName | None = None

    def slots(self) -> Iterator[tuple[tuple[str, ...], Segment, BlockSpec]]:
        """(path below the stack, segment, block) of each block that has parameters of its own, in order."""
        whole = [(segment, block) for segment in self.segments for block in segment.period]
        for number, (segment, block) in enumerate(whole):
            yield ("blocks",) if len(whole) == 1 else ("blocks", str(number)), segment, block

    def reaches(self, stream: StreamName) -> list[int]:
        """How far back each sublayer with keys of a stream's own pass sees, in the order of the layers."""
        layers = [spec for segment in self.segments for spec in segment.period * segment.times]
        looked = [looks(sub.layer, stream) for spec in layers for sub in spec]
        return [one.sees.reach for reads in looked for one in reads if one.states == "own"]

    def brief(self) -> int:
        """Segments up to the last in which a layer makes keys of its own pass, or a state: what takes up a source."""

        def keeps(spec: BlockSpec) -> bool:
            states = any(sub.layer.kept(self.scope, 1, 1).state for sub in spec)
            return states or attends(spec, "target", own=True) > 0

        needed = (n for n in range(len(self.segments), 0, -1) if any(map(keeps, self.segments[n - 1].period)))
        return next(needed, 0)

    def behind(self) -> tuple[tuple[str, ...], ...]:
        """Paths below the stack of the blocks behind those."""
        held = sum(len(segment.period) for segment in self.segments[: self.brief()])
        return tuple(path for path, _, _ in list(self.slots())[held:])

    def positions(self) -> tuple[str, ...]:
        """Names of the positions that enter the stack: with the embeddings, and by what its sublayers look at."""
        reads = [one for _, _, block in self.slots() for sub in block for one in sub.layer.reads]
        return tuple(dict.fromkeys((self.scope.config.position, *(one.position for one in reads))))


class SourceRead(NamedTuple):
    """How a decoder reads the source's stream: states of the same layer, or final ones; joined to its own keys.

    Attributes:
      every: of the encoder's layers, as many as the decoder has, evenly spaced, are read; 0 where final states are.
      merged: with its own keys in one softmax.
      residual: the last layer's states are added to each.
    """

    every: int
    merged: bool
    residual: bool = False


def reading(config: ModelConfig) -> SourceRead | None:
    """How the decoder reads the source; None where the source has no stream of its own."""
    arch = config.choices
    if not arch.own_stream:
        return None
    every = (config.encoder or config.decoder).n_layers // config.decoder.n_layers if arch.by_layer else 0
    return SourceRead(every, arch.joins == "merged", arch.reads == "both")


def source_stream(config: ModelConfig) -> StreamName:
    """The stream that holds the source's tokens."""
    return "source" if config.choices.own_stream else "target"


def ends(config: ModelConfig) -> int:
    """Tokens of a source that one of the states stands for that are read of it (`encdec_jax.model.stages`)."""
    stacks, stream = plans(config), source_stream(config)
    return max(stride(spec, stream) for _, _, spec in stacks.get("encoder", stacks["decoder"]).slots())


@cache
def plans(config: ModelConfig) -> dict[str, Plan]:
    """The model's stacks by name: 'encoder' where it has blocks of its own, and 'decoder'.

    Raises:
      UserError: `model.block` names no kind of block, or `model.position` none of positions.
    """
    check_positions(config)
    arch, decoder = config.choices, config.decoder
    final_norm = config.norm != "post" if config.final_norm is None else config.final_norm
    found = {}
    if config.encoder is not None:
        scope = Scope(config, config.encoder, "encoder", (source_stream(config),), config.encoder.d_model)
        # Where layers are read one by one, nobody reads what the encoder ends with.
        found["encoder"] = Plan(scope, _layers(scope), final_norm=not arch.by_layer and final_norm)
    both: tuple[StreamName, ...] = ("source", "target") if arch.shared == "blocks" else ("target",)
    scope = Scope(config, decoder, "decoder", both, (config.encoder or decoder).d_model)
    unread: StreamName | None = "source" if arch.reads == "layers" and arch.joins == "merged" else None
    found["decoder"] = Plan(scope, _layers(scope), final_norm, unread=unread)
    return found


def standard(scope: Scope, layer: int) -> BlockSpec:
    """Self-attention, cross-attention where the decoder has it, and MLP or experts, with norms by `model.norm`."""
    config, size = scope.config, scope.size
    arch = config.choices
    from_source = scope.side == "decoder" and arch.joins is not None and (layer + 1) % size.cross_every == 0
    states: States = "layer" if arch.by_layer else "final"
    place = layer if size.global_first else layer + 1
    window = size.window if size.global_every == 0 or place % size.global_every else 0
    local = window and config.local_theta and config.position == "rope"
    position = "local_rope" if local else _looked_by(config.position)
    own = [Reads(name, name, "own", _own(config, name, window, size.ahead), position) for name in scope.streams]
    before: Sees = Full()
    if arch.context and scope.side == "decoder":
        length = config.block_length
        own, before = [own[0]._replace(sees=Block(length=length))], Earlier(length=length)
    across = _across(config, position)
    memory = [Reads("target", source_stream(config), states, before, across)] if from_source else []
    if arch.joins == "merged":
        merged = placed(config, "attn", Attention((*own, *memory)))
        if not arch.own_encoder:  # states of the same blocks are not normalised yet, an encoder's final ones are
            merged = replace(merged, memory_norm=merged.in_norm)
        return merged, feed_forward(config, layer)
    subs = [placed(config, "attn", Attention(tuple(own)))]
    if memory:  # a layer's output is not normalised yet, the encoder's final output is
        cross = placed(config, "cross", Attention(tuple(memory)))
        subs.append(replace(cross, memory_norm="memory_norm") if states == "layer" else cross)
    return (*subs, feed_forward(config, layer))


def feed_forward(config: ModelConfig, layer: int) -> Sub:
    """A layer's MLP, or its experts."""
    if config.experts.number and (layer + 1) % config.experts.every == 0:
        return placed(config, "experts", Experts())
    return placed(config, "mlp", MLP())


def stepped(scope: Scope, layer: int) -> BlockSpec:
    """A vector of the layer's own, then the standard block: a Universal Transformer's, if `distinct` is 1."""
    return (Sub("step", Step()), *standard(scope, layer))


def yoco(scope: Scope, layer: int) -> BlockSpec:
    """YOCO (arXiv 2405.05254): the second half of the layers reads keys and values that its first layer makes, once.

    The first half is standard, and may have windows. What the keys are made of has a norm of its own in the paper, and
    here that of the first reader: a difference of one vector, which the keys' matrix can take up.

    Raises:
      UserError: the source has a stream of its own, or there are less than 2 layers.
    """
    config, n = scope.config, scope.size.n_layers
    require(
        not config.choices.own_stream, "model.block", "yoco", "'standard', because two streams go through the model"
    )
    require(n >= 2, "model.decoder.n_layers", n, "at least 2, because one half makes what the other reads")
    if layer < n // 2:
        return standard(scope, layer)
    position = _looked_by(config.position)
    own = Reads("target", "target", "own", _own(config, "target", 0, 0), position)
    attention = Attention((own,), keeps=True) if layer == n // 2 else Attention((own._replace(states="kept"),))
    return placed(config, "attn", attention), feed_forward(config, layer)


def palm(scope: Scope, layer: int) -> BlockSpec:
    """PALM (arXiv 2304.04052): a second attention, to the source alone, and vectors that tell source from target.

    Its positions are 'separate'. Unverified, and so ours: the second attention stands behind the first one, its keys
    are made of the layer's own states, and tokens of the source look at them as those of the target do.

    Raises:
      UserError: the source is not the open part of one stream.
    """
    config, arch = scope.config, scope.config.choices
    accepted = "'standard', because the source is no part of the target's stream that sees all of itself"
    require(arch.source_open and not arch.own_stream, "model.block", "palm", accepted)
    position = _looked_by(config.position)
    to_source = Reads("target", "target", "own", Opened(), position)
    attention, *rest = standard(scope, layer)
    sides = (Sub("sides", SideVectors()),) if layer == 0 else ()
    return (*sides, attention, placed(config, "partial", Attention((to_source,))), *rest)


BLOCKS: dict[str, Callable[[Scope, int], BlockSpec]] = {
    "standard": standard,
    "stepped": stepped,
    "yoco": yoco,
    "palm": palm,
    "lightweight": lambda scope, layer: lightweight(scope, standard(scope, layer)),
    "dynamic": lambda scope, layer: dynamic(scope, standard(scope, layer)),
    "evolved": lambda scope, layer: evolved(scope, standard(scope, layer)),
    "performer": lambda scope, layer: performer(scope, standard(scope, layer)),
    "funnel": lambda scope, layer: funnel(scope, layer, standard(scope, layer)),
    "mixer": lambda scope, layer: mixer(scope, standard(scope, layer)),
}
BLOCK_SOURCES: dict[str, tuple[str, str]] = {  # an architecture that it is of, and where it is from
    "yoco": ("causal_lm", "YOCO (arXiv 2405.05254): the second half of the layers reads one set of keys and values"),
    "palm": ("prefix_lm", "PALM (arXiv 2304.04052): a second attention in each layer, to the source and itself"),
}


def _layers(scope: Scope) -> tuple[Segment, ...]:
    make = scope.config.block
    require(make in BLOCKS, "model.block", make, "one of " + ", ".join(BLOCKS))
    layers = [_scaled(scope, BLOCKS[make](scope, layer)) for layer in range(scope.size.n_layers)]
    layers = layers if scope.config.first_norm else [_bare(layers[0]), *layers[1:]]
    n = scope.size.distinct
    if not n:
        return segments(layers)
    accepted = f"a number after which the {len(layers)} layers are alike again, because they share weights"
    require(layers == layers[:n] * (len(layers) // n), f"model.{scope.side}.distinct", n, accepted)
    return (Segment(tuple(layers[:n]), len(layers) // n, shared=True),)


def _scaled(scope: Scope, spec: BlockSpec) -> BlockSpec:
    """A block whose branches CompleteP scales: what is added without a norm in front, as vectors are, is none."""
    base, layers = scope.config.base_depth, scope.size.n_layers
    if base in (0, layers):
        return spec
    return tuple(sub if sub.in_norm is None else replace(sub, scale=sub.scale * base / layers) for sub in spec)


def _bare(spec: BlockSpec) -> BlockSpec:
    """A block without its first norm."""
    at = next(place for place, sub in enumerate(spec) if sub.in_norm is not None)
    sub = spec[at]
    memory_norm = None if sub.memory_norm == sub.in_norm else sub.memory_norm
    return (*spec[:at], replace(sub, in_norm=None, memory_norm=memory_norm), *spec[at + 1 :])


def _across(config: ModelConfig, own: str) -> str:
    """How positions enter attention to the source's states, beside a layer's self-attention with its own."""
    if config.cross_position == "none" or config.choices.joins != "merged":
        same = _looked_by(config.position) if POSITIONS[config.position].crosses else "none"
        return same if config.cross_position == "same" else config.cross_position
    return own  # one softmax


def _looked_by(position: str) -> str:
    """What of positions is attention's: those that are of embeddings alone it has none of."""
    return position if POSITIONS[position].attends else "none"


def _own(config: ModelConfig, stream: StreamName, window: int, ahead: int) -> Sees:
    """What the queries of a stream see of it."""
    arch = config.choices
    if not arch.source_open or (arch.own_stream and stream == "target"):
        return Causal(window)
    kind, ahead = Full if arch.own_stream else Prefix, ahead if window else 0
    return kind(window, ahead)
