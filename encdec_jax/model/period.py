"""What repeats in a stack: periods of blocks, and what of a block's sublayers attends. No jax here."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from encdec_jax.model.edge import Reads
from encdec_jax.model.param import StreamName
from encdec_jax.model.parts.sublayer import fixed, looks
from encdec_jax.model.sub import BlockSpec


@dataclass(frozen=True)
class Segment:
    """Consecutive layers of a stack.

    Attributes:
      period: blocks.
      times: that the period is applied.
      shared: each time with the same parameters.
    """

    period: tuple[BlockSpec, ...]
    times: int
    shared: bool = False


def segments(layers: list[BlockSpec]) -> tuple[Segment, ...]:
    """Layers as segments: from the front, the period whose repetitions reach farthest, the shortest of these."""
    found: list[Segment] = []
    start = 0
    while start < len(layers):
        best, reach = Segment((layers[start],), 1), 1
        for n in range(1, (len(layers) - start) // 2 + 1):
            period, times = layers[start : start + n], 1
            while layers[start + n * times : start + n * (times + 1)] == period:
                times += 1
            if times > 1 and n * times > reach:
                best, reach = Segment(tuple(period), times), n * times
            if start + reach == len(layers):
                break
        found.append(best)
        start += reach
    return tuple(found)


def stride(spec: BlockSpec, stream: StreamName) -> int:
    """Tokens of a stream that one place stands for in a block (`encdec_jax.model.stages`)."""
    return max([one.strides[0] for sub in spec for one in looks(sub.layer, stream)], default=1)


def attends(spec: BlockSpec, stream: StreamName, own: bool) -> int:
    """Sublayers of a block with keys of a stream's own states, or of states that another pass has made."""
    return sum(any(one.states == "own" if own else one.memory for one in looks(sub.layer, stream)) for sub in spec)


def copies(segment: Segment) -> int:
    """Times that what a segment's sublayers make of another pass's states is made: 1 where each time is the same."""
    reading = [sub.layer for spec in segment.period for sub in spec if any(one.memory for one in sub.layer.reads)]
    return 1 if segment.shared and all(map(fixed, reading)) else segment.times


def ring(reads: tuple[Reads, ...], held: Container[int]) -> int:
    """How far back what looks at the stream's own states sees, where so many slots are held; else 0, for all."""
    found = next((one.sees.reach for one in reads if not one.memory), 0)
    return found if found in held else 0
