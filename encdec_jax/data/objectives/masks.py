"""Which tokens of a window are noise, in which spans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from encdec_jax.data.objectives.objective import draws


class Masked(NamedTuple):
    """Of n windows of L tokens.

    Attributes:
      mask: bool [n, L], the tokens that are noise.
      before: int [n, L + 1], spans that begin before each token, and behind the last one.
    """

    mask: np.ndarray
    before: np.ndarray


class Mask(ABC):
    """A way of choosing a window's noise; always as many tokens of a window of one length."""

    @abstractmethod
    def tokens(self, length: int) -> int:
        """Tokens of a window of `length` that are noise."""

    @abstractmethod
    def spans(self, length: int) -> tuple[tuple[int, float], ...]:
        """The numbers of spans that a window may have, each with its probability; ascending."""

    @abstractmethod
    def draw(self, length: int, places: np.ndarray, seed: int) -> Masked:
        """The noise of the windows at `places` [n] of the training order."""


@dataclass(frozen=True)
class Spans(Mask):
    """As many spans in every window, of random lengths and places (T5, arXiv 1910.10683, section 3.1.4).

    Attributes:
      density: share of the tokens that are noise.
      mean: tokens of a span in the mean.
    """

    density: float
    mean: float

    def tokens(self, length: int) -> int:
        """Rounded from the density; at least one, and not all."""
        return noise_tokens(length, self.density)

    def spans(self, length: int) -> tuple[tuple[int, float], ...]:
        """One number, rounded from the mean length."""
        noise = self.tokens(length)
        return ((min(max(round(noise / self.mean), 1), noise, length - noise), 1.0),)

    def draw(self, length: int, places: np.ndarray, seed: int) -> Masked:
        """As `noise_mask`."""
        return in_runs(noise_mask(length, self.tokens(length), self.spans(length)[0][0], places, seed))


def noise_tokens(length: int, density: float) -> int:
    """A share of a window in whole tokens; at least one, and not all."""
    return min(max(round(length * density), 1), length - 1)


def in_runs(mask: np.ndarray) -> Masked:
    """Mask whose spans are the runs of a mask: bool [n, L]."""
    starts = mask.copy()
    starts[:, 1:] &= ~mask[:, :-1]
    return Masked(mask, np.pad(starts, ((0, 0), (0, 1))).astype(np.int64))


def noise_mask(length: int, noise: int, spans: int, places: np.ndarray, seed: int) -> np.ndarray:
    """Which tokens of each window are noise: bool [n, length], `noise` of them in `spans` runs.

    Kept and noise runs alternate, kept first; both ways of cutting a number of tokens into runs of at least one are
    uniform over all such ways (T5, arXiv 1910.10683, section 3.1.4).
    """
    kept = length - noise
    drawn = draws(seed, places, length - 2)
    runs = np.stack([_parts(drawn[:, : kept - 1], kept, spans), _parts(drawn[:, kept - 1 :], noise, spans)], axis=-1)
    is_noise = np.tile([False, True], len(places) * spans)
    return np.repeat(is_noise, runs.reshape(-1)).reshape(len(places), length)


def _parts(drawn: np.ndarray, total: int, parts: int) -> np.ndarray:
    """Lengths [n, parts] of at least one that add up to `total`, ends ranked by `drawn` [n, total - 1]."""
    ends = 1 + np.sort(np.argsort(drawn, axis=1)[:, : parts - 1], axis=1)
    return np.diff(ends, axis=1, prepend=0, append=total)
