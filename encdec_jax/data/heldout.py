"""The held-out rows that every architecture is scored on: the same text after the same text."""

from __future__ import annotations

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


def eval_batch(cache: TokenCache, arch: Arch, data: DataConfig, evaluate: EvalConfig) -> tuple[Batch, np.ndarray]:
    """All held-out rows, evenly spaced over `data.eval_split` without overlap.

    Text: the source is `prefix` tokens, the target's inputs the next `suffix`; their labels, one token on, are scored.
    Pairs: one a row, the target scored under its source.

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
        segments, shape = _text(cache, data, evaluate), _suffix_layout(arch, evaluate)
    row = np.arange(evaluate.windows)
    text = np.cumsum([0, *cache.vocab.token_bytes(segments.labels)])
    ends = np.cumsum(segments.target_lengths)
    nbytes = text[ends] - text[ends - segments.target_lengths]
    accepted = "a split with text in what is scored; its labels stand for no byte, and bits per byte for nothing"
    require(nbytes.sum() > 0, "data.eval_split", data.eval_split, accepted)
    return assemble(arch, shape, row, evaluate.windows, segments), nbytes.astype(np.int64)


def _suffix_layout(arch: Arch, evaluate: EvalConfig) -> Layout:
    source, target = evaluate.prefix, evaluate.suffix
    streams = (source, target) if arch.own_stream else (0, source + target)
    return Layout(1, *streams, target, ((source, target, 1.0),))


def _text(cache: TokenCache, data: DataConfig, evaluate: EvalConfig) -> Segments:
    length = evaluate.prefix + evaluate.suffix
    apart = Windows(cache, data.eval_split, length, evaluate.documents)
    require(evaluate.windows <= apart.count, "evaluate.windows", evaluate.windows, _most(apart.count, data))
    if evaluate.documents == "apart":
        windows = apart[np.arange(evaluate.windows) * apart.count // evaluate.windows]
    else:
        tokens = cache.tokens(data.eval_split, "targets")
        first = np.arange(evaluate.windows) * (len(tokens) - 1 - length) // max(evaluate.windows - 1, 1)
        windows = np.asarray(tokens[first[:, None] + np.arange(length + 1)], np.int32)
    return cut(windows, np.full(evaluate.windows, evaluate.prefix))


def _pairs(cache: TokenCache, data: DataConfig, evaluate: EvalConfig) -> Segments:
    pairs = Pairs(cache, data.eval_split, data)
    fitting = pairs.fitting()
    most = len(fitting)
    require(evaluate.windows <= most, "evaluate.windows", evaluate.windows, _most(most, data))
    return pairs.whole(fitting[np.arange(evaluate.windows) * most // evaluate.windows])


def _most(most: int, data: DataConfig) -> str:
    return f"at most {most}, all that task '{data.task}', split '{data.eval_split}' has at these lengths"
