"""Windows from which something is missing, and what is missing: `Denoise(mask, source, target)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.masks import Mask, Masked
from encdec_jax.data.objectives.objective import Coder, Ids, Lengths, Objective, Prompt, Segments, shifted


@dataclass(frozen=True)
class Denoise(Objective):
    """The source is a window with noise, the target what the noise took.

    Each span leaves one sentinel in the source; the target holds, for each span, its sentinel and its tokens, and one
    final sentinel (T5, arXiv 1910.10683, section 3.1.4). Its inputs are its labels shifted right behind `START`.

    Attributes:
      mask: which tokens are noise.
    """

    mask: Mask

    def lengths(self, data: DataConfig) -> Lengths:
        """Of each number of spans that windows have."""
        length, noise = data.length, self.mask.tokens(data.length)
        return tuple((length - noise + n, noise + n + 1, share) for n, share in self.mask.spans(length))

    def sentinels(self, length: int) -> int:
        """One for each span, and the final one."""
        return self.mask.spans(length)[-1][0] + 1

    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, ids: Ids) -> Segments:
        """The windows' inputs, corrupted."""
        text = windows[:, :-1]
        return corrupt(text, self.mask.draw(text.shape[1], places, seed), ids.sentinel)

    def sequence(self, data: DataConfig) -> tuple[int, int]:
        """A corrupted window and what is missing."""
        source, target, _ = self.lengths(data)[0]
        return source, target

    def prompt(self, text: Sequence[int], vocab: Coder) -> Prompt:
        """What is missing at the end of the text."""
        return Prompt([*text, vocab.sentinel(0)], 0, vocab.sentinel(1))


def corrupt(text: np.ndarray, masked: Masked, first_sentinel: int) -> Segments:
    """The source keeps the text and one sentinel for each span; the target holds the spans.

    Args:
      text: int32 [n, L].
      masked: each span of at least one token, no two adjacent.
      first_sentinel: id of the first span's sentinel; the others count up from it.
    """
    starts = masked.before.copy()
    sentinel = first_sentinel - 1 + starts.cumsum(axis=1)
    source, source_lengths = woven(sentinel, starts, text, ~masked.mask)
    starts[:, -1] = 1
    sentinel[:, -1] += 1
    labels, target_lengths = woven(sentinel, starts, text, masked.mask)
    return Segments(source, source_lengths, shifted(labels, target_lengths), labels, target_lengths)


def woven(marks: np.ndarray, before: np.ndarray, text: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texts with marks between their tokens, laid end to end, and their lengths: int32 [sum of lengths], int64 [n].

    Args:
      marks: int [n, L + 1], the id of the marks before each token and behind the last one.
      before: int [n, L + 1], how many of them there are.
      text: int [n, L].
      keep: bool [n, L], tokens that stay.
    """
    values = np.stack([marks[:, :-1], text], axis=-1).reshape(len(text), -1)
    counts = np.stack([before[:, :-1], keep], axis=-1).reshape(len(text), -1)
    values = np.concatenate([values, marks[:, -1:]], axis=1)
    counts = np.concatenate([counts, before[:, -1:]], axis=1)
    return np.repeat(values.reshape(-1), counts.reshape(-1)).astype(np.int32), counts.sum(axis=1)
