"""`encdec evaluate`: what a run writes for a task's sources, and the scores of that."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from flax import nnx

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import TokenCache, manifest_of
from encdec_jax.data.fetch.catalogue import METRICS
from encdec_jax.data.heldout import at_most, eval_batch
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import frame_of
from encdec_jax.errors import require
from encdec_jax.evaluate.fair import bits_per_byte
from encdec_jax.evaluate.resampling import Score, scores
from encdec_jax.evaluate.task_metrics import NAMED, Metric, target_bits_per_byte
from encdec_jax.infer.predict import log_likelihoods, predict
from encdec_jax.train.objects import put, put_json, run_folder
from encdec_jax.train.restore import restore, vocabulary
from encdec_jax.train.trainer import Trainer

if TYPE_CHECKING:
    from encdec_jax.data.vocab import Vocab

DEFAULT = ("exact_match", "token_f1")  # of pairs whose task names no metrics


@dataclass(frozen=True)
class Examples:
    """Pairs to be scored on.

    Attributes:
      sources, targets: their texts.
      metrics: of (targets, predictions).
      score_metrics: of (targets, log-likelihoods).
      processed: gives what a metric reads of a text (the task's postprocessor): of the text, the number of the example
        and whether the text is a target.
    """

    sources: list[str]
    targets: list[str]
    metrics: Sequence[Metric]
    score_metrics: Sequence[Metric]
    processed: Callable[[str, int, bool], Any] = lambda text, number, is_target: text


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
      folder: holds predictions.jsonl and scores.json.
      scores: by name, each with its interval over examples.
      examples: scored, and in the split.
      too_long: examples left out because their sources are longer than any that the run was trained on.
    """

    folder: Path
    scores: dict[str, Score]
    examples: tuple[int, int]
    too_long: int


def score_task(folder: Path, task: str, split: str, module: str | None = None, limit: int | None = None) -> Evaluation:
    """Score a run on a split of a task, and write what it predicts to its folder.

    Pairs: greedy predictions, the task's metrics and the targets' bits per byte. Text: bits per byte of its held-out
    windows, as the fair loss takes them: as many as `evaluate.windows` says, or as the split has.

    Args:
      folder: of the run.
      task: prepared in the run's vocabulary; or a seqio Task of `module`, with its own metrics and postprocessor.
      split: of it.
      module: Python module that registers the task, by dotted name or as FILE.py, or None.
      limit: pairs to score, evenly spaced; None for all.

    Raises:
      UserError: the run has no checkpoint, the task is not prepared in its vocabulary or has no such split.
    """
    require(limit is None or limit >= 1, "examples", limit, "at least 1")
    run, params = restore(folder)
    vocab, source = vocabulary(folder, run.data), (manifest_of(run.data.task, run.data.vocab) or {}).get("source")
    prefix = source.get("prefixes", {}).get(task, "") if isinstance(source, dict) else ""  # of a task of a mixture
    where = place(folder, task, split)
    if module is None:
        cache = prepared(run, vocab, task, split)
        if "inputs" not in cache.features:
            accepted = (
                f"none: {task!r} is text, of which evaluate.windows = {run.evaluate.windows} of the run are scored"
            )
            require(limit is None, "examples", limit, accepted)
            return _text(run, params, cache, split, where)
        examples = _cached(cache, task, split)
    else:
        examples = _registered(task, module, split)
    examples = replace(examples, sources=[prefix + text for text in examples.sources])
    return _pairs(run, params, vocab, examples, where, limit)


def place(folder: Path, task: str, split: str) -> Path:
    """Where the scores of a run on a split of a task are."""
    return run_folder(folder) / "evaluations" / f"{quote(task, safe='')}-{quote(split, safe='')}"


def prepared(run: RunConfig, vocab: Vocab, task: str, split: str) -> TokenCache:
    """A task's tokens in the vocabulary that a run was trained in.

    Raises:
      UserError: it is not prepared in that vocabulary, or has no such split.
    """
    cache = TokenCache.open(task, run.data.vocab)
    same = cache.vocab.model == vocab.model
    accepted = f"one in the vocabulary that the run was trained in, which is not its {vocab.name!r}"
    require(same, "task", task, accepted)
    require(split in cache.splits, "split", split, "one of " + ", ".join(cache.splits))
    return cache


def _cached(cache: TokenCache, task: str, split: str) -> Examples:
    texts = {}
    for feature in ("inputs", "targets"):
        tokens, offsets = (np.asarray(read(split, feature)) for read in (cache.tokens, cache.offsets))
        texts[feature] = [cache.vocab.decode(tokens[a:b].tolist()) for a, b in pairwise(offsets.tolist())]
    metrics = [NAMED[name] for name in METRICS.get(task, DEFAULT)]
    return Examples(texts["inputs"], texts["targets"], metrics, [target_bits_per_byte])


def _registered(task: str, module: str, split: str) -> Examples:
    from encdec_jax.data.prepare import registered

    reading = registered(task, module)
    require(split in reading.splits, "split", split, "one of " + ", ".join(reading.splits))
    require("inputs" in reading.features, "task", task, "one with inputs and targets, to be predicted")
    rows = list(reading.examples_of(split))
    predicted, scored = reading.metric_functions()
    default = [] if predicted or scored else [NAMED[name] for name in METRICS.get(task, DEFAULT)]
    return Examples(
        [row[0] for _, row in rows],
        [row[1] for _, row in rows],
        [*predicted, *default],
        [*scored, target_bits_per_byte],
        lambda text, number, is_target: reading.postprocessed(text, rows[number][0], is_target),
    )


def _pairs(
    run: RunConfig, params: nnx.State, vocab: Vocab, examples: Examples, where: Path, limit: int | None
) -> Evaluation:
    objective = objective_of(run.objective)
    frame = frame_of(objective, vocab, run.data)
    total = len(examples.sources)
    chosen = range(total) if limit is None or limit >= total else [i * total // limit for i in range(limit)]
    prompts = {i: objective.prompt(vocab.encode(examples.sources[i]), frame) for i in chosen}
    room = objective.sequence(run.data)[0] if objective.pairs else run.data.length - 1
    taken = [i for i in chosen if len(prompts[i].source) <= room]
    require(bool(taken), "task", "no example", f"sources of at most {room} tokens, as the run was trained on")
    asked = [prompts[i] for i in taken]
    written = [vocab.decode(row) for row in predict(run, params, asked)]
    likelihoods = log_likelihoods(run, params, asked, [vocab.encode(examples.targets[i]) for i in taken])
    raw = [examples.targets[i] for i in taken]
    read = [examples.processed(text, i, False) for i, text in zip(taken, written, strict=True)]
    targets = [examples.processed(text, i, True) for i, text in zip(taken, raw, strict=True)]
    found: dict[str, Score] = {}
    for metric in examples.metrics:
        found |= scores(metric, targets, read)
    for metric in examples.score_metrics:
        found |= scores(metric, raw if metric is target_bits_per_byte else targets, likelihoods.tolist())
    lines = [
        {
            "number": i,
            "inputs": examples.sources[i],
            "targets": examples.targets[i],
            "prediction": text,
            "log_likelihood": round(float(likelihoods[at]), 4),
        }
        for at, (i, text) in enumerate(zip(taken, written, strict=True))
    ]
    return _written(where, lines, found, (len(taken), total), len(prompts) - len(taken))


def _text(run: RunConfig, params: nnx.State, cache: TokenCache, split: str, where: Path) -> Evaluation:
    data = replace(run.data, task=cache.manifest["task"], eval_split=split)
    rows, nbytes = eval_batch(cache, run.model.choices, data, at_most(cache, data, run.evaluate))
    bits = Trainer(run).held_out_bits(params, rows)
    rate, error = bits_per_byte(bits, nbytes)
    found = {"suffix_bits_per_byte": Score(rate, rate - 1.96 * error, rate + 1.96 * error)}
    lines = [
        {"number": i, "bits": round(float(b), 4), "bytes": int(n)}
        for i, (b, n) in enumerate(zip(bits, nbytes, strict=True))
    ]
    return _written(where, lines, found, (len(lines), len(lines)), 0)


def _written(
    where: Path, lines: list[dict[str, Any]], found: dict[str, Score], examples: tuple[int, int], too_long: int
) -> Evaluation:
    put(where / "predictions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    summary = {name: asdict(score) for name, score in found.items()}
    put_json(where / "scores.json", {"scores": summary, "examples": examples[0], "too_long": too_long})
    return Evaluation(where, found, examples, too_long)
