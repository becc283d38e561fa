"""Scoring a run on a task: the texts, the order, the numbers and what is left out."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny import encdec, tiny_run

from encdec_jax.config import to_dict
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.config import ObjectiveConfig
from encdec_jax.data.heldout import eval_batch
from encdec_jax.data.mixing import mix
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import frame_of
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.files import write_json
from encdec_jax.infer import score_task as module
from encdec_jax.infer.complete import complete
from encdec_jax.infer.predict import log_likelihoods, predict
from encdec_jax.infer.score_task import score_task
from encdec_jax.model.model import initial
from encdec_jax.train.trainer import Trainer

VOCAB = ByteVocab()
WORDS = [f"{'ab' * (k % 5)}{k}" for k in range(10, 22)]
ARCHS = ["enc_dec", "causal_lm", "prefix_lm"]


def pairs_run(arch: str, objective: str = "seq2seq"):
    run = replace(tiny_run(arch), objective=ObjectiveConfig(objective))
    data = replace(run.data, task="pairs" if objective == "seq2seq" else "noise", source_length=16, target_length=16)
    return replace(run, data=data, evaluate=replace(run.evaluate, windows=4, batch_size=5))


@pytest.fixture
def tasks(folders):
    """A task of pairs and one of text."""
    rows = [(VOCAB.encode(word), VOCAB.encode(word.upper())) for word in WORDS]
    long = [(VOCAB.encode("x" * 40), VOCAB.encode("y"))]
    write_cache("pairs", VOCAB, ("inputs", "targets"), {"train": rows, "validation": rows + long})
    text = [(VOCAB.encode("the same words again and again " * 9),)]
    write_cache("noise", VOCAB, ("targets",), {"train": text, "validation": text})
    return folders


@pytest.fixture
def drawn(monkeypatch):
    """Lets a folder of a configuration stand for a run: its parameters are those before training."""

    def made(folder):
        run = module_run[folder]
        return run, initial(run.model, jax.random.key(0))

    module_run = {}
    monkeypatch.setattr(module, "restore", made)
    return module_run


@pytest.mark.parametrize("arch", ARCHS)
def test_predictions_are_those_of_one_at_a_time(tasks, arch):
    run = pairs_run(arch)
    params = initial(run.model, jax.random.key(0))
    objective = objective_of(run.objective)
    prompts = [objective.prompt(VOCAB.encode(w), frame_of(objective, VOCAB, run.data)) for w in WORDS]
    together = [VOCAB.decode(row) for row in predict(run, params, prompts)]
    for i in (0, 4):  # each length is a compilation of its own
        assert together[i] == complete(run, params, WORDS[i], tokens=16)


@pytest.mark.parametrize("arch", ARCHS)
def test_likelihoods_are_those_of_the_fair_loss(tasks, arch):
    run = pairs_run(arch)
    params = initial(run.model, jax.random.key(0))
    cache = TokenCache.open("pairs", "bytes")
    run = replace(run, evaluate=replace(run.evaluate, windows=len(WORDS)))
    rows, _ = eval_batch(cache, run.model.choices, run.data, run.evaluate)
    objective = objective_of(run.objective)
    prompts = [objective.prompt(VOCAB.encode(w), frame_of(objective, VOCAB, run.data)) for w in WORDS]
    found = log_likelihoods(run, params, prompts, [VOCAB.encode(w.upper()) for w in WORDS])
    np.testing.assert_allclose(-found / np.log(2), Trainer(run).held_out_bits(params, rows), rtol=1e-4)


def test_what_is_written_is_what_was_scored(tasks, drawn):
    folder = tasks / "run"
    drawn[folder] = pairs_run("enc_dec")
    done = score_task(folder, "pairs", "validation")
    assert (done.examples, done.too_long) == ((12, 13), 1)
    lines = [json.loads(line) for line in (done.folder / "predictions.jsonl").read_text().splitlines()]
    assert [(line["inputs"], line["targets"]) for line in lines] == [(word, word.upper()) for word in WORDS]
    nats = sum(line["log_likelihood"] for line in lines)
    bits = -nats / np.log(2) / sum(map(len, WORDS))
    assert done.scores["target_bits_per_byte"].value == pytest.approx(bits, rel=1e-3)
    assert json.loads((done.folder / "scores.json").read_text())["scores"].keys() == done.scores.keys()
    assert {"exact_match", "token_f1"} < done.scores.keys()
    few = score_task(folder, "pairs", "validation", limit=3)
    numbers = [json.loads(line)["number"] for line in (few.folder / "predictions.jsonl").read_text().splitlines()]
    assert numbers == [0, 4, 8]


def test_a_model_of_a_mixture_reads_the_prefix_of_the_task(tasks, drawn):
    write_cache("more", VOCAB, ("inputs", "targets"), {"train": [(VOCAB.encode("a"), VOCAB.encode("b"))]})
    mix("mixed", ["pairs", "more"], "equal", "bytes")
    run = pairs_run("enc_dec")
    drawn[tasks / "run"] = replace(run, data=replace(run.data, task="mixed"))
    done = score_task(tasks / "run", "pairs", "train", limit=1)
    assert json.loads((done.folder / "predictions.jsonl").read_text())["inputs"] == f"pairs: {WORDS[0]}"


def test_a_model_of_text_is_scored_on_text_and_on_pairs(tasks, drawn):
    folder = tasks / "run"
    drawn[folder] = run = pairs_run("causal_lm", "causal_lm")
    done = score_task(folder, "noise", "validation")
    assert list(done.scores) == ["suffix_bits_per_byte"]
    assert done.scores["suffix_bits_per_byte"].value == pytest.approx(8, rel=0.2)
    assert score_task(folder, "pairs", "train", limit=2).examples == (2, 12)
    with pytest.raises(UserError, match="examples = 2 is not accepted: none: 'noise' is text"):
        score_task(folder, "noise", "validation", limit=2)
    drawn[folder] = replace(run, evaluate=replace(run.evaluate, windows=999))  # more than a text of 270 tokens has
    assert score_task(folder, "noise", "validation").examples == (270 // 32, 270 // 32)


def test_mistakes_are_one_line(tasks, drawn):
    folder = tasks / "run"
    drawn[folder] = pairs_run("enc_dec")
    with pytest.raises(UserError, match="split = 'dev' is not accepted: one of train, validation"):
        score_task(folder, "pairs", "dev")
    with pytest.raises(UserError, match="first encdec prepare --task other"):
        score_task(folder, "other", "train")
    with pytest.raises(UserError, match="examples = 0"):
        score_task(folder, "pairs", "train", limit=0)


def test_the_verb_says_what_is_missing(tasks):
    write_json(tasks / "run/config.json", to_dict(pairs_run("enc_dec")))
    done = encdec("evaluate", tasks / "run", "--task", "pairs")
    assert done.returncode == 2
    assert "holds no whole checkpoint" in done.stderr.splitlines()[-1]


USER = """
import seqio
import tensorflow as tf


def pairs(split, shuffle_files):
    return tf.data.Dataset.from_tensor_slices({"inputs": ["ab", "cd"], "targets": ["1", "0"], "weight": [2, 3]})


def processed(text, example=None, is_target=False):
    return int(text) * int(example["weight"]) if is_target else len(text)


def mine(targets, predictions):
    return {"sum": sum(targets), "written": sum(predictions)}


def liked(targets, scores):
    return {"likely": sum(scores)}


TEXT = seqio.Feature(seqio.ByteVocabulary(), add_eos=True)
seqio.TaskRegistry.add(
    "user_task", source=seqio.FunctionDataSource(pairs, splits=("validation",)),
    preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
    output_features={"inputs": TEXT, "targets": TEXT}, metric_fns=[mine, liked], postprocess_fn=processed,
)
"""


@pytest.mark.slow
def test_a_seqio_task_is_scored_by_its_own_metrics(tasks, drawn):
    pytest.importorskip("seqio", reason="the extra [data] is not installed")
    (tasks / "user_module.py").write_text(USER)
    folder = tasks / "run"
    drawn[folder] = pairs_run("enc_dec")
    done = score_task(folder, "user_task", "validation", module="user_module")
    lines = [json.loads(line) for line in (done.folder / "predictions.jsonl").read_text().splitlines()]
    assert done.scores["sum"].value == 2
    assert done.scores["written"].value == sum(len(line["prediction"]) for line in lines)
    assert done.scores["likely"].value == pytest.approx(sum(line["log_likelihood"] for line in lines), rel=1e-3)
