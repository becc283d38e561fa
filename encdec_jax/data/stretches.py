"""Held-out rows other than the fair loss's: whole documents, and the same labels behind longer texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from encdec_jax.data.cache import TokenCache
from encdec_jax.data.objectives.objective import Layout, Segments, ragged
from encdec_jax.data.packing import Batch, assemble
from encdec_jax.data.windows import Windows
from encdec_jax.errors import require
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.arch import Arch

BLOCK = 4096  # rows that are made together


@dataclass(frozen=True)
class Whole:
    """Rows of some documents, each document's together.

    Attributes:
      rows: [rows, ...]; padding has weight 0.
      document: each row's number in the split, int64 [rows], ascending.
      nbytes: bytes of text in each row's scored labels, int64 [rows].
      text: of each of the documents, by its number: 12 digits of the SHA-256 of its scored labels' text.
    """

    rows: Batch
    document: np.ndarray
    nbytes: np.ndarray
    text: dict[int, str]


def document_rows(cache: TokenCache, arch: Arch, split: str, evaluate: EvalConfig) -> Iterator[Whole]:
    """Every document of a split, in rows that score each token behind its first `evaluate.prefix` + 1 once.

    Each row's source is the `evaluate.prefix` tokens in front of its target, whose labels are up to `evaluate.suffix`;
    none reaches beyond a document. Documents of no more than `evaluate.prefix` + 1 tokens are in none.

    Args:
      cache: of a task of text.
      arch: that reads the rows.
      split: of it.
      evaluate: `prefix` and `suffix`.
    """
    prefix, suffix = evaluate.prefix, evaluate.suffix
    offsets = np.asarray(cache.offsets(split, "targets"))
    scored = np.maximum(np.diff(offsets) - prefix - 1, 0)
    each = -(-scored // suffix)
    ends = np.cumsum(each)
    first = 0
    while first < len(each):
        last = max(first + 1, int(np.searchsorted(ends, (ends[first - 1] if first else 0) + BLOCK, side="right")))
        some = np.arange(first, last)
        owner, within = ragged(each[some])
        if len(owner):
            begin = offsets[some][owner] + within * suffix
            labels = np.minimum(suffix, scored[some][owner] - within * suffix)
            tokens = np.asarray(cache.tokens(split, "targets")[int(offsets[first]) : int(offsets[last])], np.int32)
            segments = _segments(tokens, begin - offsets[first], np.full(len(begin), prefix), labels)
            rows = assemble(arch, _layout(arch, prefix, suffix, suffix), np.arange(len(begin)), len(begin), segments)
            text = {
                int(number): _digest(
                    cache, tokens[int(offsets[number] - offsets[first]) + prefix + 1 :][: scored[number]]
                )
                for number in some
                if scored[number]
            }
            yield Whole(rows, some[owner], _bytes(cache, segments), text)
        first = last


def longer_rows(
    cache: TokenCache, arch: Arch, split: str, evaluate: EvalConfig, length: int, prefix: int, longest: int
) -> tuple[Batch, np.ndarray]:
    """The same labels behind more or less text: the last `evaluate.suffix` tokens of windows of `longest` tokens.

    Args:
      cache: of a task of text.
      arch: that reads the rows.
      split: of it.
      evaluate: `suffix`, how many windows at most, and whether they span documents.
      length: tokens of a row's source and target, at most `longest`: the last of its window's.
      prefix: tokens of them that are source.
      longest: tokens of the windows, evenly spaced over the split; what they are depends on no other argument here.

    Returns:
      rows [windows, ...], and the bytes of text of each row's scored labels, int64 [windows].

    Raises:
      UserError: the split has no two such windows.
    """
    windows = Windows(cache, split, longest, evaluate.documents)
    require(windows.count >= 2, "lengths", longest, f"tokens of which split {split!r} has two windows or more")
    n = min(evaluate.windows, windows.count)
    tokens = windows[np.arange(n) * windows.count // n][:, longest - length :]
    begin = np.arange(n) * (length + 1)
    target = np.full(n, length - prefix)
    segments = _segments(tokens.reshape(-1), begin, np.full(n, prefix), target)
    rows = assemble(arch, _layout(arch, prefix, length - prefix, evaluate.suffix), np.arange(n), n, segments)
    nbytes = cache.vocab.token_bytes(tokens[:, -evaluate.suffix :].reshape(-1)).reshape(n, -1).sum(axis=1)
    return rows, nbytes.astype(np.int64)


def _segments(tokens: np.ndarray, begin: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> Segments:
    """Sources that begin at `begin`, each followed by its target, whose labels are one token on."""
    owner, within = ragged(sources)
    reader, place = ragged(targets)
    inputs = (begin + sources)[reader] + place
    return Segments(
        tokens[begin[owner] + within],
        sources.astype(np.int64),
        tokens[inputs],
        tokens[inputs + 1],
        targets.astype(np.int64),
    )


def _layout(arch: Arch, source: int, target: int, scored: int) -> Layout:
    streams = (source, target) if arch.own_stream else (0, source + target)
    return Layout(1, *streams, scored, ())


def _bytes(cache: TokenCache, segments: Segments) -> np.ndarray:
    text = np.cumsum([0, *cache.vocab.token_bytes(segments.labels)])
    ends = np.cumsum(segments.target_lengths)
    return (text[ends] - text[ends - segments.target_lengths]).astype(np.int64)


def _digest(cache: TokenCache, tokens: np.ndarray) -> str:
    return hashlib.sha256(cache.vocab.decode(tokens.tolist()).encode()).hexdigest()[:12]
