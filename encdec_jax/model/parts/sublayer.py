"""What every kind of sublayer gives: its parameters, what its queries look at, its function, and what that keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.edge import Reads
from encdec_jax.model.param import StreamName, Tree
from encdec_jax.model.seen import Out, Seen

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


@dataclass(frozen=True)
class Scope:
    """Where a sublayer stands.

    Attributes:
      config: the model.
      size: its stack.
      side: 'encoder' or 'decoder'.
      streams: that go through the stack.
      memory: width of the source's states that the stack may read.
    """

    config: ModelConfig
    size: StackConfig
    side: str
    streams: tuple[StreamName, ...]
    memory: int


class Residuals(NamedTuple):
    """Numbers of the compute dtype that a sublayer keeps.

    Attributes:
      none, dots: of a token, for the backward pass: all, and those that remat 'dots' keeps.
      state: of a sequence, for decoding, beside keys and values.
    """

    none: float
    dots: float
    state: float = 0


class Sublayer(Protocol):
    """One kind of sublayer, a frozen dataclass of what it is told; equal ones are scanned together.

    One that reads fields of `ModelConfig` by which it does not declare its parameters has their names in `options`, a
    tuple: what nothing reads is refused (`encdec_jax.model.compatible`).
    """

    @property
    def reads(self) -> tuple[Reads, ...]:
        """What its queries look at; nothing where it is no attention."""

    def group(self, scope: Scope) -> str:
        """The part of the ledger that its parameters are counted under."""

    def declare(self, scope: Scope) -> Tree:
        """Its parameters, without 'layers'."""

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """What it keeps of each token of a row of `length`, beside norms and what edges imply, on `tensor` devices."""

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """Its function of x [batch, length, d_model]; `node` holds what `declare` declared."""


def looks(layer: Sublayer, stream: StreamName) -> tuple[Reads, ...]:
    """What the queries of one stream look at."""
    return tuple(one for one in layer.reads if one.query == stream)


def fixed(layer: Sublayer) -> bool:
    """Whether it is an attention whose keys and values are the same in all layers that share its weights."""
    return len(layer.reads) > 0 and all(one.states == "final" for one in layer.reads)


def reached(layer: Sublayer, streams: tuple[StreamName, ...]) -> tuple[StreamName, ...]:
    """The streams that go through a sublayer: all, but one whose queries it lets look at nothing."""
    return tuple(stream for stream in streams if not layer.reads or looks(layer, stream))
