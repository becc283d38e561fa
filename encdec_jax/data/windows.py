"""Windows of a split's text: of its documents end to end, or of each document by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from encdec_jax.data.shards import Values

if TYPE_CHECKING:
    from encdec_jax.data.cache import TokenCache

DOCUMENTS = 1 << 20  # that are looked at together


class Windows:
    """Windows of `length` + 1 tokens; a window's last token is the next one's first. Only those asked for are read.

    Windows of documents 'apart' begin with each document's first token; what a document has beyond its last whole
    window, all of it where it is shorter than one, is in none.

    Attributes:
      count: of windows.
    """

    def __init__(
        self, cache: TokenCache, split: str, length: int, documents: Literal["joined", "apart"] = "joined"
    ) -> None:
        self._tokens: Values = cache.tokens(split, "targets")
        self._length = length
        self._offsets: Values | None = None if documents == "joined" else cache.offsets(split, "targets")
        if self._offsets is None:
            self.count = max(0, (len(self._tokens) - 1) // length)
        else:
            parts = [self._windows(*ends) for ends in self._ends()]
            self._first = np.cumsum(np.concatenate([[0], *parts]))  # window of each document
            self.count = int(self._first[-1])

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """The numbered windows: int32 [n, length + 1]."""
        return np.asarray(self._tokens[self._begin(numbers)[:, None] + np.arange(self._length + 1)], np.int32)

    def left_out(self, cache: TokenCache) -> tuple[int, int]:
        """Bytes of text that are in no window because of where documents end, and bytes of text in all."""
        total = left = 0
        for begin, end in self._ends():
            text = np.cumsum([0, *cache.vocab.token_bytes(self._tokens[int(begin[0]) : int(end[-1])])])
            total += int(text[-1])
            whole = self._windows(begin, end)
            kept = np.where(whole > 0, begin + whole * self._length + 1, begin)
            left += int((text[end - begin[0]] - text[kept - begin[0]]).sum())
        return left, total

    def _windows(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Whole windows of each document."""
        return np.maximum(end - begin - 1, 0) // self._length

    def _ends(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Where documents begin and end, block by block."""
        assert self._offsets is not None
        for first in range(0, len(self._offsets) - 1, DOCUMENTS):
            offsets = np.asarray(self._offsets[first : first + DOCUMENTS + 1])
            yield offsets[:-1], offsets[1:]

    def _begin(self, numbers: np.ndarray) -> np.ndarray:
        """Where windows begin in the split's tokens."""
        if self._offsets is None:
            return numbers * self._length
        document = np.searchsorted(self._first, numbers, side="right") - 1
        return self._offsets[document] + (numbers - self._first[document]) * self._length
