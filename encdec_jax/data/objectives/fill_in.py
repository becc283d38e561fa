"""Fill-in-the-middle (Bavarian et al. 2022, arXiv 2207.14255): the middle of a window, given what stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.denoise import woven
from encdec_jax.data.objectives.objective import (
    Frame,
    Layout,
    Lengths,
    OfWindows,
    Prompt,
    Segments,
    check_scored_source,
    generator,
    with_source_loss,
)
from encdec_jax.model.arch import Arch


@dataclass(frozen=True)
class FillIn(OfWindows):
    """Source: a mark, the prefix, a mark, the suffix. Target: a mark, the middle; its labels end with a mark.

    A middle has 1 to L - 1 tokens and stands anywhere, all as likely. Windows 2i and 2i + 1 of the training order have
    middles of m and L - m tokens, so that together they fill a row.

    Attributes:
      source_loss: the source's positions predict too, where they see no more than what precedes them, as in the paper.
    """

    source_loss: bool = False

    @property
    def draw(self) -> int:
        """Middles are drawn in pairs."""
        return 2

    @property
    def marks(self) -> tuple[str, ...]:
        """In front of each part, and behind the middle."""
        return ("prefix", "suffix", "middle", "end")

    @property
    def scores_source(self) -> bool:
        """As configured."""
        return self.source_loss

    def check(self, arch: Arch, data: DataConfig) -> None:
        """Raise a `UserError` where the source can't predict."""
        if self.source_loss:
            check_scored_source(arch)

    def lengths(self, data: DataConfig) -> Lengths:
        """Of each length of the middle."""
        length = data.length
        return tuple((length - m + 2, m + 1, 1.0 / (length - 1)) for m in range(1, length))

    def layout(self, arch: Arch, data: DataConfig) -> Layout:
        """Two windows fill a row of two streams."""
        if not arch.own_stream:
            return super().layout(arch, data)
        self.check(arch, data)
        segments = tuple((source, target, 2 * share) for source, target, share in self.lengths(data))
        source, target = data.length + 4, data.length + 2
        return Layout(2, source, target, self.scored(source, target), segments)

    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, frame: Frame) -> Segments:
        """The windows' inputs, the middle apart."""
        text = windows[:, :-1]
        n, length = text.shape
        first, middle = middles(length, places, seed)
        at, marks = np.arange(length), frame.marks
        inside = (at >= first[:, None]) & (at < (first + middle)[:, None])
        here = np.arange(n)
        before, ids = np.zeros((n, length + 1), np.int64), np.full((n, length + 1), marks["suffix"])
        before[here, first + middle] = 1
        source, source_lengths = woven(ids, before, text, ~inside)
        source = np.insert(source, np.cumsum(source_lengths) - source_lengths, marks["prefix"])
        taken = text[inside]
        starts = np.cumsum(middle) - middle
        segments = Segments(
            source,
            source_lengths + 1,
            np.insert(taken, starts, marks["middle"]),
            np.insert(taken, starts + middle, marks["end"]),
            middle + 1,
        )
        return with_source_loss(segments) if self.source_loss else segments

    def prompt(self, text: Sequence[int], frame: Frame) -> Prompt:
        """A middle with no suffix."""
        marks = frame.marks
        return Prompt([marks["prefix"], *text, marks["suffix"]], marks["middle"], marks["end"])


def middles(length: int, places: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(first token, tokens) of each window's middle: int64 [n] each."""
    drawn = [(generator(seed, place // 2).integers(1, length), generator(seed, place, 1)) for place in places.tolist()]
    tokens = np.array([m if place % 2 == 0 else length - m for (m, _), place in zip(drawn, places, strict=True)])
    first = [one.integers(0, length - m + 1) for (_, one), m in zip(drawn, tokens.tolist(), strict=True)]
    return np.array(first, np.int64), tokens.astype(np.int64)
