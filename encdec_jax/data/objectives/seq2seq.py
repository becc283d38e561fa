"""Pairs that a task gives: nothing is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.objectives.objective import (
    START,
    Frame,
    Layout,
    Lengths,
    Objective,
    Prompt,
    check_scored_source,
)
from encdec_jax.errors import require
from encdec_jax.model.arch import Arch


@dataclass(frozen=True)
class Seq2Seq(Objective):
    """A pair's source and target, which `encdec_jax.data.pairs` reads.

    The target's inputs are its labels shifted right behind `START`.

    Attributes:
      source_loss: the source's positions predict too, where they see no more than what precedes them (Zhang et al.
        2022, arXiv 2202.00528).
    """

    source_loss: bool = False
    pairs = True

    @property
    def scores_source(self) -> bool:
        """As configured."""
        return self.source_loss

    def check(self, arch: Arch, data: DataConfig) -> None:
        """Raise a `UserError` where the source can't predict, or two streams can't read rows with one room."""
        if self.source_loss:
            check_scored_source(arch)
        accepted = "'apart' for an architecture whose source has a stream of its own"
        require(data.packing == "apart" or not arch.own_stream, "data.packing", data.packing, accepted)

    def lengths(self, data: DataConfig) -> Lengths:
        """A row's room, as if one pair filled it."""
        return ((data.source_length, data.target_length, 1.0),)

    def layout(self, arch: Arch, data: DataConfig) -> Layout:
        """Room for packed pairs; where a source ends in a joined row is not known before."""
        self.check(arch, data)
        source, target = data.source_length, data.target_length
        if arch.own_stream:
            return Layout(1, source, target, self.scored(source, target), self.lengths(data))
        return Layout(1, 0, source + target, source + target, self.lengths(data))

    def window(self, data: DataConfig) -> int:
        """A row's room."""
        return data.source_length + data.target_length

    def sequence(self, data: DataConfig) -> tuple[int, int]:
        """The longest pair."""
        return data.source_length, data.target_length

    def prompt(self, text: Sequence[int], frame: Frame) -> Prompt:
        """The target of this source."""
        return Prompt([*text, frame.eos], START, frame.eos)

    def resized(self, config: ObjectiveConfig, data: DataConfig, length: int) -> tuple[ObjectiveConfig, DataConfig]:
        """The room in the same proportion, `length` tokens in all."""
        source = min(max(2, length * data.source_length // self.window(data)), length - 2)
        return config, replace(data, length=length, source_length=source, target_length=length - source)
