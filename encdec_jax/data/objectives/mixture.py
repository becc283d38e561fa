"""Several objectives in one run: mixed throughout it, or one after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.objective import (
    Frame,
    Layout,
    Lengths,
    Objective,
    OfWindows,
    Prompt,
    Segments,
    ragged,
    turns,
)
from encdec_jax.errors import require
from encdec_jax.model.arch import Arch

LANE = 8  # of the draw that chooses the first part
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Composed(OfWindows):
    """Parts with shares of a run's windows. A row has room for the largest of any part; what a part leaves is padding.

    Attributes:
      parts: at least one, none of them composed itself or of pairs.
      shares: of each, above 0; they add up to 1.
    """

    parts: tuple[OfWindows, ...]
    shares: tuple[float, ...]

    @property
    def draw(self) -> int:
        """Whole draws of every part."""
        return lcm(*(part.draw for part in self.parts))

    @property
    def marks(self) -> tuple[str, ...]:
        """Those of all parts."""
        return tuple(dict.fromkeys(mark for part in self.parts for mark in part.marks))

    @property
    def sentences(self) -> bool:
        """Whether one of the parts asks."""
        return any(part.sentences for part in self.parts)

    @property
    def of_text(self) -> bool:
        """Whether in one of the parts it does."""
        return any(part.of_text for part in self.parts)

    @property
    def scores_source(self) -> bool:
        """Whether in one of the parts they do."""
        return any(part.scores_source for part in self.parts)

    def check(self, arch: Arch, data: DataConfig) -> None:
        """Raise a `UserError` where the architecture can't read one of the parts."""
        for part in self.parts:
            part.check(arch, data)

    def lengths(self, data: DataConfig) -> Lengths:
        """Those of each part, in its share."""
        return tuple(
            (source, target, n * share)
            for part, share in zip(self.parts, self.shares, strict=True)
            for source, target, n in part.lengths(data)
        )

    def layout(self, arch: Arch, data: DataConfig) -> Layout:
        """Every part as often as the one with the most windows a row has it, with the largest room and the most
        scored."""
        rows = [part.layout(arch, data) for part in self.parts]
        windows = lcm(*(row.windows for row in rows))
        times = [windows // row.windows for row in rows]
        source = max(n * row.source for row, n in zip(rows, times, strict=True))
        target = max(n * row.target for row, n in zip(rows, times, strict=True))
        unscored = 0 if windows > 1 else min(row.target - row.scored for row in rows)
        segments = tuple(
            (s, t, number * n * share)
            for row, n, share in zip(rows, times, self.shares, strict=True)
            for s, t, number in row.segments
        )
        scored = self.scored(source, target) if arch.own_stream else target - unscored
        return Layout(windows, source, target, scored, segments)

    @abstractmethod
    def chosen(self, places: np.ndarray, seed: int, frame: Frame) -> np.ndarray:
        """The part that each window is for: int [n]; whole draws are for one."""

    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, frame: Frame) -> Segments:
        """Each window as its part sees it."""
        part_of = self.chosen(places, seed, frame)
        seen = [np.flatnonzero(part_of == i) for i in range(len(self.parts))]
        views = [
            part.view(windows[at], places[at], seed, frame)
            for part, at in zip(self.parts, seen, strict=True)
            if at.size
        ]
        return _ordered(_joined(views), np.concatenate(seen).argsort())

    def sentinels(self, length: int) -> int:
        """The most of any part."""
        return max(part.sentinels(length) for part in self.parts)


class Mixture(Composed):
    """Draws of windows are for the parts in turn, so that every stretch of training has their shares."""

    def chosen(self, places: np.ndarray, seed: int, frame: Frame) -> np.ndarray:
        """By the turn of each draw."""
        at = turns(seed, places // self.draw, LANE, GOLDEN)
        return np.searchsorted(np.cumsum(self.shares)[:-1], at, side="right")

    def prompt(self, text: Sequence[int], frame: Frame) -> Prompt:
        """As the first part."""
        return self.parts[0].prompt(text, frame)


class Schedule(Composed):
    """The parts one after the other, each for its share of the run."""

    def chosen(self, places: np.ndarray, seed: int, frame: Frame) -> np.ndarray:
        """By the place in the run; whole draws."""
        ends = np.round(np.cumsum(self.shares)[:-1] * frame.windows / self.draw) * self.draw
        return np.searchsorted(ends, places, side="right")

    def prompt(self, text: Sequence[int], frame: Frame) -> Prompt:
        """As the last part."""
        return self.parts[-1].prompt(text, frame)


def _joined(views: Sequence[Segments]) -> Segments:
    """The segments of several views, one behind the other."""
    joined = Segments(*(np.concatenate([view[i] for view in views]) for i in range(5)))
    if all(view.source_labels is None for view in views):
        return joined
    labels, weights = zip(*(view.of_source for view in views), strict=True)
    return joined._replace(source_labels=np.concatenate(labels), source_weights=np.concatenate(weights))


def _ordered(segments: Segments, order: np.ndarray) -> Segments:
    """The same segments in another order: int [n], the number of the segment that comes at each place."""

    def tokens(lengths: np.ndarray) -> np.ndarray:
        owner, within = ragged(lengths[order])
        return (np.cumsum(lengths) - lengths)[order][owner] + within

    source, target = tokens(segments.source_lengths), tokens(segments.target_lengths)
    labels, weights = segments.source_labels, segments.source_weights
    return Segments(
        segments.source[source],
        segments.source_lengths[order],
        segments.inputs[target],
        segments.labels[target],
        segments.target_lengths[order],
        None if labels is None else labels[source],
        None if weights is None else weights[source],
    )


def shares_of(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights as shares of 1."""
    return tuple(weight / sum(weights) for weight in weights)


def flat(parts: Sequence[Objective], shares: Sequence[float]) -> Iterator[tuple[OfWindows, float]]:
    """A mixture's parts, with those of mixtures among them in their place.

    Raises:
      UserError: a part is of pairs, or a schedule.
    """
    for part, share in zip(parts, shares, strict=True):
        accepted = "objectives of windows of text, none of them a schedule"
        sound = isinstance(part, OfWindows) and not isinstance(part, Schedule)
        require(sound, "objective.parts", type(part).__name__, accepted)
        assert isinstance(part, OfWindows)
        if isinstance(part, Mixture):
            yield from ((one, share * its) for one, its in zip(part.parts, part.shares, strict=True))
        else:
            yield part, share


def mixture(parts: Sequence[Objective], weights: Sequence[float]) -> Mixture:
    """A mixture by weights; mixtures among the parts are taken apart."""
    made, shares = zip(*flat(parts, shares_of(weights)), strict=True)
    return Mixture(made, shares)
