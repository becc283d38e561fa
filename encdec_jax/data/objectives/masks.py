"""Which tokens of a window are noise, in which spans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import comb
from typing import NamedTuple

import numpy as np

from encdec_jax.data.objectives.objective import draws

RARE = 1e-4  # share of windows that may need more spans than a row has room for


class Masked(NamedTuple):
    """Of n windows of L tokens.

    Attributes:
      mask: bool [n, L], the tokens that are noise.
      before: int [n, L + 1], spans that begin before each token, and behind the last one.
    """

    mask: np.ndarray
    before: np.ndarray


@dataclass(frozen=True)
class Mask(ABC):
    """A way of choosing a window's noise; always as many tokens of a window of one length.

    Attributes:
      density: share of the tokens that are noise.
    """

    density: float

    def tokens(self, length: int) -> int:
        """Tokens of a window of `length` that are noise: rounded from the density; at least one, and not all."""
        return noise_tokens(length, self.density)

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
      mean: tokens of a span in the mean.
    """

    mean: float

    def spans(self, length: int) -> tuple[tuple[int, float], ...]:
        """One number, rounded from the mean length."""
        noise = self.tokens(length)
        return ((min(max(round(noise / self.mean), 1), noise, length - noise), 1.0),)

    def draw(self, length: int, places: np.ndarray, seed: int) -> Masked:
        """As `noise_mask`."""
        return in_runs(noise_mask(length, self.tokens(length), self.spans(length)[0][0], places, seed))


@dataclass(frozen=True)
class Scattered(Mask):
    """Tokens on their own, all choices of so many as likely; neighbours make one span (T5, section 3.3.1)."""

    def spans(self, length: int) -> tuple[tuple[int, float], ...]:
        """r runs of n tokens among L: C(n - 1, r - 1) C(L - n + 1, r) of the C(L, n) choices have them."""
        noise = self.tokens(length)
        most, ways = min(noise, length - noise + 1), comb(length, noise)
        return tuple((r, comb(noise - 1, r - 1) * comb(length - noise + 1, r) / ways) for r in range(1, most + 1))

    def draw(self, length: int, places: np.ndarray, seed: int) -> Masked:
        """Those of the lowest draws."""
        return in_runs(_ranks(draws(seed, places, length)) < self.tokens(length))


@dataclass(frozen=True)
class Suffix(Mask):
    """One span at the end: with a sentinel, prefix language modelling (UL2's S, arXiv 2205.05131)."""

    def spans(self, length: int) -> tuple[tuple[int, float], ...]:
        """One."""
        return ((1, 1.0),)

    def draw(self, length: int, places: np.ndarray, seed: int) -> Masked:
        """The same for all."""
        last = np.arange(length) >= length - self.tokens(length)
        return in_runs(np.broadcast_to(last, (len(places), length)).copy())


@dataclass(frozen=True)
class Infilled(Mask):
    """Spans of Poisson lengths, also of none, until they hold enough tokens (BART, arXiv 1910.13461, section 2.2).

    The last span takes no more than is wanted. All ways of placing the spans among the kept tokens are as likely, so
    spans may touch. One window in ten thousand needs more spans than `spans` allows: there the last one is longer.

    Attributes:
      mean: tokens of a span in the mean.
    """

    mean: float

    def spans(self, length: int) -> tuple[tuple[int, float], ...]:
        """k spans hold n tokens where k Poisson lengths add up to n or more: their sum is Poisson(k x mean)."""
        noise = self.tokens(length)
        enough, found = 0.0, list[tuple[int, float]]()
        while enough < 1 - RARE:
            spans = len(found) + 1
            before, enough = enough, 1 - float(_poisson(spans * self.mean, noise)[:noise].sum())
            found.append((spans, enough - before))
        found[-1] = (len(found), 1 - before)
        return tuple(found)

    def draw(self, length: int, places: np.ndarray, seed: int) -> Masked:
        """Lengths by the inverse of Poisson's distribution, then places by rank."""
        noise, most = self.tokens(length), self.spans(length)[-1][0]
        kept, n = length - noise, len(places)
        drawn = draws(seed, places, 2 * most + kept)
        sizes = np.searchsorted(_poisson(self.mean, noise).cumsum(), drawn[:, :most], side="right").astype(np.int64)
        ends = np.minimum(sizes.cumsum(axis=1), noise)
        ends[:, -1] = noise
        sizes = np.diff(ends, axis=1, prepend=0)
        count = (ends < noise).sum(axis=1) + 1
        order = drawn[:, most:].copy()  # of count spans and kept tokens; the slots behind them stay empty
        order[np.arange(kept + most) >= kept + count[:, None]] = 2.0
        is_span = _ranks(order) < count[:, None]
        slot = np.where(is_span, np.take_along_axis(sizes, np.clip(is_span.cumsum(axis=1) - 1, 0, most - 1), axis=1), 1)
        slot[order == 2.0] = 0
        mask = np.repeat(is_span.reshape(-1), slot.reshape(-1)).reshape(n, length)
        before = np.zeros((n, length + 1), np.int64)
        row, at = np.nonzero(is_span)
        np.add.at(before, (row, (slot.cumsum(axis=1) - slot)[row, at]), 1)
        return Masked(mask, before)


def noise_tokens(length: int, density: float) -> int:
    """A share of a window in whole tokens; at least one, and not all."""
    return min(max(round(length * density), 1), length - 1)


def _poisson(mean: float, most: int) -> np.ndarray:
    """Probabilities of 0 .. most: float64 [most + 1]."""
    k = np.arange(most + 1)
    return np.exp(k * np.log(mean) - mean - np.concatenate([[0.0], np.log(k[1:]).cumsum()]))


def _ranks(drawn: np.ndarray) -> np.ndarray:
    """The rank of each draw in its row: int [n, m]."""
    return drawn.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")


def in_runs(mask: np.ndarray) -> Masked:
    """Mask whose spans are the runs of a mask: bool [n, L]."""
    before = np.zeros((len(mask), mask.shape[1] + 1), np.int32)
    before[:, 0] = mask[:, 0]
    before[:, 1:-1] = mask[:, 1:] > mask[:, :-1]
    return Masked(mask, before)


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
    if parts == 1:
        return np.full((len(drawn), 1), total)
    last = np.partition(drawn, parts - 2, axis=1)[:, parts - 2 : parts - 1]
    ends = 1 + np.nonzero(drawn <= last)[1].reshape(len(drawn), parts - 1)
    return np.diff(ends, axis=1, prepend=0, append=total)
