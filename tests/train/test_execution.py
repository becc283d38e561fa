"""A run begun in one way of execution goes on in another: it is the same run, and its row says what was done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from test_house import BEHIND as AFTER_TRAINING
from test_loop import assert_same, data, outcome
from tiny import tiny_run

from encdec_jax import cpus
from encdec_jax.config import EXECUTION, RunConfig, execution
from encdec_jax.model.presets import preset
from encdec_jax.sweep.identity import run_id
from encdec_jax.sweep.results import row
from encdec_jax.sweep.store import RunState, run_state
from encdec_jax.train import versions
from encdec_jax.train.checkpoint import Checkpoints
from encdec_jax.train.config import MeshConfig
from encdec_jax.train.loop import train
from encdec_jax.train.trainer import Trainer

__all__ = ["data"]


def run_of(arch: str) -> RunConfig:
    return replace(tiny_run(arch, updates=30), model=preset(arch, d_model=16, dec_layers=2, head_dim=8, vocab_size=260))


def otherwise(run: RunConfig) -> RunConfig:
    """The same run with every field of execution off its value."""
    return replace(
        run,
        model=replace(run.model, scan=False, remat="full", attention="plain"),
        train=replace(run.train, accumulate=2, steps_per_call=4, checkpoint_every=0),
        evaluate=replace(run.evaluate, batch_size=10),
        mesh=MeshConfig(data=1, fsdp=2, tensor=2, sequence=2),
    )


@pytest.mark.parametrize("arch", ["causal_lm", "enc_dec"])
def test_a_run_goes_on_with_all_of_execution_changed(data, arch):
    run, other = run_of(arch), otherwise(run_of(arch))
    assert run_id(other) == run_id(run)
    assert sum(a != b for a, b in zip(execution(run).values(), execution(other).values(), strict=True)) >= 8
    whole = train(run, data / "whole")
    calls = iter(range(100))
    assert train(run, data / "parts", stop=lambda: next(calls) == 3) is None

    kept = [
        jax.tree.leaves(Checkpoints(data / "parts/checkpoints").restore_latest(Trainer(one).abstract)[1])
        for one in (run, other)
    ]
    for ours, theirs in zip(*kept, strict=True):
        np.testing.assert_array_equal(ours, theirs)

    ended = train(other, data / "parts")
    for name in ("updates", "tokens_seen", "loss_tokens", "data_hash", "cache_digest"):
        assert ended[name] == whole[name]
    assert ended["suffix_bits_per_byte"] == pytest.approx(whole["suffix_bits_per_byte"], rel=1e-5)
    assert [part["update"] for part in ended["execution"]] == [0, 15]
    assert [part["model.scan"] for part in ended["execution"]] == [True, False]
    assert ended["execution"][1]["mesh.tensor"] == 2

    found = row(run_id(run), "a line", run, run_state(data / "parts"))
    assert {path: found[path] for path in EXECUTION} == execution(other)
    assert (found["executions"], found["code"], found["commit"]) == (2, versions.code(), versions.commit())


def test_what_only_the_host_sees_changes_no_bit(data):
    run = run_of("enc_dec")
    host = replace(run, train=replace(run.train, checkpoint_every=0, steps_per_call=3))
    train(run, data / "whole")
    calls = iter(range(100))
    assert train(run, data / "parts", stop=lambda: next(calls) == 3) is None
    train(host, data / "parts")
    whole, parts = outcome(data / "whole", run), outcome(data / "parts", host)
    last = "train_loss"  # of the last call
    whole[0].pop(last), parts[0].pop(last)
    assert_same((whole[0], b"", *whole[2:]), (parts[0], b"", *parts[2:]))


def test_a_part_that_leaves_no_checkpoint_leaves_no_trace(data):
    run = run_of("causal_lm")
    assert train(run, data / "run", stop=lambda: True) is None
    (part,) = train(otherwise(run), data / "run")["execution"]
    assert (part["update"], part["model.scan"]) == (0, False)
    assert json.loads((data / "run/config.json").read_text())["model"]["scan"] is False


def test_the_code_is_the_sources_that_training_reads(tmp_path):
    """The same in any place, another for another byte of a room that training reads, the same for a report's."""
    package = versions._PACKAGE

    def digest() -> str:
        code = "from encdec_jax.train.versions import code, commit; print(code(), commit())"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path)},
        )
        assert done.stdout.split()[1] == "None"  # outside git
        return done.stdout.split()[0]

    for path in package.rglob("*.py"):
        copy = tmp_path / path.relative_to(package.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    assert digest() == versions.code()
    with (tmp_path / "encdec_jax/report/words.py").open("a") as file:
        file.write("# another word\n")
    assert digest() == versions.code()
    with (tmp_path / "encdec_jax/train/loss.py").open("a") as file:
        file.write("# another loss\n")
    assert digest() != versions.code()


def test_the_commit_is_that_of_the_package_and_says_when_files_differ(tmp_path):
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
            check=True,
            capture_output=True,
        )

    def commit() -> str:
        code = "from encdec_jax.train.versions import commit; print(commit())"
        where = {"PYTHONPATH": str(tmp_path / "src"), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=where, cwd=tmp_path
        ).stdout.strip()

    for name in ("__init__.py", "train/__init__.py", "train/versions.py"):
        path = tmp_path / "src/encdec_jax" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((versions._PACKAGE / name).read_bytes())
    (tmp_path / "other.txt").write_text("of another project")
    git("init", "-q")
    git("add", "other.txt")
    git("commit", "-qm", "one")
    assert commit() == "None"  # installed into the checkout of another project
    git("add", "src")
    git("commit", "-qm", "two")
    clean = commit()
    assert len(clean) == 12
    (tmp_path / "other.txt").write_text("changed")
    assert commit() == f"{clean}+dirty"


def test_training_reads_no_room_behind_it():
    assert set(versions.BEHIND) == set(AFTER_TRAINING)


def test_the_threads_that_a_cpu_computes_with_are_part_of_its_execution(data, monkeypatch):
    """Sums are split over them: 2 of 12 runs differed between `-j 1` and `-j 2`, and their rows did not say why."""
    allowed = len(os.sched_getaffinity(0))
    for flags, threads in (("", allowed), (f"--a=b {cpus.ONE_THREAD}", 1)):
        monkeypatch.setenv("XLA_FLAGS", flags)
        assert cpus.threads() == threads
    run = tiny_run(updates=10)
    calls = iter(range(9))
    train(run, data / "run", stop=lambda: next(calls) == 1)
    monkeypatch.setattr(cpus, "threads", lambda: 77)
    summary = train(run, data / "run")
    assert [(part["update"], part["threads"]) for part in summary["execution"]] == [(0, 1), (5, 77)]
    state = RunState("done", 1, summary)
    assert {name: row("i", "l", run, state)[name] for name in ("executions", "threads")} == {
        "executions": 2,
        "threads": 77,
    }
