"""A folder holds one run: no other configuration, text or code gets into it unseen."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from tiny import tiny_run, write_experiment, write_noise

from encdec_jax.data.cache import write_cache
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.sweep.check import check_data
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.single import train_one
from encdec_jax.train import folder as folders_of_runs
from encdec_jax.train.config import MeshConfig, OptimConfig
from encdec_jax.train.loop import train


@pytest.fixture
def data(folders):
    write_noise()
    return folders


def other_noise() -> None:
    rows = np.random.default_rng(1).integers(100, 126, (20, 400))
    write_cache(
        "noise", ByteVocab(), ("targets",), {split: [(row,) for row in rows] for split in ("train", "validation")}
    )


def part(run, folder) -> None:
    calls = iter(range(100))
    assert train(run, folder, stop=lambda: next(calls) == 2) is None
    assert list((folder / "checkpoints").glob("manifest-*"))


RUN = tiny_run(updates=20)
OTHERS = {
    "optim.lr is 0.01 there, 0.03 here": replace(RUN, optim=replace(RUN.optim, lr=0.03)),
    "data.length is 32 there, 16 here": replace(RUN, data=replace(RUN.data, length=16)),
    "model.arch is 'causal_lm' there, 'enc_dec' here, and 8 more fields differ": tiny_run("enc_dec", updates=20),
    "train.batch_size is 4 there, 8 here": replace(RUN, train=replace(RUN.train, batch_size=8)),
    "optim.name is 'adamw' there, 'adafactor' here": replace(RUN, optim=OptimConfig("adafactor", lr=RUN.optim.lr)),
    "train.seed is 0 there, 1 here": replace(RUN, train=replace(RUN.train, seed=1)),
}


@pytest.mark.parametrize("begun", [train, part], ids=["ended", "part"])
def test_another_configuration_is_refused_by_the_field_that_differs(data, begun):
    """The first run's score was printed, or its part gone on with, whatever was asked for."""
    begun(RUN, data / "run")
    before = {path: path.read_bytes() for path in (data / "run").rglob("*.json")}
    for message, other in OTHERS.items():
        for function in (train, train_one):
            with pytest.raises(UserError) as caught:
                function(other, data / "run")
            assert f"{str(data / 'run')!r} holds another run: {message.partition(', and')[0]}" in str(caught.value)
            assert "\n" not in str(caught.value)
    assert all(path.read_bytes() == was for path, was in before.items())


@pytest.mark.parametrize("begun", [train, part], ids=["ended", "part"])
def test_another_way_of_execution_is_the_same_run(data, begun):
    begun(RUN, data / "run")
    other = replace(
        RUN,
        model=replace(RUN.model, scan=False, remat="full", attention="plain"),
        train=replace(RUN.train, steps_per_call=4, accumulate=2, checkpoint_every=0),
        evaluate=replace(RUN.evaluate, batch_size=8),
        mesh=MeshConfig(data=2),
    )
    summary = train(other, data / "run")
    assert summary is not None
    assert summary["updates"] == 20


@pytest.mark.parametrize("begun", [train, part], ids=["ended", "part"])
def test_other_tokens_are_refused(data, begun):
    begun(RUN, data / "run")
    other_noise()
    with pytest.raises(UserError, match=r"holds a run of other tokens of data.task = 'noise' \(digest is \w{12} there"):
        train(RUN, data / "run")


def test_a_study_is_not_gone_on_with_on_other_tokens(data):
    experiment = load(write_experiment(data / "study"))
    identity, run = next(iter(experiment.runs.items()))
    train(replace(run, train=replace(run.train, tokens=128)), data / "first")
    experiment.run_folder(identity).mkdir(parents=True)
    (experiment.run_folder(identity) / "summary.json").write_bytes((data / "first/summary.json").read_bytes())
    assert check_data(experiment) == []
    other_noise()
    with pytest.raises(UserError, match=rf"run {identity}: .*{identity} was made of other tokens"):
        check_data(experiment)
    assert check_data(replace(experiment, pooled={"cache_digest": "for a test"})) == []


def test_other_code_reports_what_has_ended_and_refuses_a_part(data, monkeypatch, caplog):
    ended = train(RUN, data / "ended")
    part(RUN, data / "part")
    (data / "nothing saved").mkdir()
    for name in ("config.json", "made_of.json", "metrics.jsonl"):
        (data / "nothing saved" / name).write_bytes((data / "part" / name).read_bytes())
    logging.getLogger("encdec_jax").propagate = True
    monkeypatch.setattr(folders_of_runs, "code", lambda: "another")
    assert train(RUN, data / "ended") == ended
    assert f"was made by other code: {ended['code']}; this is another" in caplog.text
    with pytest.raises(
        UserError, match=rf"other code began \({ended['code']} there, another here\): go on with that code"
    ):
        train(RUN, data / "part")
    assert train(RUN, data / "nothing saved")["updates"] == 20
    assert json.loads((data / "nothing saved/made_of.json").read_text())["code"] == "another"


def test_a_run_that_ended_stands_without_its_tokens(data, monkeypatch):
    ended = train(RUN, data / "run")
    monkeypatch.setenv("ENCDEC_CACHE", str(data / "elsewhere"))
    assert train(RUN, data / "run") == ended


@pytest.mark.parametrize("text", ["{}", "[1]", "null"])
def test_a_damaged_summary_is_named(data, text):
    (data / "run").mkdir()
    (data / "run/summary.json").write_text(text)
    with pytest.raises(UserError, match=r"summary\.json is damaged: remove it, and the run goes on"):
        train(RUN, data / "run")
