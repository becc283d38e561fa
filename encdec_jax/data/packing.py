"""Pairs into rows with room for sources and room for targets, and segments laid out as an architecture's streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.objective import Layout, Segments, ragged, shifted
from encdec_jax.errors import UserError, require
from encdec_jax.model.arch import Arch
from encdec_jax.model.streams import Array, Stream

if TYPE_CHECKING:
    from encdec_jax.data.cache import TokenCache

OPEN_ROWS = 256  # rows a pair may still be put into; keeps packing linear in the number of pairs


class Batch(NamedTuple):
    """Rows to train on or to score.

    Attributes:
      source: the source stream [rows, source], or None for one-stream architectures.
      target: the target stream [rows, target]; for one-stream architectures source and target joined.
      labels: int32 [rows, scored], for the last `scored` positions of the target.
      weights: float32 [rows, scored], of the loss.
    """

    source: Stream | None
    target: Stream
    labels: Array
    weights: Array


class Packing(NamedTuple):
    """Which pairs share a row.

    Attributes:
      pairs: int64, pairs' numbers, row after row.
      first: int64 [rows + 1]; row r holds pairs[first[r]:first[r + 1]].
    """

    pairs: np.ndarray
    first: np.ndarray


def pack(order: np.ndarray, sources: np.ndarray, targets: np.ndarray, room: tuple[int, int]) -> Packing:
    """Put every pair into the first row that has room for its source and for its target.

    Args:
      order: int [n], the pairs' numbers in the order to pack them; each must fit into an empty row.
      sources, targets: int, tokens of each numbered pair.
      room: tokens of source and of target in a row.
    """
    rows: list[list[int]] = []
    left = np.empty((len(order), 2), np.int64)  # room that each row still has
    for pair, need in zip(order.tolist(), np.stack([sources[order], targets[order]], axis=1), strict=True):
        oldest = max(0, len(rows) - OPEN_ROWS)
        fits = (left[oldest : len(rows)] >= need).all(axis=1)
        row = oldest + int(fits.argmax()) if fits.any() else len(rows)
        if row == len(rows):
            rows.append([])
            left[row] = room
        rows[row].append(pair)
        left[row] -= need
    first = np.cumsum([0, *map(len, rows)])
    return Packing(np.array([pair for row in rows for pair in row], np.int64), first)


class Pairs:
    """The pairs of one split that fit into a row.

    Attributes:
      fitting: int64, numbers of the pairs whose source and target are neither empty nor too long.
      dropped: how many others there are.
      sources, targets: int64, tokens of every pair.
    """

    def __init__(self, cache: TokenCache, split: str, data: DataConfig) -> None:
        """Read the lengths of all pairs; their tokens stay on disk.

        Raises:
          UserError: the task has no pairs, or none fits.
        """
        if "inputs" not in cache.features:
            raise UserError(
                f"data.task = {data.task!r} is not accepted: objective 'seq2seq' needs a task with 'inputs'"
            )
        self._tokens = {name: np.asarray(cache.tokens(split, name)) for name in ("inputs", "targets")}
        self._offsets = {name: np.asarray(cache.offsets(split, name)) for name in ("inputs", "targets")}
        self.sources, self.targets = (np.diff(self._offsets[name]) for name in ("inputs", "targets"))
        ok = _fitting(cache, split, data)
        self.fitting = np.flatnonzero(ok)
        self.dropped = int(len(ok) - len(self.fitting))
        require(
            len(self.fitting) > 0,
            "data.source_length, data.target_length",
            (data.source_length, data.target_length),
            f"room for at least one pair of task '{data.task}', split '{split}'",
        )

    def segments(self, numbers: np.ndarray) -> Segments:
        """The numbered pairs, targets shifted right behind `START`."""
        source, source_lengths = self._gather("inputs", numbers)
        labels, target_lengths = self._gather("targets", numbers)
        return Segments(source, source_lengths, shifted(labels, target_lengths), labels, target_lengths)

    def _gather(self, name: str, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = self._offsets[name][numbers]
        lengths = self._offsets[name][numbers + 1] - first
        owner, within = ragged(lengths)
        return self._tokens[name][first[owner] + within].astype(np.int32), lengths


def dropped_pairs(cache: TokenCache, split: str, data: DataConfig) -> tuple[int, int]:
    """How many pairs of a split fit no row, and how many there are; (0, number of documents) for text."""
    fits = (
        _fitting(cache, split, data)
        if "inputs" in cache.features
        else np.ones(len(cache.offsets(split, "targets")) - 1)
    )
    return int(len(fits) - fits.sum()), len(fits)


def _fitting(cache: TokenCache, split: str, data: DataConfig) -> np.ndarray:
    """Which pairs have a source and a target that are neither empty nor too long: bool [pairs]."""
    sources, targets = (np.diff(np.asarray(cache.offsets(split, name))) for name in ("inputs", "targets"))
    return (sources > 0) & (sources <= data.source_length) & (targets > 0) & (targets <= data.target_length)


def assemble(arch: Arch, layout: Layout, row: np.ndarray, rows: int, segments: Segments) -> Batch:
    """Lay segments out in rows, as segments 1, 2, ... of each; what stays free is padding, segment 0.

    A segment's positions count from 0 through its source and on through its target. Architectures with one stream get
    each segment's source followed by its target. Labels of targets have weight 1, others
    what the segments say.

    Args:
      arch: decides the streams, and whether source tokens are open.
      layout: lengths of the streams.
      row: int [n], each segment's row, in ascending order.
      rows: of the batch.
      segments: n of them.
    """
    sources, targets = segments.source_lengths, segments.target_lengths
    number = np.arange(len(row)) - np.searchsorted(row, row) + 1
    owner, within = ragged(sources)
    reader, place = ragged(targets)
    tokens = (segments.source, within, number[owner], np.full(len(owner), arch.source_open))
    inputs = (segments.inputs, place + sources[reader], number[reader], np.zeros(len(reader), bool))
    if arch.own_stream:
        source_slot = row[owner] * layout.source + _starts(row, sources)[owner] + within
        target_slot = row[reader] * layout.target + _starts(row, targets)[reader] + place
        source = Stream(*(_scatter(values, source_slot, rows, layout.source) for values in tokens))
        target = Stream(*(_scatter(values, target_slot, rows, layout.target) for values in inputs))
    else:
        starts = row * layout.target + _starts(row, sources + targets)
        target_slot = (starts + sources)[reader] + place
        slot = np.concatenate([starts[owner] + within, target_slot])
        joined = (np.concatenate(both) for both in zip(tokens, inputs, strict=True))
        source, target = None, Stream(*(_scatter(values, slot, rows, layout.target) for values in joined))
    predicted, weighed, where = segments.labels, np.ones(len(reader), np.float32), target_slot
    if segments.source_labels is not None and segments.source_weights is not None:  # of one stream
        predicted, where = np.concatenate([segments.source_labels, predicted]), slot
        weighed = np.concatenate([segments.source_weights, weighed])
    labels = _scatter(predicted, where, rows, layout.target)
    weights = _scatter(weighed, where, rows, layout.target)
    unscored = layout.target - layout.scored
    return Batch(source, target, labels[:, unscored:], weights[:, unscored:])


def _starts(row: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Where each segment begins in its row."""
    before = np.cumsum(lengths) - lengths
    return before - before[np.searchsorted(row, row)]


def _scatter(values: np.ndarray, slot: np.ndarray, rows: int, width: int) -> np.ndarray:
    dtype = np.int32 if values.dtype == np.int64 else values.dtype
    flat = np.zeros(rows * width, dtype)
    flat[slot] = values
    return flat.reshape(rows, width)
