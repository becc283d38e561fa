"""What every kind of sublayer gives: its parameters, what its queries look at, and what it keeps for the backward pass.

Its function joins them in `encdec_jax.model.parts`, a file a kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.edge import Reads
from encdec_jax.model.param import StreamName, Tree


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
    """Numbers of the compute dtype a token that the backward pass keeps: all, and those that remat 'dots' keeps."""

    none: float
    dots: float


class Sublayer(Protocol):
    """One kind of sublayer, a frozen dataclass of what it is told; equal ones are scanned together."""

    @property
    def reads(self) -> tuple[Reads, ...]:
        """What its queries look at; nothing where it is no attention."""

    def declare(self, scope: Scope) -> Tree:
        """Its parameters, without 'layers'."""

    def kept(self, scope: Scope, tensor: int) -> Residuals:
        """What it keeps of each token, beside its norms and beside what its edges imply, on `tensor` devices."""
