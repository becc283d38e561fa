"""Training batches as a pure function of (seed, step), the same text in the same order for every architecture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from grain.experimental import index_shuffle

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.demands import text
from encdec_jax.data.geometry import geometry
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import OfWindows, Segments, frame_of, ragged, with_source_loss
from encdec_jax.data.packing import Batch, assemble
from encdec_jax.data.pairs import Items, Pairs
from encdec_jax.data.rows import Fill, planned
from encdec_jax.errors import require
from encdec_jax.model.streams import Stream

KEPT = 1 << 14  # places whose windows' numbers are kept: batches are made, and then hashed


class Batches:
    """What every step trains on. Holds no state: any step can be asked for at any time.

    The windows of the text (or the packed rows of pairs) are shuffled anew in every epoch. The order depends on the
    data and the seed alone, so experiments that share them share the text of every step.

    Attributes:
      layout: of the rows.
      rows: of a batch, on all hosts together.
      epoch: windows (or packed rows) in one pass over the split.
      here: places in a batch of the windows of this host's rows, int64 [windows here].
      fill: what the packed rows hold; None for text.
    """

    def __init__(self, cache: TokenCache, run: RunConfig, rows: Sequence[int] | np.ndarray | None = None) -> None:
        """Open the split; pairs are packed here, unless they were before.

        Args:
          cache: of the task's tokens.
          run: its architecture, data, objective, batch size and seed.
          rows: of the batch to give, in the order to give them in: those that this host's devices address
            (`encdec_jax.train.sharding.rows_by_process`); None for all.

        Raises:
          UserError: the split does not fit the objective or the lengths.
        """
        data, batch_size, seed = run.data, run.train.batch_size, run.train.seed
        require(seed >= 0, "train.seed", seed, "at least 0")
        require(data.split in cache.splits, "data.split", data.split, "one of " + ", ".join(cache.splits))
        shape = geometry(run)
        accepted = "an even number: random cuts come in pairs"
        require(batch_size % shape.draw == 0, "train.batch_size", batch_size, accepted)
        self.layout, self.rows = shape.layout, shape.rows
        self._arch, self._batch_size = run.model.choices, batch_size
        given = np.arange(self.rows) if rows is None else np.asarray(rows, np.int64)
        self.here = (given[:, None] * self.layout.windows + np.arange(self.layout.windows)).reshape(-1)
        self._read: _Text | _Packed
        self.fill: Fill | None = None
        if objective_of(run.objective).pairs:
            self._read = _Packed(cache, run)
            self.fill = self._read.fill
        else:
            self._read = _Text(cache, run)
        self.epoch = self._read.count
        # Seed s has in epoch e the order that s + e has in epoch 0: spread the seeds first.
        self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self._number = lru_cache(KEPT)(self._shuffled)

    def __call__(self, step: int) -> Batch:
        """This host's rows of a step, numpy."""
        return self._batch(step * self._batch_size + self.here)

    def chunk(self, first: int, n: int) -> Batch:
        """This host's rows of n steps: leaves [n, rows, ...]."""
        steps = np.arange(first, first + n)[:, None] * self._batch_size
        return _stacked(self._batch((steps + self.here).reshape(-1)), n)

    def windows(self, step: int) -> np.ndarray:
        """The tokens behind this host's rows of a step, before any objective or architecture.

        Returns:
          int32 [windows here, length + 1], or for pairs [rows here, source_length + target_length].
        """
        return self._read.raw(self._numbers(step * self._batch_size + self.here))

    def digests(self, step: int) -> np.ndarray:
        """What this host's windows of a step hold, each at its place in the training order.

        Returns:
          uint8 [windows here, 32]: SHA-256 of the place and of the window's tokens.
        """
        places = (step * self._batch_size + self.here).astype("<i8")
        windows = self.windows(step).astype("<i4")
        hashes = [hashlib.sha256(p.tobytes() + w.tobytes()).digest() for p, w in zip(places, windows, strict=True)]
        return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)

    def _batch(self, places: np.ndarray) -> Batch:
        row, segments = self._read.segments(self._numbers(places), places)
        return assemble(
            self._arch, self.layout, row // self.layout.windows, len(places) // self.layout.windows, segments
        )

    def _numbers(self, places: np.ndarray) -> np.ndarray:
        return np.array([self._number(place) for place in places.tolist()], np.int64)

    def _shuffled(self, place: int) -> int:
        """Grain's shuffle, whose seed is another in each epoch."""
        epoch, within = divmod(place, self.epoch)
        return index_shuffle(within, max_index=self.epoch - 1, seed=(self._seed + epoch) % 2**32, rounds=4)


def combine(digests: np.ndarray, so_far: str = "") -> str:
    """The hash of a set of windows: the sum of their digests modulo 2^256, which hosts can add up in any order.

    Args:
      digests: uint8 [windows, 32], as `Batches.digests` gives them; each knows its place in the training order.
      so_far: the hash of other windows, 64 hexadecimal digits, '' for none.
    """
    total = int(so_far or "0", 16) + sum(int.from_bytes(one.tobytes()) for one in digests)
    return f"{total % 2**256:064x}"


class _Text:
    """Windows of text, and what the objective makes of them."""

    def __init__(self, cache: TokenCache, run: RunConfig) -> None:
        self._windows = text(cache, run.data, run.objective.name)
        objective, self._seed = objective_of(run.objective), run.train.seed
        assert isinstance(objective, OfWindows)
        self._objective = objective
        shape = geometry(run)
        self._frame = frame_of(self._objective, cache.vocab, run.data, shape.windows * shape.updates)
        self.count = self._windows.count

    def raw(self, numbers: np.ndarray) -> np.ndarray:
        return self._windows[numbers]

    def segments(self, numbers: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, Segments]:
        segments = self._objective.view(self.raw(numbers), places, self._seed, self._frame)
        return np.arange(len(numbers)), segments


class _Packed:
    """Rows of pairs, as they were planned; the rows, not the pairs, are shuffled in every epoch."""

    def __init__(self, cache: TokenCache, run: RunConfig) -> None:
        data = run.data
        self._scores_source = objective_of(run.objective).scores_source
        self._pairs = Pairs(cache, data.split, data)
        self._rows = planned(cache, data)
        self._width = data.source_length + data.target_length
        self._room = None if data.packing == "joined" else data.source_length
        self.fill = self._rows.fill
        self.count = self.fill.rows

    def raw(self, numbers: np.ndarray) -> np.ndarray:
        """The sources of each row end to end, then its targets: behind the room for sources, if that is apart."""
        row, segments = self._pairs_of(numbers)
        tokens = np.zeros((len(numbers), self._width), np.int32)
        of_source, of_target = np.repeat(row, segments.source_lengths), np.repeat(row, segments.target_lengths)
        sources, targets = (np.bincount(of, minlength=len(numbers)) for of in (of_source, of_target))
        tokens[of_source, ragged(sources)[1]] = segments.source
        begin = sources if self._room is None else np.full(len(numbers), self._room)
        tokens[of_target, begin[of_target] + ragged(targets)[1]] = segments.labels
        return tokens

    def segments(self, numbers: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, Segments]:
        row, segments = self._pairs_of(numbers)
        return row, with_source_loss(segments) if self._scores_source else segments

    def _pairs_of(self, numbers: np.ndarray) -> tuple[np.ndarray, Segments]:
        first, last = self._rows.of(numbers)
        row, within = ragged(last - first)
        return row, self._pairs.segments(Items(*np.asarray(self._rows.items[first[row] + within]).T))


def _stacked(leaf: Any, n: int) -> Any:
    """Every array [n * rows, ...] of a batch as [n, rows, ...]."""
    if isinstance(leaf, Batch | Stream):
        return type(leaf)(*(_stacked(part, n) for part in leaf))
    return None if leaf is None else leaf.reshape(n, -1, *leaf.shape[1:])
