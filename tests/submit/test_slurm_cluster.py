"""On a real Slurm of two nodes, which tools/slurm-cluster brings up: sweeps, gangs, and what befalls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import environment, write_experiment, write_noise

from encdec_jax.submit import slurm
from encdec_jax.submit.dispatch import cancel, submit
from encdec_jax.submit.queue import queued
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.store import run_state

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

TOOL = Path(__file__).parents[2] / "tools/slurm-cluster"
PATIENCE = 400.0  # seconds; only a bound: what is waited for comes within a fraction of it
SWEEP = """
from dataclasses import replace
from tiny import tiny_run
from encdec_jax.train.config import MeshConfig

QUESTION = "Does it work?"
BASELINE = "causal_lm"
CONFOUNDERS = {{}}
PREDICTIONS = []


def runs():
    for seed in range({seeds}):
        run = tiny_run(updates={updates}, seed=seed, checkpoint_every=50 * 128)
        yield replace(run, mesh=MeshConfig(data={data}))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[str]:
    """The slurm.conf of a cluster of this process's own."""
    port = 20_000 + 10 * (os.getpid() % 1000)  # other processes of this machine may have theirs
    env = {**os.environ, "SLURM_CLUSTER": str(tmp_path_factory.mktemp("slurm")), "SLURM_PORT": str(port)}
    done = subprocess.run([TOOL, "up"], env=env, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    yield done.stdout.strip()
    subprocess.run([TOOL, "down"], env=env, check=True)


@pytest.fixture
def study(folders, cluster, monkeypatch) -> Callable[..., Experiment]:
    """Makes an experiment, whose jobs find the tests' helpers."""
    write_noise()
    for name, value in environment(SLURM_CONF=cluster).items():
        monkeypatch.setenv(name, value)

    def make(seeds: int = 1, updates: int = 60, data: int = 1) -> Experiment:
        sweep = SWEEP.format(seeds=seeds, updates=updates, data=data)
        return load(write_experiment(folders / "study", sweep))

    return make


def until(true: Callable[[], object], experiment: Experiment) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text() for path in (experiment.root / "logs").glob("*"))
            pytest.fail(f"{subprocess.run(['squeue', '--long'], capture_output=True, text=True).stdout}\n{logs}")
        time.sleep(0.3)


def statuses(experiment: Experiment) -> set[str]:
    return {run_state(experiment.run_folder(identity)).status for identity in experiment.runs}


def idle(experiment: Experiment) -> bool:
    return not queued(experiment)


def undisturbed(experiment: Experiment, folders: Path) -> Path:
    """The runs' folder of the same runs done by one process."""
    root = folders / "alone"
    command = [sys.executable, "-m", "encdec_jax.submit.gang", str(experiment.folder)]
    subprocess.run(command, env=environment(ENCDEC_RUNS=str(root)), check=True, capture_output=True)
    return root / experiment.name


def steps(experiment: Experiment, identity: str) -> int:
    return run_state(experiment.run_folder(identity)).tokens // 128


def gangs(identity: str) -> list[int]:
    """The processes that work on a run, not srun."""
    shown = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in shown.splitlines() if "encdec_jax.submit.gang" in line and identity in line]
    return [int(pid) for pid, program, *_ in lines if program != "srun"]


def test_a_sweep_is_a_job_array(study):
    experiment = study(seeds=3)
    done = submit(experiment.folder, "slurm", array_limit=2)
    assert [sorted(task[0] for task in one.tasks) for one in done.submitted] == [sorted(experiment.runs)]
    again = submit(experiment.folder, "slurm")
    assert (again.missing, again.submitted) == ([], [])
    assert set(again.queued) | {i for i in experiment.runs if run_state(experiment.run_folder(i)).ended} == set(
        experiment.runs
    )
    until(lambda: idle(experiment), experiment)
    assert statuses(experiment) == {"done"}
    last = submit(experiment.folder, "slurm")
    assert (last.missing, last.queued, last.states) == ([], {}, {"done": 3})


def test_two_claim_loops_do_each_run_once(study):
    experiment = study(seeds=4)
    (one,) = submit(experiment.folder, "slurm", workers=2).submitted
    assert len(one.tasks) == 2
    until(lambda: idle(experiment), experiment)
    assert statuses(experiment) == {"done"}
    said = "".join(path.read_text() for path in (experiment.root / "logs").iterdir())
    assert [said.count(f"run {identity} begins") for identity in experiment.runs] == [1] * 4


def test_a_gang_of_two_nodes_gives_the_loss_of_one_process(study, folders):
    experiment = study(data=2)
    (identity,) = experiment.runs
    (one,) = submit(experiment.folder, "slurm", nodes=2).submitted
    shown = slurm.called(["scontrol", "show", "job", one.job])
    assert "NumNodes=2" in shown
    until(lambda: idle(experiment), experiment)
    log = (experiment.root / "logs" / f"slurm-{one.job}_0.log").read_text()
    assert statuses(experiment) == {"done"}, log
    assert log.count(f"run {identity} begins, on 2 devices") == 2
    study(data=1)
    alone = json.loads((undisturbed(experiment, folders) / identity / "summary.json").read_text())
    found = json.loads((experiment.run_folder(identity) / "summary.json").read_text())
    for name in ("train_loss", "suffix_bits_per_byte"):
        assert found[name] == pytest.approx(alone[name], rel=1e-4)
    assert found["data_hash"] == alone["data_hash"]


def test_what_is_stopped_in_the_middle_goes_on_to_the_same_end(study, folders):
    """scontrol requeue, scancel --signal=TERM, kill -9 of a step, each on a run of its own."""
    experiment = study(seeds=3, updates=3000)
    (one,) = submit(experiment.folder, "slurm").submitted
    place = {identity: i for i, (identity,) in enumerate(one.tasks)}

    def kill(job: str) -> None:
        task = int(job.partition("_")[2])
        identity = next(identity for identity, at in place.items() if at == task)
        for pid in gangs(identity):
            os.kill(pid, signal.SIGKILL)

    disturb = (
        lambda job: slurm.called(["scontrol", "requeue", job]),
        lambda job: slurm.called(["scancel", "--signal=TERM", job]),
        kill,
    )
    for identity, act in zip(experiment.runs, disturb, strict=True):
        until(lambda identity=identity: steps(experiment, identity) >= 100, experiment)
        assert run_state(experiment.run_folder(identity)).status == "running"
        act(f"{one.job}_{place[identity]}")
    until(lambda: idle(experiment), experiment)
    assert statuses(experiment) == {"done"}
    alone = undisturbed(experiment, folders)
    for identity in experiment.runs:
        log = (experiment.root / "logs" / f"slurm-{one.job}_{place[identity]}.log").read_text()
        assert log.count(f"run {identity} begins") == 2, log
        assert len(list((experiment.run_folder(identity) / "leases").iterdir())) == 2
        for name in ("metrics.jsonl", "suffix_bits.npy"):
            assert (experiment.run_folder(identity) / name).read_bytes() == (alone / identity / name).read_bytes()


def test_a_run_leaves_a_node_that_is_taken_down(study):
    experiment = study(updates=3000)
    (identity,) = experiment.runs
    (one,) = submit(experiment.folder, "slurm").submitted
    until(lambda: steps(experiment, identity) >= 100, experiment)
    node = slurm.called(["squeue", "--noheader", f"--jobs={one.job}", "--format=%N"]).strip()
    slurm.called(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"])
    try:
        other = {"n1": "n2", "n2": "n1"}[node]
        until(lambda: other in slurm.called(["squeue", "--noheader", "--format=%N"]), experiment)
        until(lambda: idle(experiment), experiment)
    finally:
        slurm.called(["scontrol", "update", f"nodename={node}", "state=resume"])
    assert statuses(experiment) == {"done"}


def test_a_users_error_is_not_requeued(study):
    experiment = study()
    (identity,) = experiment.runs
    blocked = experiment.run_folder(identity) / "checkpoints"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    (one,) = submit(experiment.folder, "slurm").submitted
    until(lambda: idle(experiment), experiment)
    shown = slurm.called(["scontrol", "show", "job", f"{one.job}_0"])
    assert "JobState=FAILED" in shown
    assert "Restarts=0" in shown
    assert "ExitCode=2:0" in shown
    assert statuses(experiment) == {"failed"}
    again = submit(experiment.folder, "slurm")
    assert (again.missing, again.states) == ([], {"failed": 1})


def test_what_is_cancelled_is_saved_and_not_requeued(study):
    experiment = study(updates=20_000)
    (identity,) = experiment.runs
    (one,) = submit(experiment.folder, "slurm").submitted
    until(lambda: steps(experiment, identity) >= 100, experiment)
    assert cancel(experiment.folder) == [f"{one.job}_0"]
    until(lambda: idle(experiment), experiment)
    assert run_state(experiment.run_folder(identity)).status == "pending"
    assert "is saved" in (experiment.root / "logs" / f"slurm-{one.job}_0.log").read_text()
    assert submit(experiment.folder, "print").missing == [identity]


def test_the_doctor_sees_both_nodes(study, folders):
    from encdec_jax.submit.doctor import submit_doctor

    experiment = study()
    submit_doctor("slurm", 2, False, nodes=2)
    logs = folders / "runs/doctor"
    until(lambda: any("over 2 devices" in path.read_text() for path in logs.iterdir()), experiment)
    (log,) = logs.iterdir()
    assert "process 1: " in log.read_text()
    assert "shared by 2 processes, atomic" in log.read_text()
    assert "a sum of 4 MiB over 2 devices is right" in log.read_text()


def test_a_gang_that_loses_a_process_goes_on_to_the_same_loss(study, folders):
    """The other process must not take the loss for an error of the run, nor wait for ever."""
    experiment = study(data=2, updates=2000)
    (identity,) = experiment.runs
    (one,) = submit(experiment.folder, "slurm", nodes=2).submitted
    until(lambda: steps(experiment, identity) >= 100, experiment)
    os.kill(gangs(identity)[-1], signal.SIGKILL)
    until(lambda: idle(experiment), experiment)
    log = (experiment.root / "logs" / f"slurm-{one.job}_0.log").read_text()
    assert statuses(experiment) == {"done"}, log
    assert log.count(f"run {identity} begins, on 2 devices") == 4
    assert not (experiment.run_folder(identity) / "error.txt").exists()
    study(data=1, updates=2000)
    alone = json.loads((undisturbed(experiment, folders) / identity / "summary.json").read_text())
    found = json.loads((experiment.run_folder(identity) / "summary.json").read_text())
    assert found["suffix_bits_per_byte"] == pytest.approx(alone["suffix_bits_per_byte"], rel=1e-3)
    assert found["data_hash"] == alone["data_hash"]
