"""Metrics of predictions, and their intervals over examples."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from encdec_jax.evaluate import task_metrics
from encdec_jax.evaluate.resampling import scores
from encdec_jax.evaluate.task_metrics import (
    NAMED,
    bleu,
    chrf,
    exact_match,
    phoneme_error_rate,
    rouge,
    target_bits_per_byte,
    token_f1,
)

TARGETS = ["the cat sat on the mat today", "dogs bark at the moon every night"]


def test_exact_match_takes_the_nearest_of_several_targets():
    assert exact_match(["a", "b"], [" a ", "c"]) == {"exact_match": 50}
    assert exact_match([["a", "b"], ["b", "c"]], ["b", "c"]) == {"exact_match": 100}


def test_token_f1_ignores_case_punctuation_and_articles():
    assert token_f1(["The cat sat."], ["a CAT sat"]) == {"token_f1": 100}
    assert token_f1(["cat sat"], ["cat ran far"])["token_f1"] == pytest.approx(100 * 2 / 5)
    assert token_f1([["x", "cat"], "y"], ["cat", ""])["token_f1"] == 50


def test_phoneme_errors_are_edits_over_phonemes_of_the_targets():
    assert phoneme_error_rate(["A B C", "D"], ["A C", "D E"])["phoneme_error_rate"] == pytest.approx(100 * 2 / 4)
    assert phoneme_error_rate([["A B", "A C D"]], ["A C"])["phoneme_error_rate"] == pytest.approx(100 / 3)
    assert phoneme_error_rate(["A B"], [""]) == {"phoneme_error_rate": 100}


def test_bits_per_byte_are_of_all_targets_together():
    found = target_bits_per_byte(["ab", "ñ"], [-2 * math.log(2), -6 * math.log(2)])
    assert found == {"target_bits_per_byte": pytest.approx(2)}


def test_bleu_and_chrf_are_sacrebleus():
    sacrebleu = pytest.importorskip("sacrebleu", reason="the extra [tasks] is not installed")
    read = ["the cat sat on a mat", "dogs bark at the moon every night"]
    assert bleu(TARGETS, read)["bleu"] == pytest.approx(sacrebleu.corpus_bleu(read, [TARGETS]).score)
    assert chrf(TARGETS, read)["chrf"] == pytest.approx(sacrebleu.corpus_chrf(read, [TARGETS]).score)
    assert bleu([[one, "x"] for one in TARGETS], TARGETS)["bleu"] == pytest.approx(100)


def test_rouge_is_rouge_scores():
    pytest.importorskip("rouge_score", reason="the extra [tasks] is not installed")
    found = rouge(["cats sat"], ["a cat sat"])
    assert found["rouge1"] == pytest.approx(100 * 2 * (1 * 2 / 3) / (1 + 2 / 3))
    assert set(found) == {"rouge1", "rouge2", "rougeLsum"}


def test_seqio_can_call_them():
    for name, metric in NAMED.items():
        second = "scores" if metric is target_bits_per_byte else "predictions"
        assert list(inspect.signature(metric).parameters) == ["targets", second], name


def test_an_interval_is_that_of_the_mean_over_examples():
    draws = np.random.default_rng(1)
    right = draws.random(400) < 0.3
    found = scores(exact_match, ["a"] * 400, ["a" if one else "b" for one in right])["exact_match"]
    error = 100 * math.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert found.value == pytest.approx(100 * right.mean())
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.3 * error)


def test_any_metric_has_an_interval_and_what_is_no_number_has_none():
    def mine(targets, predictions):
        return {"share": sum(a == b for a, b in zip(targets, predictions, strict=True)) / len(targets), "text": "x"}

    found = scores(mine, ["a"] * 50, ["a", "b"] * 25)
    assert found["share"].low < 0.5 < found["share"].high
    assert (found["text"].value, found["text"].low) == ("x", None)
    again = scores(mine, ["a"] * 50, ["a", "b"] * 25)
    assert again == found


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(task_metrics.UserError, match="needs sacrebleu, which is not installed"):
        bleu(["a"], ["a"])
