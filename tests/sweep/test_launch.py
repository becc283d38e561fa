"""`encdec run` beside its workers: how it counts what has ended, and where their words go."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from tiny import write_experiment

from encdec_jax.sweep import launch
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.store import RunState


@pytest.fixture
def experiment(folders) -> Experiment:
    return load(write_experiment(folders / "study"))


def test_a_count_is_not_skipped_where_runs_end_together(experiment):
    console = Console(file=io.StringIO(), width=200)
    tell = launch._SweepProgress(experiment, console)
    first, *others = experiment.runs
    states = {identity: RunState("pending", 0) for identity in experiment.runs}
    tell(states | {first: RunState("failed", 0, error="before")})
    tell({identity: RunState("failed", 0, error="now") for identity in states})
    lines = console.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["[2/4]", "[3/4]", "[4/4]"]
    assert {line.split()[1] for line in lines} == set(others)


def test_two_launchers_keep_two_logs(experiment, monkeypatch):
    started = subprocess.Popen

    def said(command, **options):
        return started([sys.executable, "-c", f"print({os.getpid()})"], **options)

    monkeypatch.setattr(subprocess, "Popen", said)
    for pid in (11, 12):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        with launch._workers(experiment, [[0], [0]], [{}, {}]) as workers:
            for worker in workers:
                worker.wait()
    texts = sorted(path.read_text() for path in (experiment.root / "logs").iterdir())
    assert texts == ["11\n", "11\n", "12\n", "12\n"]
