"""`encdec run`, `status`, `collect` and `report` on an experiment of four tiny runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from tiny import SWEEP, encdec, environment, write_experiment, write_noise

from encdec_jax.evaluate import LOSS
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.results import SCHEMA, collect
from encdec_jax.sweep.store import run_state
from encdec_jax.train.lines import read_lines
from encdec_jax.train.summary import read_summary

CLOCKS = ["wall_s", "step_s", "tokens_per_s"]


@pytest.fixture
def study(folders):
    write_noise()
    return write_experiment(folders / "study")


def results(folders, name: str = "study") -> pl.DataFrame:
    return pl.read_parquet(folders / "runs" / name / "results.parquet")


def test_run_status_report_collect(folders, study):
    unfinished = encdec("collect", study)
    assert unfinished.returncode == 2
    assert "is not finished: 4 pending of 4 runs; give: encdec run" in unfinished.stderr

    ran = encdec("run", study, "-j", "2")
    assert ran.returncode == 0, ran.stderr
    assert f"results: {folders / 'runs/study/results.parquet'}" in ran.stdout
    assert ran.stderr.count(": done ") == 4
    table = results(folders)
    assert table.schema == SCHEMA
    assert table["status"].to_list() == ["done"] * 4
    assert table["arch"].to_list() == ["causal_lm"] * 2 + ["enc_dec"] * 2
    assert table["data_hash"].n_unique() == 1  # every run saw the same tokens
    assert json.loads(table["versions"][0])["jax"]

    before = {path: path.stat().st_mtime_ns for path in (folders / "runs/study").rglob("summary.json")}
    again = encdec("run", study, "-j", "2")
    assert again.returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert results(folders).equals(table)

    status = encdec("status", study)
    assert "study: 4 runs: 4 done" in status.stdout
    reported = encdec("report", study)
    assert reported.returncode == 0, reported.stderr
    assert f"report: {folders / 'runs/study/report.html'}" in reported.stdout
    collected = encdec("collect", study)
    assert collected.returncode == 0
    assert (study / "results.parquet").read_bytes() == (folders / "runs/study/results.parquet").read_bytes()


def test_a_run_that_fails_is_shown_and_tried_again(folders, study):
    experiment = load(study)
    first, *_ = experiment.runs
    blocked = experiment.run_folder(first) / "checkpoints"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    ran = encdec("run", study, "-j", "2")
    assert ran.returncode == 1
    assert f"failed: {experiment.run_folder(first)}" in ran.stderr
    assert "Traceback" not in ran.stderr
    states = {identity: run_state(experiment.run_folder(identity)).status for identity in experiment.runs}
    assert states == {identity: "failed" if identity == first else "done" for identity in experiment.runs}
    assert "1 failed" in encdec("status", study).stdout
    failed = results(folders).filter(pl.col("status") == "failed")
    assert failed["run_id"].to_list() == [first]
    assert failed["error"][0]
    blocked.unlink()
    assert encdec("run", study, "-j", "1").returncode == 0
    assert results(folders)["status"].to_list() == ["done"] * 4


def test_sigterm_saves_and_the_same_command_goes_on(folders):
    write_noise()
    study = write_experiment(folders / "study", SWEEP.replace("d_model)", "d_model, updates=3000)"))
    process = start(study)
    wait_for(lambda: trained(folders) > 5000)
    for _ in range(2):  # who is in a hurry sends another
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    assert process.wait(60) == 130
    assert list((folders / "runs/study").glob("*/checkpoints/manifest-*.json"))
    assert not list((folders / "runs/study").glob("*/summary.json"))
    assert {run_state(folder.parent).status for folder in (folders / "runs/study").glob("*/leases")} == {"pending"}


def start(study) -> subprocess.Popen:
    command = [sys.executable, "-m", "encdec_jax", "run", str(study), "-j", "2"]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trained(folders) -> int:
    """Tokens that all runs of the study have seen."""
    return sum(run_state(metrics.parent).tokens for metrics in (folders / "runs/study").glob("*/metrics.jsonl"))


def wait_for(ready) -> None:
    deadline = time.monotonic() + 90
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_killed_five_times_gives_the_same_results(folders, monkeypatch):
    """`kill -9` of `encdec run` at five moments, then the same command: the same values, and no run done twice."""
    write_noise()
    sweep = SWEEP.replace("d_model)", "d_model, updates=800)")
    whole, study = (write_experiment(folders / name, sweep) for name in ("whole", "study"))
    assert start(whole).wait() == 0
    total = results(folders, "whole")["tokens_seen"].sum()
    for share in sorted(np.random.default_rng(1).uniform(0.0, 0.9, 5)):
        process = start(study)
        wait_for(lambda share=share: trained(folders) >= share * total)
        process.kill()
        process.wait()
        assert not (folders / "runs/study/results.parquet").exists()
    assert start(study).wait() == 0
    one, other = (results(folders, name).drop(CLOCKS) for name in ("whole", "study"))
    assert one.equals(other)
    assert one["status"].to_list() == ["done"] * 4


def hasty_worker(study) -> subprocess.Popen:
    """A worker whose lease lives for seconds."""
    program = (
        "import sys; from encdec_jax.sweep import lease, worker; lease.BEAT, lease.LIFE, lease.TTL = 0.3, 3.0, 5.0;"
        "sys.exit(worker.main())"
    )
    return subprocess.Popen([sys.executable, "-c", program, str(study)], env=environment(), stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_worker_that_was_frozen_in_training_leaves_the_rows_as_they_are(folders):
    """Its run is taken over from its checkpoint; thawed, it ends without a word more in the folder."""
    write_noise()
    sweep = SWEEP.replace("d_model)", "d_model, updates=600)").replace("(8, 16)", "(8,)")
    whole, study = (write_experiment(folders / name, sweep) for name in ("whole", "study"))
    assert hasty_worker(whole).wait() == 0
    frozen = hasty_worker(study)
    wait_for(lambda: trained(folders) > 10_000)
    frozen.send_signal(signal.SIGSTOP)
    assert hasty_worker(study).wait() == 0
    before = {path: path.stat().st_mtime_ns for path in (folders / "runs/study").glob("*/*.*")}
    frozen.send_signal(signal.SIGCONT)
    assert frozen.wait(60) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    one, other = (collect(load(study)).drop(CLOCKS) for study in (whole, study))
    assert one.equals(other)
    assert one["status"].to_list() == ["done"] * 2
    leases = [len(list(folder.iterdir())) for folder in (folders / "runs/study").glob("*/leases")]
    assert max(leases) > 1


ELASTIC = """
import os
import signal
from dataclasses import replace

from tiny import tiny_run

from encdec_jax.model.presets import preset
from encdec_jax.train import lines
from encdec_jax.train.config import MeshConfig

QUESTION, BASELINE, CONFOUNDERS, PREDICTIONS = "Is it elastic?", "enc_dec 1/2", {{}}, []
write = getattr(lines, "written", lines.Lines.write)


def stopping(self, values):
    write(self, values)
    if values["step"] == {stop} and "loss" in values:
        os.kill(os.getpid(), signal.SIGTERM)


lines.written, lines.Lines.write = write, stopping  # however often this is loaded


def runs():
    run = tiny_run("enc_dec", 16, updates={updates}, lr=1e-3)
    model = preset("enc_dec", d_model=16, dec_layers=1, head_dim=8, vocab_size=264)
    train = replace(run.train, tokens={updates} * 256, batch_size=8)
    yield replace(run, model=model, train=train, mesh=MeshConfig({mesh}))
"""


@pytest.mark.slow
def test_a_run_goes_on_on_other_meshes_where_the_experiment_says_so(folders):
    """The same batches and losses, on 8 devices one way, 8 another way, and 4; each part by a process of its own."""
    write_noise()
    whole = [(8, (8, 1, 1), 0)]
    parts = [(8, (8, 1, 1), 10), (8, (2, 2, 2), 20), (4, (1, 2, 2), 0)]
    updates, ended = 30, {}
    for name, its in (("whole", whole), ("study", parts)):
        for devices, mesh, stop in its:
            sweep = ELASTIC.format(mesh=", ".join(map(str, mesh)), stop=stop, updates=updates)
            flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
            command = [sys.executable, "-m", "encdec_jax", "run", str(write_experiment(folders / name, sweep))]
            command += ["-j", "1"]
            ran = subprocess.run(command, env=environment(XLA_FLAGS=flags), capture_output=True, text=True, check=False)
            assert ran.returncode == (1 if stop else 0), ran.stderr
        (path,) = (folders / "runs" / name).glob("*/summary.json")
        ended[name] = read_summary(path), read_lines(path.parent / "metrics.jsonl", updates)
    (expected, its_lines), (found, lines) = ended["whole"], ended["study"]
    executed = [tuple(one[f"mesh.{axis}"] for axis in ("data", "fsdp", "tensor")) for one in found["execution"]]
    assert executed == [mesh for _, mesh, _ in parts]
    assert [one["update"] for one in found["execution"]] == [0, *(stop for _, _, stop in parts if stop)]
    assert found["data_hash"] == expected["data_hash"]
    for one, other in zip(lines, its_lines, strict=True):
        assert (one["step"], one["lr"]) == (other["step"], other["lr"])
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    assert found[LOSS] == pytest.approx(expected[LOSS], abs=1e-5)
