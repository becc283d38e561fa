"""Gap sentences (PEGASUS, arXiv 1912.08777): whole sentences are missing, those that say most of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.denoise import woven
from encdec_jax.data.objectives.objective import (
    START,
    Frame,
    Layout,
    Lengths,
    OfWindows,
    Prompt,
    Segments,
    generator,
    shifted,
    turns,
)
from encdec_jax.data.objectives.orders import sentences_of
from encdec_jax.model.arch import Arch

RATIO = 0.45  # of the sentences, times a number from 1/3 to 1, all as likely
KEPT = 0.1  # of the selected sentences stay in the source
STEP, LANE = 2**0.5 - 1, 3  # of those numbers
NOISE = 0.2  # of a score: times 1 + NOISE x N(0, NOISE)


@dataclass(frozen=True)
class GapSentences(OfWindows):
    """Selected sentences become one mask each in the source; in their order, with an end, they are the target.

    A sentence's score is ROUGE-1 F between its words and those of all other sentences of the window, duplicates counted
    and each sentence on its own (Ind-Orig). A target has at most half of a window: sentences of lower scores that do
    not fit stay, and of one that alone is longer only the first half window goes.

    Attributes:
      principal: the sentences of the highest scores; else any, all as likely.
    """

    principal: bool

    @property
    def sentences(self) -> bool:
        """They are what is taken."""
        return True

    @property
    def of_text(self) -> bool:
        """Sentences are as long as they are."""
        return True

    @property
    def marks(self) -> tuple[str, ...]:
        """A sentence's mask."""
        return ("mask",)

    def lengths(self, data: DataConfig) -> Lengths:
        """An estimate for long windows: two thirds of the ratio of the tokens are taken."""
        length = data.length
        taken = max(1, round(length * RATIO * 2 / 3))
        return ((max(1, length - round((1 - KEPT) * taken) + 1), taken + 1, 1.0),)

    def layout(self, arch: Arch, data: DataConfig) -> Layout:
        """Room for a source of which all is kept, and for the largest target."""
        self.check(arch, data)
        segments, most = self.lengths(data), data.length // 2 + 1
        if arch.own_stream:
            return Layout(1, data.length, most, most, segments)
        return Layout(1, 0, data.length + most, data.length + most, segments)

    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, frame: Frame) -> Segments:
        """The windows' inputs, with gaps."""
        text = windows[:, :-1]
        n, length = text.shape
        number = sentences_of(text, frame)
        taken, before = np.zeros((n, length), bool), np.zeros((n, length + 1), np.int64)
        stays, share = np.zeros((n, length), bool), RATIO * (1 + 2 * turns(seed, places, LANE, STEP)) / 3
        for row, place in enumerate(places.tolist()):  # sentences are few, and each window has its own number
            rng, sizes = generator(seed, place), np.bincount(number[row])
            first = np.cumsum(sizes) - sizes
            scores = rng.random(len(sizes))
            if self.principal:
                scores = rouge(_words(text[row], frame), number[row])
                scores = scores * (1 + NOISE * rng.normal(0, NOISE, len(sizes)))
            wanted = min(int(max(len(sizes) * share[row], 1)), len(sizes))
            chosen = np.argsort(-scores, kind="stable")[:wanted]
            fits = sizes[chosen].cumsum() <= length // 2
            fits[0] = True
            keep = rng.random(wanted) < KEPT
            for sentence, kept in zip(chosen[fits], keep[fits], strict=True):
                part = slice(first[sentence], first[sentence] + min(sizes[sentence], length // 2))
                taken[row, part] = True
                stays[row, part] = kept
                before[row, part.start] += not kept
        source, source_lengths = woven(frame.marks["mask"], before, text, ~taken | stays)
        last = np.zeros((n, length + 1), np.int64)
        last[:, -1] = 1
        labels, target_lengths = woven(frame.eos, last, text, taken)
        return Segments(source, source_lengths, shifted(labels, target_lengths), labels, target_lengths)

    def prompt(self, text: Sequence[int], frame: Frame) -> Prompt:
        """Sentences that are missing at the end of the text."""
        return Prompt([*text, frame.marks["mask"]], START, frame.eos)


def rouge(words: np.ndarray, number: np.ndarray) -> np.ndarray:
    """ROUGE-1 F of each sentence against all others together: float64 [sentences].

    Args:
      words: int [L], the word that begins at each token, -1 where none does.
      number: int [L], the sentence of each token.
    """
    starts = words >= 0
    kinds, word = np.unique(words[starts], return_inverse=True)
    counts = np.zeros((number[-1] + 1, len(kinds)), np.int64)
    np.add.at(counts, (number[starts], word), 1)
    rest = counts.sum(axis=0) - counts
    shared = np.minimum(counts, rest).sum(axis=1)
    return 2 * shared / np.maximum(counts.sum(axis=1) + rest.sum(axis=1), 1)


def _words(text: np.ndarray, frame: Frame) -> np.ndarray:
    """A number for the word that begins at each token, -1 where none does; equal words have equal numbers."""
    known = text < len(frame.spaced)
    spaced = frame.spaced[np.where(known, text, 0)] & known
    begins = spaced.copy()
    begins[0] = True
    begins[1:] |= text[:-1] == frame.eos
    first = np.flatnonzero(begins)
    words = [tuple(part.tolist()) for part in np.split(text, first[1:])]
    numbers: dict[tuple[int, ...], int] = {}
    found = np.full(len(text), -1)
    found[first] = [numbers.setdefault(word, len(numbers)) for word in words]
    return found
