"""`encdec evaluate --documents` and `--lengths`: a run's losses document by document, and behind longer texts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from flax import nnx

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.geometry import geometry
from encdec_jax.data.stretches import document_rows, longer_rows
from encdec_jax.errors import require
from encdec_jax.evaluate.fair import bits_per_byte
from encdec_jax.infer.score_task import place, prepared
from encdec_jax.model.declare import known_positions
from encdec_jax.train.objects import put, put_json
from encdec_jax.train.restore import restore, vocabulary
from encdec_jax.train.trainer import Trainer

DOCUMENTS = "documents.jsonl"
LENGTHS = "lengths.json"


@dataclass(frozen=True)
class DocumentLosses:
    """A run's losses on the documents of a split.

    Attributes:
      path: of the file with a row a document.
      rate, error: bits per byte over all of them, and its standard error.
      scored, total: documents.
      left_out: share of the split's bytes that is in no scored label.
    """

    path: Path
    rate: float
    error: float
    scored: int
    total: int
    left_out: float


@dataclass(frozen=True)
class Reach:
    """The loss of the same labels behind a text of a length.

    Attributes:
      length: tokens of source and target.
      prefix: tokens of them that are source.
      bits_per_byte, se: of the labels, and its standard error; None where it is no number.
    """

    length: int
    prefix: int
    bits_per_byte: float | None
    se: float | None


@dataclass(frozen=True)
class Reaches:
    """A run's losses by length and prefix.

    Attributes:
      path: of the file that holds them.
      found: every length with every prefix that leaves room for the labels.
      windows: scored.
      trained: tokens of source and target that the run was trained on.
    """

    path: Path
    found: tuple[Reach, ...]
    windows: int
    trained: int


def score_documents(folder: Path, task: str, split: str) -> DocumentLosses:
    """Score every document of a split of text: a row each, so that the losses of two runs pair.

    Args:
      folder: of the run.
      task: of text, prepared in the run's vocabulary.
      split: of it.

    Raises:
      UserError: the run has no checkpoint, the task is not prepared in its vocabulary, is of pairs, or has no such
        split, or no document is long enough.
    """
    run, params, cache = opened(folder, task, split)
    trainer = Trainer(run)
    bits: dict[int, float] = {}
    nbytes: dict[int, int] = {}
    texts: dict[int, str] = {}
    for some in document_rows(cache, run.model.choices, split, run.evaluate):
        row_bits = trainer.held_out_bits(params, some.rows)
        for number in np.unique(some.document):
            mine = some.document == number
            bits[int(number)] = float(row_bits[mine].sum())
            nbytes[int(number)] = int(some.nbytes[mine].sum())
        texts |= some.text
    longer = f"documents of more than evaluate.prefix + 1 = {run.evaluate.prefix + 1} tokens"
    require(bool(bits), "task", task, f"one whose split {split!r} has {longer}")
    lines = [
        {"number": number, "bits": round(bits[number], 4), "bytes": nbytes[number], "text": texts[number]}
        for number in sorted(bits)
    ]
    path = place(folder, task, split) / DOCUMENTS
    put(path, "".join(json.dumps(line) + "\n" for line in lines))
    of_all = np.array([[line["bits"], line["bytes"]] for line in lines])
    rate, error = bits_per_byte(of_all[:, 0], of_all[:, 1])
    total = int(cache.vocab.token_bytes(np.asarray(cache.tokens(split, "targets")[:])).sum())
    documents = len(cache.offsets(split, "targets")) - 1
    return DocumentLosses(path, rate, error, len(lines), documents, 1 - float(of_all[:, 1].sum()) / total)


def score_lengths(
    folder: Path, task: str, split: str, lengths: Sequence[int], prefixes: Sequence[int] | None
) -> Reaches:
    """Score the same labels behind texts of several lengths, which may be longer than any in training.

    The labels are the last `evaluate.suffix` tokens of windows of the longest length. A row is the last `length` tokens
    of its window, of which the first `prefix` are the source: so losses at two lengths differ in the text in front of
    the labels alone, and at two prefixes in which of it is source.

    Args:
      folder: of the run.
      task: of text, prepared in the run's vocabulary.
      split: of it.
      lengths: tokens of source and target.
      prefixes: tokens of the source, at least 1; None for `evaluate.prefix`.

    Raises:
      UserError: as `score_documents`; or a length leaves no room for the labels, is more than the model has learned
        positions for, or than the split has.
    """
    run, params, cache = opened(folder, task, split)
    suffix, choices, model = run.evaluate.suffix, run.model.choices, run.model
    prefixes, most = [run.evaluate.prefix] if prefixes is None else prefixes, known_positions(model)
    for length in lengths:
        require(length > suffix, "lengths", length, f"more than evaluate.suffix = {suffix} tokens, which are scored")
        known = most is None or length <= most
        require(known, "lengths", length, f"at most {most}, the positions that the model has learned")
    require(all(p >= 1 for p in prefixes), "prefixes", ",".join(map(str, prefixes)), "tokens of at least 1")
    longest, trained = max(lengths), sum(geometry(run).sequence)
    require(
        min(prefixes) <= longest - suffix,
        "prefixes",
        ",".join(map(str, prefixes)),
        f"one of at most {longest - suffix} tokens, or none leaves room for evaluate.suffix = {suffix}",
    )
    found, windows = [], 0
    for length in sorted(set(lengths)):
        # Scores of all pairs are held: rows of twice the length, a quarter as many at a time.
        size = max(1, int(run.evaluate.batch_size * min(1.0, trained / length) ** 2))
        trainer, seen = Trainer(replace(run, evaluate=replace(run.evaluate, batch_size=size))), None
        for prefix in sorted(p for p in set(prefixes) if p <= length - suffix):
            if seen is None or choices.own_stream or choices.source_open:  # else a prefix changes nothing
                rows, nbytes = longer_rows(cache, choices, split, run.evaluate, length, prefix, longest)
                rate, error = bits_per_byte(trainer.held_out_bits(params, rows), nbytes)
                seen = (rate, error) if math.isfinite(rate) else (None, None)
                windows = len(nbytes)
            found.append(Reach(length, prefix, *seen))
    path = place(folder, task, split) / LENGTHS
    put_json(path, {"suffix": suffix, "windows": windows, "trained": trained, "found": [asdict(one) for one in found]})
    return Reaches(path, tuple(found), windows, trained)


def opened(folder: Path, task: str, split: str) -> tuple[RunConfig, nnx.State, TokenCache]:
    """A run, its parameters, and the tokens of a task of text."""
    run, params = restore(folder)
    cache = prepared(run, vocabulary(folder, run.data), task, split)
    accepted = "one of text: of pairs, predictions.jsonl has a row a pair, and lengths are the pairs' own"
    require("inputs" not in cache.features, "task", task, accepted)
    return run, params, cache
