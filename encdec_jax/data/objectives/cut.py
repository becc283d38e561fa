"""Windows cut in two: nothing is masked, and every architecture reads the same tokens.

A prefix of k inputs is the source, the rest the target, with no separator and no start token between them:

    source = inputs[:k]        target = inputs[k:]        labels = labels[k:]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.objectives.objective import (
    Frame,
    Layout,
    Lengths,
    OfWindows,
    Segments,
    check_scored_source,
    generator,
    with_source_loss,
)
from encdec_jax.errors import require
from encdec_jax.model.arch import Arch


@dataclass(frozen=True)
class Cut(OfWindows):
    """Causal language modelling where windows are not cut, prefix language modelling where they are.

    Attributes:
      prefix: None; 'half' of the inputs; 'fixed', that is `tokens`; or 'random', 1 to L - 1, all as likely.
      tokens: of the source, of 'fixed'.
      share: of the inputs that are source, of 'fraction'.
      source_loss: the source's positions predict too, where they see no more than what precedes them.
    """

    prefix: Literal["half", "fixed", "random", "fraction"] | None
    tokens: int = 0
    share: float = 0.0
    source_loss: bool = False

    @property
    def draw(self) -> int:
        """Random cuts are drawn in pairs."""
        return 2 if self.prefix == "random" else 1

    @property
    def scores_source(self) -> bool:
        """As configured."""
        return self.source_loss

    @property
    def place(self) -> str | None:
        """As configured."""
        return self.prefix

    def check(self, arch: Arch, data: DataConfig) -> None:
        """Raise a `UserError` where there is no source for an encoder, or no target."""
        if self.source_loss:
            check_scored_source(arch)
        accepted = "an objective with a source for an architecture whose source has a stream of its own"
        require(self.prefix is not None or not arch.own_stream, "objective.name", "causal_lm", accepted)
        require(
            self.tokens < data.length, "objective.prefix_length", self.tokens, f"less than data.length = {data.length}"
        )

    def lengths(self, data: DataConfig) -> Lengths:
        """One cut, or all those that are drawn."""
        length = data.length
        if self.prefix == "random":
            return tuple((k, length - k, 1.0 / (length - 1)) for k in range(1, length))
        return ((self._cut(length), length - self._cut(length), 1.0),)

    def layout(self, arch: Arch, data: DataConfig) -> Layout:
        """Two windows with cuts k and L - k fill a row of L source and L target tokens."""
        if self.prefix != "random":
            return super().layout(arch, data)
        length, segments = data.length, self.lengths(data)
        if arch.own_stream:
            kinds = tuple((k, rest, 2 * share) for k, rest, share in segments)
            return Layout(2, length, length, self.scored(length, length), kinds)
        return Layout(1, 0, length, length, segments)

    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, frame: Frame) -> Segments:
        """The windows, cut."""
        length = windows.shape[1] - 1
        if self.prefix == "random":
            cuts = random_cuts(length, places, seed)
        else:
            cuts = np.full(len(windows), self._cut(length))
        segments = cut(windows, cuts)
        return with_source_loss(segments) if self.source_loss else segments

    def sequence(self, data: DataConfig) -> tuple[int, int]:
        """As cut in training; the halves where windows are cut at random or not at all."""
        if self.prefix in (None, "random"):
            return super().sequence(data)
        return self._cut(data.length), data.length - self._cut(data.length)

    def resized(self, config: ObjectiveConfig, data: DataConfig, length: int) -> tuple[ObjectiveConfig, DataConfig]:
        """A fixed prefix keeps its share of the window."""
        if self.prefix == "fixed":
            tokens = min(max(1, length * self.tokens // data.length), length - 1)
            config = replace(config, prefix_length=tokens)
        return config, replace(data, length=length)

    def _cut(self, length: int) -> int:
        """The inputs that are source, where all windows are cut at one place."""
        if self.prefix == "fraction":
            return min(max(round(length * self.share), 1), length - 1)
        return {None: 0, "half": length // 2}.get(self.prefix, self.tokens)


def cut(windows: np.ndarray, cuts: np.ndarray) -> Segments:
    """The first `cuts` [n] inputs of each window [n, L + 1] are the source, the other inputs the target."""
    length = windows.shape[1] - 1
    before = np.arange(length) < cuts[:, None]
    inputs = windows[:, :-1]
    return Segments(inputs[before], cuts, inputs[~before], windows[:, 1:][~before], length - cuts)


def random_cuts(length: int, places: np.ndarray, seed: int) -> np.ndarray:
    """Where each window's prefix ends: int64 [n] in 1 .. length - 1.

    Windows 2i and 2i + 1 of the training order are cut at k and length - k, so together they hold `length` tokens of
    source and `length` of target.
    """
    first = np.array([generator(seed, pair).integers(1, length) for pair in (places // 2).tolist()], np.int64)
    return np.where(places % 2 == 0, first, length - first)
