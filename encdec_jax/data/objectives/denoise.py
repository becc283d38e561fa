"""Windows from which something is missing, and what is to be restored: `Denoise(mask, source, target)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.masks import Mask, Masked, in_runs
from encdec_jax.data.objectives.objective import START, Frame, Lengths, OfWindows, Prompt, Segments, draws, shifted
from encdec_jax.data.objectives.orders import Order

SWAPPED = 0.1  # of BERT-style's noise becomes another token of the vocabulary, the rest the mask (T5, section 3.3.1)


@dataclass(frozen=True)
class Denoise(OfWindows):
    """The source is a window with noise, the target the whole of it or what the noise took.

    The target's inputs are its labels shifted right behind `START`.

    Attributes:
      mask: which tokens are noise; None for none of them.
      source: has, for the noise, a sentinel a span, which counts up; one mask a span; a mask a token; a mask or, for
        one in ten, a random token; or nothing.
      target: for each span its sentinel and its tokens, then one sentinel more (T5, arXiv 1910.10683, section 3.1.4);
        the noise's tokens and an end; or the window and an end.
      order: in which the source has what it keeps; None for the text's own.
      mode: a mark in front of the source (UL2, arXiv 2205.05131), or None.
    """

    mask: Mask | None
    source: Literal["sentinels", "one_mask", "masks", "swapped", "dropped"] = "sentinels"
    target: Literal["spans", "tokens", "whole"] = "spans"
    order: Order | None = None
    mode: str | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """The mask and the mode."""
        masks = ("mask",) if self.source in ("one_mask", "masks", "swapped") else ()
        return masks if self.mode is None else (*masks, self.mode)

    @property
    def sentences(self) -> bool:
        """Where their order changes."""
        return self.order is not None and self.order.sentences

    def lengths(self, data: DataConfig) -> Lengths:
        """Of each number of spans that windows have."""
        length, first = data.length, int(self.mode is not None)
        if self.mask is None:
            return ((first + length, length + 1, 1.0),)
        noise, found = self.mask.tokens(length), dict[tuple[int, int], float]()
        for spans, share in self.mask.spans(length):
            source = {"masks": length, "swapped": length, "dropped": length - noise}
            target = {"spans": noise + spans + 1, "tokens": noise + 1, "whole": length + 1}[self.target]
            kind = (first + source.get(self.source, length - noise + spans), target)
            found[kind] = found.get(kind, 0.0) + share
        return tuple((source, target, share) for (source, target), share in found.items())

    def sentinels(self, length: int) -> int:
        """One for each span, and the final one."""
        if self.mask is None or "sentinels" not in (self.source, {"spans": "sentinels"}.get(self.target)):
            return 0
        return self.mask.spans(length)[-1][0] + 1

    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, frame: Frame) -> Segments:
        """The windows' inputs, corrupted."""
        text = windows[:, :-1]
        n, length = text.shape
        shown = text if self.order is None else self.order.of(text, places, seed, frame)
        masked = in_runs(np.zeros((n, length), bool)) if self.mask is None else self.mask.draw(length, places, seed)
        source, source_lengths = self._source(shown, masked, places, seed, frame)
        if self.mode is not None:
            starts = np.cumsum(source_lengths) - source_lengths
            source, source_lengths = np.insert(source, starts, frame.marks[self.mode]), source_lengths + 1
        if self.target == "spans":
            labels, target_lengths = spans_of(shown, masked, frame.sentinel)
        else:
            keep = masked.mask if self.target == "tokens" else np.ones((n, length), bool)
            labels, target_lengths = woven(frame.eos, _last(n, length), text, keep)
        return Segments(source, source_lengths, shifted(labels, target_lengths), labels, target_lengths)

    def _source(
        self, text: np.ndarray, masked: Masked, places: np.ndarray, seed: int, frame: Frame
    ) -> tuple[np.ndarray, np.ndarray]:
        """The source's tokens end to end, and its lengths, without the mode."""
        if self.source == "sentinels":
            return woven(_counted(masked.before, frame.sentinel), masked.before, text, ~masked.mask)
        if self.source == "one_mask":
            return woven(frame.marks["mask"], masked.before, text, ~masked.mask)
        nothing = np.zeros_like(masked.before)
        if self.source == "dropped":
            return woven(0, nothing, text, ~masked.mask)
        noise = np.full(text.shape, frame.marks["mask"])
        if self.source == "swapped":
            noise = swapped(noise, SWAPPED, places, seed, frame)
        return woven(0, nothing, np.where(masked.mask, noise, text), np.ones_like(masked.mask))

    def sequence(self, data: DataConfig) -> tuple[int, int]:
        """A corrupted window and its target, of the likeliest kind."""
        source, target, _ = max(self.lengths(data), key=lambda kind: kind[2])
        return source, target

    def prompt(self, text: Sequence[int], frame: Frame) -> Prompt:
        """What is missing at the end of the text; where targets are whole, the text again, and how it goes on."""
        mode = [] if self.mode is None else [frame.marks[self.mode]]
        if self.target == "spans":
            return Prompt([*mode, *text, frame.sentinel], START, frame.sentinel + 1)
        masks = [frame.marks["mask"]] if "mask" in frame.marks else []
        return Prompt([*mode, *text, *masks], START, frame.eos)


def corrupt(text: np.ndarray, masked: Masked, first_sentinel: int) -> Segments:
    """The source keeps the text and one sentinel for each span; the target holds the spans.

    Args:
      text: int32 [n, L].
      masked: each span of at least one token, no two adjacent.
      first_sentinel: id of the first span's sentinel; the others count up from it.
    """
    source, lengths = woven(_counted(masked.before, first_sentinel), masked.before, text, ~masked.mask)
    labels, target_lengths = spans_of(text, masked, first_sentinel)
    return Segments(source, lengths, shifted(labels, target_lengths), labels, target_lengths)


def spans_of(text: np.ndarray, masked: Masked, first_sentinel: int) -> tuple[np.ndarray, np.ndarray]:
    """Each span behind its sentinel, then one sentinel more; end to end, and their lengths."""
    before = masked.before.copy()
    before[:, -1] = 1
    return woven(_counted(before, first_sentinel), before, text, masked.mask)


def _counted(before: np.ndarray, first: int) -> np.ndarray:
    """Ids of sentinels that count up from the first."""
    return first - 1 + before.cumsum(axis=1, dtype=np.int32)


def woven(
    marks: np.ndarray | int, before: np.ndarray, text: np.ndarray, keep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Texts with marks between their tokens, laid end to end, and their lengths: int32 [sum of lengths], int64 [n].

    Args:
      marks: int [n, L + 1], the id of the marks before each token and behind the last one; or one for all.
      before: int [n, L + 1], how many of them there are.
      text: int [n, L].
      keep: bool [n, L], tokens that stay.
    """
    n, room = before.shape
    several = before.max(initial=0) > 1
    values, held = np.empty((n, room, 2), np.int32), np.zeros((n, room, 2), np.int64 if several else bool)
    values[:, :, 0], values[:, :-1, 1] = marks, text
    held[:, :, 0], held[:, :-1, 1] = before, keep
    if several:
        return np.repeat(values.reshape(-1), held.reshape(-1)), held.sum(axis=(1, 2))
    return values.reshape(-1).compress(held.reshape(-1)), np.count_nonzero(held, axis=(1, 2))


def swapped(noise: np.ndarray, share: float, places: np.ndarray, seed: int, frame: Frame) -> np.ndarray:
    """The noise's ids [n, L], but for a share of them, which become random ids of text."""
    drawn = draws(seed, places, noise.shape[1], lane=1)
    first, last = frame.ordinary
    return np.where(drawn < share, first + (drawn / share * (last - first)).astype(np.int64), noise)


def _last(n: int, length: int) -> np.ndarray:
    """One mark, behind the last token."""
    before = np.zeros((n, length + 1), np.int64)
    before[:, -1] = 1
    return before
