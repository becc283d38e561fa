"""The held-out rows that every architecture is scored on: the same text after the same text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from encdec_jax.data.cache import TokenCache
from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.cut import cut
from encdec_jax.data.objectives.objective import Layout, Segments
from encdec_jax.data.objectives.seq2seq import Seq2Seq
from encdec_jax.data.packing import Batch, assemble
from encdec_jax.data.pairs import Pairs
from encdec_jax.data.windows import Windows
from encdec_jax.errors import require
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.arch import Arch


def further_sets(
    cache: TokenCache, arch: Arch, data: DataConfig, evaluate: EvalConfig
) -> Iterator[tuple[str, Batch, np.ndarray]]:
    """The other sets that are scored: SPLIT/PREFIX, and as `eval_batch` of that split under that prefix.

    Raises:
      UserError: as `eval_batch`; or shorter prefixes are asked for of pairs.
    """
    whole = "none, because a pair's source is its prefix"
    require("inputs" not in cache.features or not evaluate.prefixes, "evaluate.prefixes", evaluate.prefixes, whole)
    again = f"other splits than data.eval_split = {data.eval_split!r}"
    require(data.eval_split not in evaluate.splits, "evaluate.splits", evaluate.splits, again)
    for split in (data.eval_split, *evaluate.splits):
        for prefix in (evaluate.prefix, *evaluate.prefixes):
            if (split, prefix) != (data.eval_split, evaluate.prefix):
                yield f"{split}/{prefix}", *eval_batch(cache, arch, replace(data, eval_split=split), evaluate, prefix)


def at_most(cache: TokenCache, data: DataConfig, evaluate: EvalConfig) -> EvalConfig:
    """As many windows of text as are asked for, or as the split has."""
    there = Windows(cache, data.eval_split, evaluate.prefix + evaluate.suffix, evaluate.documents).count
    return replace(evaluate, windows=min(evaluate.windows, there)) if there > 1 else evaluate


def eval_batch(
    cache: TokenCache, arch: Arch, data: DataConfig, evaluate: EvalConfig, prefix: int | None = None
) -> tuple[Batch, np.ndarray]:
    """All held-out rows, evenly spaced over `data.eval_split` without overlap.

    Text: the source is `prefix` tokens, the target's inputs the next `suffix`; their labels, one token on, are scored.
    A shorter prefix is the last tokens of each row's own, so that the same labels are scored. Pairs: one a row, the
    target scored under its source.

    Args:
      cache: of the task's tokens.
      arch: that reads the rows.
      data: its `eval_split`, and the rooms of pairs.
      evaluate: lengths and number of the rows.
      prefix: tokens; `evaluate.prefix` if None.

    Returns:
      rows [windows, ...], every scored label with weight 1; and the bytes of text of each row's scored labels, int64
      [windows].

    Raises:
      UserError: the split is unknown, too small for that many windows, or without a byte of text in what is scored.
    """
    require(data.eval_split in cache.splits, "data.eval_split", data.eval_split, "one of " + ", ".join(cache.splits))
    if "inputs" in cache.features:
        segments, shape = _pairs(cache, data, evaluate), Seq2Seq().layout(arch, data)
    else:
        tokens = evaluate.prefix if prefix is None else prefix
        segments, shape = _text(cache, data, evaluate, tokens), _suffix_layout(arch, tokens, evaluate.suffix)
    row = np.arange(evaluate.windows)
    text = np.cumsum([0, *cache.vocab.token_bytes(segments.labels)])
    ends = np.cumsum(segments.target_lengths)
    nbytes = text[ends] - text[ends - segments.target_lengths]
    accepted = "a split with text in what is scored; its labels stand for no byte, and bits per byte for nothing"
    require(nbytes.sum() > 0, "data.eval_split", data.eval_split, accepted)
    return assemble(arch, shape, row, evaluate.windows, segments), nbytes.astype(np.int64)


def _suffix_layout(arch: Arch, source: int, target: int) -> Layout:
    streams = (source, target) if arch.own_stream else (0, source + target)
    return Layout(1, *streams, target, ((source, target, 1.0),))


def _text(cache: TokenCache, data: DataConfig, evaluate: EvalConfig, prefix: int) -> Segments:
    length = evaluate.prefix + evaluate.suffix
    apart = Windows(cache, data.eval_split, length, evaluate.documents)
    require(evaluate.windows <= apart.count, "evaluate.windows", evaluate.windows, _most(apart.count, data))
    if evaluate.documents == "apart":
        windows = apart[np.arange(evaluate.windows) * apart.count // evaluate.windows]
    else:
        tokens = cache.tokens(data.eval_split, "targets")
        first = np.arange(evaluate.windows) * (len(tokens) - 1 - length) // max(evaluate.windows - 1, 1)
        windows = np.asarray(tokens[first[:, None] + np.arange(length + 1)], np.int32)
    return cut(windows[:, evaluate.prefix - prefix :], np.full(evaluate.windows, prefix))


def _pairs(cache: TokenCache, data: DataConfig, evaluate: EvalConfig) -> Segments:
    pairs = Pairs(cache, data.eval_split, data)
    fitting = pairs.fitting()
    most = len(fitting)
    require(evaluate.windows <= most, "evaluate.windows", evaluate.windows, _most(most, data))
    return pairs.whole(fitting[np.arange(evaluate.windows) * most // evaluate.windows])


def _most(most: int, data: DataConfig) -> str:
    return f"at most {most}, all that task '{data.task}', split '{data.eval_split}' has at these lengths"
