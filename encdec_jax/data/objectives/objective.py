"""The interface of objectives: row layout, view of windows, sentinels, expected lengths.

A window of L + 1 tokens w gives L inputs w[:-1] and L labels w[1:]. Views are pure functions, whatever the
architecture. What is random is drawn for each window from the seed and the window's place in the training order, so
neither the batch size nor the number of hosts changes it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.errors import require
from encdec_jax.model.arch import Arch

START = 0  # T5's decoder start token: the padding id; masks come from segments, never from ids

_NONE = np.zeros(0, bool)
Lengths = tuple[tuple[int, int, float], ...]  # (source tokens, target tokens, expected number) of kinds of segments
Means = tuple[tuple[float, float, float], ...]  # the same, of kinds that are means of measured ones


class Segments(NamedTuple):
    """n sources with their targets, each field's segments laid end to end.

    Attributes:
      source: int32 [sum of source_lengths].
      source_lengths: int64 [n], in tokens.
      inputs: int32 [sum of target_lengths], what the target's positions read.
      labels: int32 [sum of target_lengths], what they predict.
      target_lengths: int64 [n], in tokens.
      source_labels: int32 as `source`, what its positions predict; None where they predict nothing.
      source_weights: float32 as `source`, of the loss on them.
    """

    source: np.ndarray
    source_lengths: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray
    target_lengths: np.ndarray
    source_labels: np.ndarray | None = None
    source_weights: np.ndarray | None = None

    @property
    def of_source(self) -> tuple[np.ndarray, np.ndarray]:
        """What the source's positions predict, and with which weights: 0 where they predict nothing."""
        if self.source_labels is None or self.source_weights is None:
            return np.zeros_like(self.source), np.zeros(len(self.source), np.float32)
        return self.source_labels, self.source_weights


@dataclass(frozen=True)
class Layout:
    """Lengths of one row, in tokens.

    Attributes:
      windows: windows of text in a row.
      source: length of the source stream; 0 where the source has none of its own.
      target: length of the target stream.
      scored: last positions of the target for which logits are computed; where more than it has, it is all of them, and
        behind the source's, which stand first.
      segments: (source tokens, target tokens, expected number a row) of each kind of segment in a row.
    """

    windows: int
    source: int
    target: int
    scored: int
    segments: Means

    @property
    def held(self) -> tuple[float, float, float]:
        """Shares of a row's source, target and scored positions that are expected to hold tokens, not padding."""
        source = sum(number * tokens for tokens, _, number in self.segments)
        target = sum(number * tokens for _, tokens, number in self.segments)
        if not self.source:
            source, target = 0.0, source + target
        scored = target + (source if self.scored > self.target else 0) - max(self.target - self.scored, 0)
        return _share(source, self.source), _share(target, self.target), _share(scored, self.scored)

    @property
    def filled(self) -> bool:
        """Whether a row is always one segment, with nothing behind it."""
        if not self.source:
            return self.windows == 1 and all(source + target == self.target for source, target, _ in self.segments)
        return self.windows == 1 and all(kind[:2] == (self.source, self.target) for kind in self.segments)


def _share(tokens: float, room: int) -> float:
    share = tokens / room if room else 1.0
    return 1.0 if abs(share - 1) < 1e-9 else share  # but for rounding, full


class Coder(Protocol):
    """Of a vocabulary (`encdec_jax.data.vocab`), what objectives ask."""

    size: int
    eos_id: int

    def encode(self, text: str) -> list[int]:
        """Ids of the text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids."""

    def sentinel(self, index: int) -> int:
        """Id of sentinel number `index`, counted from 0."""


class Frame(NamedTuple):
    """What a view knows of its run.

    Attributes:
      sentinel: id of the first sentinel; the others count up from it.
      eos: id of the end of a text.
      marks: ids of an objective's marks, by their names.
      ordinary: ids of text, from the first to the one behind the last.
      windows: of the whole run.
      closes: bool [ids], whose text ends as a sentence does; empty where the objective reads no sentences.
      spaced: bool [ids], whose text begins with white space; likewise.
      within: bool [ids], whose text holds the end of a sentence and white space behind it; likewise.
    """

    sentinel: int
    eos: int = 1
    marks: Mapping[str, int] = MappingProxyType({})
    ordinary: tuple[int, int] = (3, 3)
    windows: int = 0
    closes: np.ndarray = _NONE
    spaced: np.ndarray = _NONE
    within: np.ndarray = _NONE


class Prompt(NamedTuple):
    """What a trained model reads to go on from a text: ids of the source, the target's first input, the last label."""

    source: list[int]
    first: int
    end: int


class Objective(ABC):
    """How a window of text (`OfWindows`), or a pair of a task, becomes source, target and loss weights.

    Attributes:
      pairs: it reads pairs of a task, not windows of text.
    """

    pairs: ClassVar[bool] = False

    @property
    def sentences(self) -> bool:
        """Whether it asks where sentences end."""
        return False

    @property
    def draw(self) -> int:
        """Windows that are drawn for at once; a batch holds whole draws."""
        return 1

    @property
    def of_text(self) -> bool:
        """Whether the text decides lengths, so that `lengths` can only estimate them."""
        return False

    @property
    def marks(self) -> tuple[str, ...]:
        """Names of the ids that it writes, beside sentinels and the text's own."""
        return ()

    @property
    def scores_source(self) -> bool:
        """Whether positions of the source predict something."""
        return False

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
            return Layout(1, source, target, self.scored(source, target), segments)
        row = max(source + target for source, target, _ in segments)
        unscored = 0 if self.scores_source else min(source for source, _, _ in segments)
        return Layout(1, 0, row, row - unscored, segments)

    def scored(self, source: int, target: int) -> int:
        """Positions with logits, of a row of two streams of so many tokens."""
        return source + target if self.scores_source else target

    def sentinels(self, length: int) -> int:
        """Sentinels that views of windows of `length` inputs may hold."""
        return 0

    def window(self, data: DataConfig) -> int:
        """Tokens of a window, as `train.tokens` counts them."""
        return data.length

    def sequence(self, data: DataConfig) -> tuple[int, int]:
        """Tokens of source and target of one sequence at inference; the window's halves, unless said otherwise."""
        return data.length // 2, data.length - data.length // 2

    def prompt(self, text: Sequence[int], frame: Frame) -> Prompt:
        """What a model reads to complete a text of at least two tokens: the text goes on.

        Raises:
          UserError: what it was trained on does not go on.
        """
        return Prompt(list(text[:-1]), text[-1], frame.eos)

    def resized(self, config: ObjectiveConfig, data: DataConfig, length: int) -> tuple[ObjectiveConfig, DataConfig]:
        """This objective's configuration and its data, for windows of another length."""
        return config, replace(data, length=length)


class OfWindows(Objective):
    """An objective of windows of text."""

    @abstractmethod
    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, frame: Frame) -> Segments:
        """One segment for each window.

        Args:
          windows: int32 [n, L + 1].
          places: int [n], of the windows in the training order, counted through all epochs.
          seed: of the random draws.
          frame: of the run.
        """


def frame_of(objective: Objective, vocab: Coder, data: DataConfig, windows: int = 0) -> Frame:
    """The frame of an objective's views: its sentinels and marks have the ids above a vocabulary's.

    Args:
      objective: to be trained on.
      vocab: of the tokens.
      data: for the length of a window.
      windows: of the whole run.
    """
    first = objective.sentinels(data.length)
    marks = {name: vocab.sentinel(first + i) for i, name in enumerate(objective.marks)}
    ends = _sentence_ends(vocab) if objective.sentences else (_NONE, _NONE, _NONE)
    return Frame(vocab.sentinel(0), vocab.eos_id, marks, (vocab.eos_id + 2, vocab.size), windows, *ends)


def required_vocab_size(objective: Objective, vocab: Coder, data: DataConfig) -> int:
    """Ids the model must know: the vocabulary's and, above them, the objective's sentinels and marks."""
    return vocab.sentinel(objective.sentinels(data.length) + len(objective.marks))


def _sentence_ends(vocab: Coder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which ids' texts end as a sentence does, which begin with white space, and which hold both: bool [ids] each."""
    (before,) = vocab.encode("a")[-1:]  # a decoder may strip the white space at the start of a text
    skip = len(vocab.decode([before]))
    texts = [vocab.decode([before, i])[skip:] for i in range(vocab.size)]
    closes = [text.endswith((".", "!", "?")) for text in texts]
    within = [re.search(r"[.!?]\s", text, re.ASCII) is not None for text in texts]
    spaced = [re.match(r"\s", text, re.ASCII) is not None for text in texts]
    return np.array(closes), np.array(spaced), np.array(within)


def check_scored_source(arch: Arch) -> None:
    """Check that the positions of a source can predict what follows them.

    Raises:
      UserError: they see it.
    """
    accepted = "false, because the source sees all of itself: only a causal one can predict what follows"
    require(not arch.source_open, "objective.source_loss", True, accepted)


def with_source_loss(segments: Segments) -> Segments:
    """The same segments, each position of a source predicting the next token, the last one the target's first input."""
    labels = np.roll(segments.source, -1)
    weights = np.ones(len(labels), np.float32)
    read = segments.source_lengths > 0
    last = (np.cumsum(segments.source_lengths) - 1)[read]
    first = segments.inputs[(np.cumsum(segments.target_lengths) - segments.target_lengths)[read]]
    labels[last], weights[last] = first, first != START
    return segments._replace(source_labels=labels, source_weights=weights)


def ragged(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(segment, place within it) of every token of segments laid end to end."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return owner, np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]


def shifted(labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Inputs for segments' labels laid end to end: each segment moved right behind `START`."""
    inputs = np.roll(labels, 1)
    inputs[np.cumsum(lengths) - lengths] = START
    return inputs


def generator(seed: int, place: int, lane: int = 0) -> np.random.Generator:
    """Draws for a place in the training order; those of other lanes are others."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, lane, place]))


def turns(seed: int, turn: np.ndarray, lane: int, step: float) -> np.ndarray:
    """Numbers in [0, 1) of turns, whole numbers [n], that fill it evenly in every stretch of them: float64 [n].

    A point goes on by an irrational `step` of a circle each turn, from where the seed puts it. Two things that are
    drawn so for the same turns need other steps.
    """
    first = draws(seed, np.zeros(1, np.int64), 1, lane)[0, 0]
    even: np.ndarray = (first + turn * step) % 1
    return even


def draws(seed: int, places: np.ndarray, n: int, lane: int = 0) -> np.ndarray:
    """n draws for each place, uniform in [0, 1): float64 [places, n]."""
    found = np.empty((len(places), n))
    fresh = generator(seed, 0, lane)
    state = fresh.bit_generator.state  # a generator takes three times as long to make as to set back
    for place, row in zip(places.tolist(), found, strict=True):
        state["state"]["counter"][3] = place
        fresh.bit_generator.state = state
        fresh.random(out=row)
    return found
