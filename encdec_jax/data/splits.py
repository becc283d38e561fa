"""Splits by hash: which documents are held out depends on their group's content alone, not on order or number."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from encdec_jax.errors import UserError

SHARE = 0.05  # of the groups, in each of validation and test
RUN = 8  # words of a run, whose recurrence is leakage
MOST = 1_000_000  # runs of a held-out split that are looked for in train
# A letter of a script without spaces is a word.
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+")


def place(group: str) -> float:
    """Where a group falls in [0, 1): by the SHA-256 of its text."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64


class HashSplits:
    """Splits of groups by their places: `SHARE` of them in validation, as many in test, the rest in train.

    Where none falls into validation or test, the nearest one beyond does: no split is empty.

    Args:
      places: of all groups; a group may stand in them many times.
      what: is split, for messages.

    Raises:
      UserError: there are too few groups.
    """

    def __init__(self, places: Iterable[float], what: str) -> None:
        first, second, beyond, last = 2.0, 2.0, 2.0, -1.0  # two lowest, the lowest from SHARE on, the highest
        for one in places:
            if one < first:
                first, second = one, first
            elif first < one < second:
                second = one
            beyond = min(beyond, one) if one >= SHARE else beyond
            last = max(last, one)
        self._validation = SHARE if first < SHARE else float(np.nextafter(first, 1))
        follows = beyond if first < SHARE else second
        self._test = 2 * SHARE if follows < 2 * SHARE else float(np.nextafter(follows, 3))
        if last < self._test:
            raise UserError(f"{what} has too few documents for train, validation and test: some twenty are needed")

    def __call__(self, at: float) -> str:
        """The split of a place."""
        return "validation" if at < self._validation else "test" if at < self._test else "train"


class Leakage:
    """How much of held-out text stands in train too: the share of its runs of `RUN` words that do.

    A text of fewer words is one run. Words are compared without case and punctuation. Of a split with more than `MOST`
    runs, the first `MOST` are looked for.
    """

    def __init__(self, held_out: Iterable[str]) -> None:
        found, size = [], 0
        for part in _batches(held_out):
            found.append(runs(part))
            size += len(found[-1])
            if size >= MOST:
                break
        self._runs = np.concatenate(found)[:MOST] if found else np.empty(0, np.uint64)
        self._unique = np.unique(self._runs)
        self._seen = np.zeros(len(self._unique), bool)

    def share(self, train: Iterable[str]) -> float:
        """Of the held-out runs, those that stand in `train`: from 0 to 1."""
        for part in _batches(train):
            there = runs(part)
            at = np.searchsorted(self._unique, there)
            hit = at < len(self._unique)
            hit[hit] = self._unique[at[hit]] == there[hit]
            self._seen[at[hit]] = True
        return float(self._seen[np.searchsorted(self._unique, self._runs)].mean()) if len(self._runs) else 0.0


def runs(texts: Sequence[str]) -> np.ndarray:
    """A 64-bit hash of every run of words of every text, uint64: as this process hashes, so not to be kept."""
    words = [_WORD.findall(text.casefold()) for text in texts]
    hashes = np.array([hash(word) for text in words for word in text], np.int64).view(np.uint64)
    lengths = np.array([len(text) for text in words], np.int64)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(hashes))  # words to the end of the text
    with np.errstate(over="ignore"):
        total = np.zeros(len(hashes), np.uint64)
        for step in range(RUN):
            word = np.where(left > step, np.roll(hashes, -step), np.uint64(0))
            total = (total + word) * np.uint64(0x9E3779B97F4A7C15)
            total ^= total >> np.uint64(29)
    return total[left >= np.minimum(np.repeat(lengths, lengths), RUN)]


def _batches(texts: Iterable[str], size: int = 2_000_000) -> Iterable[list[str]]:
    """Texts in lists of about `size` characters."""
    part: list[str] = []
    held = 0
    for text in texts:
        part.append(text)
        held += len(text)
        if held >= size:
            yield part
            part, held = [], 0
    if part:
        yield part
