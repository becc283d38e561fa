"""The products of one forward pass, of the declaration and of how much the pass applies it to. No jax here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from encdec_jax.model.blocks import plans
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import edges, model
from encdec_jax.model.edge import Edge
from encdec_jax.model.param import StreamName, leaves
from encdec_jax.model.stages import slots

Pairs: TypeAlias = dict[Edge, tuple[float, float]]  # of query and key: those shown, and all
SCORES = " scores"  # behind the group of an attention's weights: its scores and its values' sums


@dataclass(frozen=True)
class Pass:
    """How much one forward pass applies the declared weights to: with the declaration, all that a count needs.

    Training, prefill (`encdec_jax.compute.serving`) and decoding are the same products with other numbers here.

    Attributes:
      tokens: that go through the blocks, by stream.
      length: of a row of each stream.
      pairs: of query and key, by edge: those that the mask shows, and all that are computed.
      scored: positions of the target whose logits are computed.
      scored_source: the same of the source's stream.
      left_out: paths of blocks that it does not go through.
      merged: tokens that merged attention projects to keys and values again, beside those of their own pass.
    """

    tokens: dict[StreamName, float]
    length: dict[StreamName, int]
    pairs: Pairs
    scored: float
    merged: float
    scored_source: float = 0
    left_out: tuple[tuple[str, ...], ...] = ()

    def at(self, stream: StreamName, stride: int) -> float:
        """Places of so many tokens each that go through a stage's blocks: of all slots a row's share of tokens."""
        tokens, length = self.tokens[stream], self.length[stream]
        return tokens if stride == 1 or not tokens else tokens * slots(length, stride) / length


@dataclass(frozen=True)
class Work:
    """Forward FLOPs of one product.

    Attributes:
      group, stream, mask, dense: as in `Entry`.
      remat: the policies under which the backward pass does it again.
      idle: layers, if nobody reads the result of the last one and the backward pass leaves it out therefore; else 0.
      gradients: products of its size that the backward pass computes.
    """

    group: str
    stream: StreamName
    mask: float
    dense: float
    remat: tuple[str, ...] = ()
    idle: int = 0
    gradients: int = 2

    def reached(self, flops: float) -> float:
        """Of the product's FLOPs, those of layers that the backward pass reaches."""
        return flops - flops / self.idle if self.idle else flops

    def trained(self, flops: float) -> float:
        """Of the product's FLOPs, those of forward and backward pass."""
        return flops + self.gradients * self.reached(flops)


def products(config: ModelConfig, passed: Pass) -> Iterator[Work]:
    """The products of a forward pass; none of no FLOPs."""
    declared = dict(leaves(model(config)))
    attending = {edge.path for edge in edges(config)}
    heads: dict[StreamName, float] = {"source": passed.scored_source, "target": passed.scored}
    for path, param in declared.items():
        if path[0] == "head" or any(path[: len(out)] == out for out in passed.left_out):
            continue
        if path[0] in ("transform", "softmaxes"):  # which stand between the stack and the head
            for stream, scored in heads.items():
                if param.matmul and (n := param.flops * scored):
                    yield Work(param.group, stream, n, n)
            continue
        for i, stream in enumerate(param.sees if param.matmul else ()):
            again = stream in param.sees[:i]  # merged attention projects the source's states for the target too
            length = slots(passed.length[stream], param.stride)
            n = param.flops * (passed.merged if again else passed.at(stream, param.stride))
            if n:
                dense = n * (1 if param.spare is None else param.spare(length))
                idle = 0 if again else _idle(config, path, stream, passed)
                yield Work(param.group, stream, min(n, dense), dense, param.again, idle)
        for stream in param.sees:
            for made in param.between(passed.length[stream]) if param.between else ():
                if n := made.flops * param.times * passed.tokens[stream]:
                    yield Work(param.group + SCORES, stream, n, n, made.again, gradients=made.gradients)
        if path[:-1] in attending:  # its scores, behind an attention's first parameter
            attending.remove(path[:-1])
            for stream in param.sees:
                own = [edge for edge in edges(config) if edge.path == path[:-1] and edge.query == stream]
                kinds = [passed.pairs.get(edge, (0, 0)) for edge in own]
                one = 4 * own[0].layers * own[0].heads * own[0].head_dim
                mask, dense = (one * sum(kind) for kind in zip(*kinds, strict=True))
                if dense:
                    idle = _idle(config, path, stream, passed)
                    yield Work(param.group + SCORES, stream, mask, dense, ("full", "dots"), idle)
    table = declared.get(("head", "table"), declared["embed", "table"])
    for stream, scored in heads.items():
        if n := 2 * table.size * scored * config.softmaxes:
            yield Work("output head", stream, n, n)


def _idle(config: ModelConfig, path: tuple[str, ...], stream: StreamName, passed: Pass) -> int:
    """Layers, of a block whose last layer's own pass over a stream nobody reads; else 0.

    Unrolled, no gradient reaches it; `lax.scan` carries one of zeros back through it.
    """
    plan = plans(config)[path[0]]
    if plan.unread != stream or config.scan or passed.scored_source:
        return 0
    last, segment, _ = list(plan.slots())[-1]
    return segment.times if path[1 : 1 + len(last)] == last else 0
