"""`encdec run` with runs and tokens in a bucket: killed, and gone on with on another machine. By moto's S3 server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from jax.tree import leaves
from tiny import encdec, environment, write_experiment, write_noise

from encdec_jax.bucket import Bucket, bucket
from encdec_jax.cli.main import main
from encdec_jax.errors import UserError
from encdec_jax.files import runs_root
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.replica import pull
from encdec_jax.sweep.store import run_state
from encdec_jax.train.restore import restore

SWEEP = """
from tiny import tiny_run

QUESTION = "Does it work in a bucket?"
BASELINE = "causal_lm"
CONFOUNDERS = {}
PREDICTIONS = []


def runs():
    for seed in (0, 1):
        yield tiny_run(updates=400, seed=seed)
"""
CONFIG = """
from ml_collections import ConfigDict
from tiny import tiny_run

from encdec_jax.config import to_dict


def get_config():
    return ConfigDict(to_dict(tiny_run(updates=400)))
"""
QUICK = """
import sys
from encdec_jax.cli.main import main
from encdec_jax.sweep import scratch

scratch.PERIOD = 0.05  # a checkpoint is in the bucket long before the run ends
sys.exit(main())
"""
CLOCKS = ["wall_s", "step_s", "tokens_per_s"]

pytestmark = pytest.mark.slow


def table() -> pl.DataFrame:
    return pl.read_parquet(runs_root() / "study" / "results.parquet").drop(CLOCKS)


def begun(store) -> bool:
    return any("manifest" in key for key in store.list("study/runs"))


def test_killed_and_gone_on_with_on_another_machine_gives_the_rows_of_a_disk(s3, folders, monkeypatch):
    study = write_experiment(folders / "study", SWEEP)
    write_noise()
    undisturbed = encdec("run", study, "-j", "1")
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = table()

    monkeypatch.setenv("ENCDEC_CACHE", f"{s3}/cache")
    monkeypatch.setenv("ENCDEC_RUNS", f"{s3}/runs")
    write_noise()
    store = bucket(f"{s3}/runs")
    command = [sys.executable, "-m", "encdec_jax", "run", str(study), "-j", "1"]
    with subprocess.Popen(command, env=environment(), start_new_session=True, stderr=subprocess.PIPE) as first:
        while not begun(store):
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.05)
        workers = subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True, check=True).stdout
        for pid in (first.pid, *map(int, workers.split())):
            os.kill(pid, signal.SIGKILL)
    pull(load(study).root, fresh=True)
    assert {run_state(load(study).run_folder(one)).status for one in load(study).runs} != {"done"}

    monkeypatch.setenv("XDG_CACHE_HOME", str(folders / "another-home"))
    ran = encdec("run", study, "-j", "1")
    assert ran.returncode == 0, ran.stderr
    assert table().equals(expected)
    for verb in ("status", "plan", "report", "collect"):
        done = encdec(verb, study)
        assert done.returncode == 0, done.stderr
    assert "2 done" in encdec("status", study).stdout
    logs = encdec("logs", next(iter(load(study).runs)))
    assert (logs.returncode, "worker-0" in logs.stdout) == (0, True), logs.stderr
    assert store.read("study/report.html") is not None
    assert not [path for path in folders.rglob("*") if path.name == "s3:"]
    lines = {key: store.read(key)[0] for key in store.list("study/runs") if key.endswith("metrics.jsonl")}
    for key, text in lines.items():
        assert text == (folders / "runs" / "study" / key.split("/")[2] / "metrics.jsonl").read_bytes()


def test_train_alone_is_gone_on_with_after_a_signal(s3, folders, monkeypatch):
    write_noise()
    monkeypatch.setenv("ENCDEC_RUNS", s3)
    (folders / "one.py").write_text(CONFIG)
    command = [sys.executable, "-c", QUICK, "train", "one.py"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        while not begun(bucket(s3)) and not any("manifest" in key for key in bucket(s3).list("single")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == 130, said
    monkeypatch.setenv("XDG_CACHE_HOME", str(folders / "another-home"))
    ended = encdec("train", "one.py")
    assert ended.returncode == 0, ended.stderr
    assert "goes on behind update" in ended.stderr
    again = encdec("train", "one.py")
    assert "this run had ended already" in again.stderr, again.stderr


def test_what_reads_runs_reads_them_in_a_bucket(s3, folders, monkeypatch, capsys):
    """On a machine that has trained nothing: restore, evaluate, convert, and a run that begins at another's end."""
    write_noise()
    monkeypatch.setenv("ENCDEC_RUNS", s3)
    (folders / "one.py").write_text(CONFIG)
    short = "--config.train.tokens=7680"
    trained = encdec("train", "one.py", short, "--config.train.keep_at=2560")
    assert trained.returncode == 0, trained.stderr
    identity = Path(trained.stdout.rpartition("run: ")[2].strip()).name
    run = f"single/{identity}"
    end, middle = (restore(run, update)[1] for update in (60, 20))

    monkeypatch.setenv("XDG_CACHE_HOME", str(folders / "another-home"))
    checkpoints = runs_root() / run / "checkpoints"
    for update, expected in ((None, end), (20, middle)):
        _, found = restore(run, update)
        assert all(np.array_equal(a, b) for a, b in zip(leaves(found), leaves(expected), strict=True))
    assert sorted(path.name for path in checkpoints.glob("lease*")) == ["lease1_20", "lease1_60"]
    with pytest.raises(
        UserError, match=r"update = 30 is not accepted: one with a whole checkpoint in s3.*: 20, 40, 60"
    ):
        restore(run, 30)
    begun = encdec("train", "one.py", f"--config.train.init_from={run}/checkpoints/20", "--config.train.tokens=1280")
    assert begun.returncode == 0, begun.stderr
    assert main(["evaluate", run, "--task", "noise"]) == 0
    assert bucket(s3).read(f"single/runs/{identity}/evaluations/noise-validation/scores.json") is not None
    capsys.readouterr()
    for refused, named in (
        (["train", "one.py", f"--config.train.init_from={run}/checkpoints/30"], "train.init_from = 30"),
        (["convert", "--from", "hf", str(folders), "--to", str(runs_root() / "made")], "--to = "),
        (["evaluate", f"{s3}/{run}", "--task", "noise"], "path = 's3:"),
    ):
        assert main(refused) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("encdec: ")
        assert named in line

    fetch, inside = Bucket.fetch, f"single/runs/{identity}/checkpoints/lease1_60/"
    shutil.rmtree(checkpoints)
    with monkeypatch.context() as patched:  # what can't be read is not taken for damaged: an older one would be served

        def refuse(self, key, *arguments):
            if key.startswith(inside):
                raise OSError("refused")
            fetch(self, key, *arguments)

        patched.setattr(Bucket, "fetch", refuse)
        with pytest.raises(UserError, match="refused"):
            restore(run)
    bucket(s3).write(next(iter(bucket(s3).list(inside))), b"damaged")
    restore(run)
    assert "lease1_40" in [path.name for path in checkpoints.iterdir()]
    bucket(s3).remove(list(bucket(s3).list(f"single/runs/{identity}/checkpoints")))
    with pytest.raises(UserError, match="holds no whole checkpoint"):  # the copy of one that is gone is not believed
        restore(run)
