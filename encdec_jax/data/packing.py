"""Segments laid out in rows, as an architecture's streams."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from encdec_jax.data.objectives.objective import Layout, Segments, ragged
from encdec_jax.model.arch import Arch
from encdec_jax.model.streams import Array, Stream, WholeStream


class Batch(NamedTuple):
    """Rows to train on or to score.

    Attributes:
      source: the source stream [rows, source], or None for one-stream architectures.
      target: the target stream [rows, target]; for one-stream architectures source and target joined.
      labels: int32 [rows, scored], for the last `scored` positions of the target; of a source that has its own stream
        and predicts too, and behind it of the target, all of both.
      weights: float32 [rows, scored], of the loss.
    """

    source: Stream | None
    target: Stream
    labels: Array
    weights: Array

    @property
    def whole(self) -> Batch:
        """The same rows, said to be whole."""
        source = None if self.source is None else WholeStream(*self.source)
        return self._replace(source=source, target=WholeStream(*self.target))


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
        source_slot = _filled(row, sources, rows, layout.source)
        target_slot = _filled(row, targets, rows, layout.target)
        source = Stream(*(_scatter(values, source_slot, rows, layout.source) for values in tokens))
        target = Stream(*(_scatter(values, target_slot, rows, layout.target) for values in inputs))
    else:
        starts = row * layout.target + _starts(row, sources + targets)
        target_slot = (starts + sources)[reader] + place
        source_slot = starts[owner] + within
        slot = np.concatenate([source_slot, target_slot])
        joined = (np.concatenate(both) for both in zip(tokens, inputs, strict=True))
        source, target = None, Stream(*(_scatter(values, slot, rows, layout.target) for values in joined))
    labels = _scatter(segments.labels, target_slot, rows, layout.target)
    weights = _scatter(np.ones(len(reader), np.float32), target_slot, rows, layout.target)
    if segments.source_labels is not None or layout.scored > layout.target:
        width = layout.source or layout.target
        of_source = [_scatter(values, source_slot, rows, width) for values in segments.of_source]
        if arch.own_stream:
            labels, weights = (np.concatenate(two, axis=1) for two in zip(of_source, (labels, weights), strict=True))
        else:
            labels, weights = labels + of_source[0], weights + of_source[1]
    unscored = labels.shape[1] - layout.scored
    return Batch(source, target, labels[:, unscored:], weights[:, unscored:])


def _starts(row: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Where each segment begins in its row."""
    before = np.cumsum(lengths) - lengths
    return before - before[np.searchsorted(row, row)]


def _filled(row: np.ndarray, lengths: np.ndarray, rows: int, width: int) -> np.ndarray:
    """Which slots segments laid end to end take: bool [rows * width], as many as tokens."""
    held = np.bincount(row, lengths, minlength=rows)
    return (np.arange(width) < held[:, None]).reshape(-1)


def _scatter(values: np.ndarray, slot: np.ndarray, rows: int, width: int) -> np.ndarray:
    dtype = np.int32 if values.dtype == np.int64 else values.dtype
    flat = np.zeros(rows * width, dtype)
    flat[slot] = values
    return flat.reshape(rows, width)
