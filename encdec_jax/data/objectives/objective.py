"""The interface of objectives: row layout, view of windows, sentinels, expected lengths.

A window of L + 1 tokens w gives L inputs w[:-1] and L labels w[1:]. Views are pure functions, whatever the
architecture. What is random is drawn for each window from the seed and the window's place in the training order, so
neither the batch size nor the number of hosts changes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.model.arch import Arch

START = 0  # T5's decoder start token: the padding id; masks come from segments, never from ids

Lengths = tuple[tuple[int, int, float], ...]  # (source tokens, target tokens, expected number) of kinds of segments


class Segments(NamedTuple):
    """n sources with their targets, each field's segments laid end to end.

    Attributes:
      source: int32 [sum of source_lengths].
      source_lengths: int64 [n], in tokens.
      inputs: int32 [sum of target_lengths], what the target's positions read.
      labels: int32 [sum of target_lengths], what they predict.
      target_lengths: int64 [n], in tokens.
    """

    source: np.ndarray
    source_lengths: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray
    target_lengths: np.ndarray


@dataclass(frozen=True)
class Layout:
    """Lengths of one row, in tokens.

    Attributes:
      windows: windows of text in a row.
      source: length of the source stream; 0 where the source has none of its own.
      target: length of the target stream.
      scored: last positions of the target for which logits are computed.
      segments: (source tokens, target tokens, expected number a row) of each kind of segment in a row.
    """

    windows: int
    source: int
    target: int
    scored: int
    segments: Lengths


class Coder(Protocol):
    """Of a vocabulary (`encdec_jax.data.vocab`), what objectives ask."""

    size: int
    eos_id: int

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids."""

    def sentinel(self, index: int) -> int:
        """Id of sentinel number `index`, counted from 0."""


class Ids(NamedTuple):
    """The ids that a view writes beside the text's own.

    Attributes:
      sentinel: of the first sentinel; the others count up from it.
    """

    sentinel: int


class Prompt(NamedTuple):
    """What a trained model reads to go on from a text: ids of the source, the target's first input, the last label."""

    source: list[int]
    first: int
    end: int


class Objective(ABC):
    """How a window becomes source, target and loss weights.

    Attributes:
      pairs: it reads pairs of a task, not windows of text.
    """

    pairs: ClassVar[bool] = False

    @property
    def draw(self) -> int:
        """Windows that are drawn for at once; a batch holds whole draws."""
        return 1

    @property
    def place(self) -> str | None:
        """Where it cuts windows, as `objective.prefix` has it; None where it does not cut."""
        return None

    def check(self, arch: Arch, data: DataConfig) -> None:
        """Check that an architecture can read what this gives of windows of `data.length`.

        Raises:
          UserError: it can't.
        """
        del arch, data  # most give a source and a target, which every architecture reads

    @abstractmethod
    def lengths(self, data: DataConfig) -> Lengths:
        """The kinds of segments that one window becomes, and how often it becomes each: shares that add up to 1."""

    def layout(self, arch: Arch, data: DataConfig) -> Layout:
        """The layout of one row: of one window, with room for its largest segment.

        Raises:
          UserError: as `check`.
        """
        self.check(arch, data)
        segments = self.lengths(data)
        if arch.own_stream:
            source, target = max(kind[0] for kind in segments), max(kind[1] for kind in segments)
            return Layout(1, source, target, target, segments)
        row = max(source + target for source, target, _ in segments)
        return Layout(1, 0, row, row - min(source for source, _, _ in segments), segments)

    @abstractmethod
    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, ids: Ids) -> Segments:
        """One segment for each window.

        Args:
          windows: int32 [n, L + 1].
          places: int [n], of the windows in the training order, counted through all epochs.
          seed: of the random draws.
          ids: of sentinels.
        """

    def sentinels(self, length: int) -> int:
        """Sentinels that views of windows of `length` inputs may hold."""
        return 0

    def window(self, data: DataConfig) -> int:
        """Tokens of a window, as `train.tokens` counts them."""
        return data.length

    def sequence(self, data: DataConfig) -> tuple[int, int]:
        """Tokens of source and target of one sequence at inference; the window's halves, unless said otherwise."""
        return data.length // 2, data.length - data.length // 2

    def prompt(self, text: Sequence[int], vocab: Coder) -> Prompt:
        """What a model reads to complete a text of at least two tokens: the text goes on."""
        return Prompt(list(text[:-1]), text[-1], vocab.eos_id)

    def resized(self, config: ObjectiveConfig, data: DataConfig, length: int) -> tuple[ObjectiveConfig, DataConfig]:
        """This objective's configuration and its data, for windows of another length."""
        return config, replace(data, length=length)


def ids_of(objective: Objective, vocab: Coder, data: DataConfig) -> Ids:
    """The ids of an objective's sentinels, above those of a vocabulary."""
    return Ids(vocab.sentinel(0))


def required_vocab_size(objective: Objective, vocab: Coder, data: DataConfig) -> int:
    """Ids the model must know: the vocabulary's and, above them, the objective's sentinels."""
    return vocab.sentinel(objective.sentinels(data.length))


def shifted(labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Inputs for segments' labels laid end to end: each segment moved right behind `START`."""
    inputs = np.roll(labels, 1)
    inputs[np.cumsum(lengths) - lengths] = START
    return inputs


def generator(seed: int, place: int, lane: int = 0) -> np.random.Generator:
    """Draws for a place in the training order; those of other lanes are others."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, lane, place]))


def draws(seed: int, places: np.ndarray, n: int, lane: int = 0) -> np.ndarray:
    """n draws for each place, uniform in [0, 1): float64 [places, n]."""
    return np.stack([generator(seed, place, lane).random(n) for place in places.tolist()])
