"""Pairs of a source and a target: which of a split are trained on, in what parts, and their tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.objective import Segments, ragged, shifted
from encdec_jax.errors import UserError, require

if TYPE_CHECKING:
    from encdec_jax.data.cache import TokenCache

SIDES = ("inputs", "targets")


class Items(NamedTuple):
    """Parts of pairs, each to become one segment of a row.

    Attributes:
      pairs: int64 [n], numbers of the pairs.
      parts: int64 [n], each item's place among the parts of its pair.
      of: int64 [n], parts that its pair is split into.
    """

    pairs: np.ndarray
    parts: np.ndarray
    of: np.ndarray


class Pairs:
    """The pairs of one split. Only those that are asked for are read.

    Attributes:
      count: all pairs.
      room: tokens of source and of target in a row.
    """

    def __init__(self, cache: TokenCache, split: str, data: DataConfig) -> None:
        """Open the split.

        Raises:
          UserError: the task has no pairs.
        """
        if "inputs" not in cache.features:
            raise UserError(
                f"data.task = {data.task!r} is not accepted: objective 'seq2seq' needs a task with 'inputs'"
            )
        self._tokens = {side: cache.tokens(split, side) for side in SIDES}
        self._offsets = {side: cache.offsets(split, side) for side in SIDES}
        self.count = len(self._offsets["inputs"]) - 1
        self.room = (data.source_length, data.target_length)
        self._long, self._where = data.long, f"task '{data.task}', split '{split}'"

    def lengths(self, first: int = 0, last: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of the sources and of the targets of pairs first .. last - 1, int64."""
        last = self.count if last is None else last
        sources, targets = (np.diff(self._offsets[side][first : last + 1]) for side in SIDES)
        return sources, targets

    def fitting(self) -> np.ndarray:
        """Numbers of the pairs whose source and target are neither empty nor too long, int64.

        Raises:
          UserError: there is none.
        """
        sources, targets = self.lengths()
        found = np.flatnonzero((sources > 0) & (targets > 0) & ~self._too_long(sources, targets))
        self.require_some(len(found))
        return found

    def require_some(self, n: int) -> None:
        """Refuse lengths at which no pair fits."""
        accepted = f"room for at least one pair of {self._where}"
        require(n > 0, "data.source_length, data.target_length", self.room, accepted)

    def items(self, first: int, last: int) -> Items:
        """What of pairs first .. last - 1 is trained on, by `data.long`: 'drop', 'truncate' or 'split'.

        A pair is split into the fewest parts that fit when both its sides are cut into as many of equal length. What
        has an empty side, as it is or as a part, is left out.
        """
        sources, targets = self.lengths(first, last)
        keep = (sources > 0) & (targets > 0)
        parts = np.ones(len(sources), np.int64)
        if self._long == "drop":
            keep &= ~self._too_long(sources, targets)
        elif self._long == "split":
            parts = np.maximum(-(-sources // self.room[0]), -(-targets // self.room[1]))
            keep &= (sources >= parts) & (targets >= parts)
        kept = np.flatnonzero(keep)
        owner, part = ragged(parts[kept])
        return Items(first + kept[owner], part, parts[kept][owner])

    def spans(self, items: Items) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where each item's source, and where its target, begins and ends in the split's tokens: int64 [n] each."""
        found = []
        for side, room in zip(SIDES, self.room, strict=True):
            begin = np.asarray(self._offsets[side][items.pairs])
            length = np.asarray(self._offsets[side][items.pairs + 1]) - begin
            if self._long == "truncate":
                length = np.minimum(length, room)
            first, last = (length * part // items.of for part in (items.parts, items.parts + 1))
            found.append((begin + first, begin + last))
        return found

    def segments(self, items: Items) -> Segments:
        """The items, targets shifted right behind `START`."""
        source, target = (
            (self._gather(side, begin, end - begin), end - begin)
            for side, (begin, end) in zip(SIDES, self.spans(items), strict=True)
        )
        return Segments(*source, shifted(*target), *target)

    def whole(self, numbers: np.ndarray) -> Segments:
        """The numbered pairs, whole, which must fit."""
        return self.segments(Items(numbers, np.zeros_like(numbers), np.ones_like(numbers)))

    def _too_long(self, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return (sources > self.room[0]) | (targets > self.room[1])

    def _gather(self, side: str, begin: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        owner, within = ragged(lengths)
        return np.asarray(self._tokens[side][begin[owner] + within], np.int32)


def dropped(cache: TokenCache, split: str, data: DataConfig) -> float | None:
    """The share of a split's pairs that are empty or too long to be scored; None for text."""
    if "inputs" not in cache.features:
        return None
    pairs = Pairs(cache, split, data)
    sources, targets = pairs.lengths()
    ok = (sources > 0) & (targets > 0) & (sources <= pairs.room[0]) & (targets <= pairs.room[1])
    return int((~ok).sum()) / len(ok)
