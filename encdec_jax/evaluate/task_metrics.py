"""Metrics of a task's predictions: functions of (targets, predictions), or of (targets, scores), as seqio calls them.

A seqio Task takes any of them in its `metric_fns`. A target is a text, or a list of texts of which the nearest counts.
Shares are in per cent. The libraries sacrebleu and rouge-score are loaded when their metric is asked for.
"""

from __future__ import annotations

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from encdec_jax.errors import UserError

Target = str | Sequence[str]
Metric = Callable[..., Mapping[str, Any]]
Parts = dict[str, tuple[float, float]]  # of one example: what its score adds to a numerator and to a denominator

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def bleu(targets: Sequence[Target], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU of sacrebleu, its tokeniser 13a (Post 2018, arXiv 1804.08771)."""
    score = _sacrebleu().corpus_bleu(list(predictions), _references(targets), tokenize="13a", force=True)
    return {"bleu": float(score.score)}


def chrf(targets: Sequence[Target], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus chrF2 of sacrebleu (Popovic 2015)."""
    return {"chrf": float(_sacrebleu().corpus_chrf(list(predictions), _references(targets)).score)}


def rouge(targets: Sequence[Target], predictions: Sequence[str]) -> dict[str, float]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-Lsum of rouge-score, stemmed: means over examples (Lin 2004)."""
    return _ratios(rouge, targets, predictions)


def exact_match(targets: Sequence[Target], predictions: Sequence[str]) -> dict[str, float]:
    """Share of predictions that are the target, but for white space at their ends."""
    return _ratios(exact_match, targets, predictions)


def token_f1(targets: Sequence[Target], predictions: Sequence[str]) -> dict[str, float]:
    """Mean F1 of a prediction's words, without case, punctuation and articles (SQuAD, arXiv 1606.05250, section 6)."""
    return _ratios(token_f1, targets, predictions)


def phoneme_error_rate(targets: Sequence[Target], predictions: Sequence[str]) -> dict[str, float]:
    """Insertions, deletions and substitutions of phonemes, parted by spaces, over the phonemes of the targets."""
    return _ratios(phoneme_error_rate, targets, predictions)


def target_bits_per_byte(targets: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """Bits of the targets under their sources, a byte of their text; scores are log-likelihoods in nats."""
    return _ratios(target_bits_per_byte, targets, scores)


def parts(metric: Metric, targets: Sequence[Any], outputs: Sequence[Any]) -> dict[str, np.ndarray] | None:
    """What each example adds to a score's numerator and denominator: float64 [examples, 2] of each score.

    None for a metric of another kind, which is no ratio of sums over examples.
    """
    one = _PARTS.get(metric)
    if one is None or not len(targets):
        return None
    rows = [one(target, output) for target, output in zip(targets, outputs, strict=True)]
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def ratio(sums: np.ndarray) -> float:
    """Numerator over denominator; NaN where there is nothing to divide by."""
    return float(sums[0] / sums[1]) if sums[1] else float("nan")


def _ratios(metric: Metric, targets: Sequence[Any], outputs: Sequence[Any]) -> dict[str, float]:
    found = parts(metric, targets, outputs) or {}
    return {name: ratio(rows.sum(axis=0)) for name, rows in found.items()}


@functools.cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise _absent("rouge-score") from error
    return RougeScorer(("rouge1", "rouge2", "rougeLsum"), use_stemmer=True)


def _rouge(target: Target, prediction: str) -> Parts:
    found = _scorer().score_multi(_list(target), prediction)
    return {name: (100 * one.fmeasure, 1.0) for name, one in found.items()}


def _exact_match(target: Target, prediction: str) -> Parts:
    same = any(one.strip() == prediction.strip() for one in _list(target))
    return {"exact_match": (100.0 * same, 1.0)}


def _token_f1(target: Target, prediction: str) -> Parts:
    return {"token_f1": (100 * max(_f1(_words(one), _words(prediction)) for one in _list(target)), 1.0)}


def _phoneme_errors(target: Target, prediction: str) -> Parts:
    read = prediction.split()
    nearest = min(_list(target), key=lambda one: _edits(one.split(), read) / max(len(one.split()), 1))
    return {"phoneme_error_rate": (100.0 * _edits(nearest.split(), read), float(len(nearest.split())))}


def _bits(target: str, score: float) -> Parts:
    return {"target_bits_per_byte": (-float(score) / np.log(2), float(len(target.encode())))}


_PARTS: dict[Metric, Callable[[Any, Any], Parts]] = {
    rouge: _rouge,
    exact_match: _exact_match,
    token_f1: _token_f1,
    phoneme_error_rate: _phoneme_errors,
    target_bits_per_byte: _bits,
}
NAMED: dict[str, Metric] = {metric.__name__: metric for metric in (bleu, chrf, *_PARTS)}


def _f1(target: list[str], read: list[str]) -> float:
    common = (Counter(target) & Counter(read)).total()
    return 2 * common / (len(target) + len(read)) if target or read else 1.0


def _words(text: str) -> list[str]:
    return _ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _edits(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def _list(target: Target) -> list[str]:
    return [target] if isinstance(target, str) else list(target)


def _references(targets: Sequence[Target]) -> list[list[Any]]:
    """As sacrebleu takes them: the first reference of every example, then the second, None where there is none."""
    lists = [_list(target) for target in targets]
    return [[one[at] if at < len(one) else None for one in lists] for at in range(max(map(len, lists), default=1))]


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise _absent("sacrebleu") from error
    return sacrebleu


def _absent(name: str) -> UserError:
    return UserError(f"this metric needs {name}, which is not installed: in a checkout, pip install '.[tasks]'")
