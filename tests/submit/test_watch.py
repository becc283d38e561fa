"""What a look at an experiment's runs costs: a few small reads a run, whatever the run has written."""

from __future__ import annotations

import builtins
import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console
from tiny import SUMMARY, write_experiment

from encdec_jax.errors import UserError
from encdec_jax.files import write_json
from encdec_jax.submit.dispatch import logs
from encdec_jax.submit.watch import watched
from encdec_jax.sweep.claim import claim
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.store import write_error
from encdec_jax.tables.status import _print

WRITTEN = 1 << 22  # bytes of a run's metrics
# Calls of the system that name a file of a run's folder: a summary is looked for and read. Where there is none, the
# lease is listed, looked for and read, the summary looked for again, the end of the metrics and an error read; of a run
# at work the lease twice again, for its holder and its heartbeat, and the end of what else it writes.
COSTS = {"diverged": 2, "failed": 7, "running": 15, "pending": 7}


@pytest.fixture
def called(monkeypatch) -> Counter[Path]:
    """How often each file or folder is opened, listed or looked for."""
    found: Counter[Path] = Counter()
    for where, name in ((io, "open"), (builtins, "open"), (os, "open"), (os, "stat"), (os, "listdir"), (os, "scandir")):
        real = getattr(where, name)

        def counted(path, *arguments, real=real, **named):
            if isinstance(path, str | Path):
                found[Path(path)] += 1
            return real(path, *arguments, **named)

        monkeypatch.setattr(where, name, counted)
    return found


def test_a_look_costs_a_few_calls_a_run_and_the_ends_of_its_files(folders, called):
    study = load(write_experiment(folders / "study"))
    ended, failed, running, pending = (study.run_folder(identity) for identity in study.runs)
    lines = [json.dumps({"step": n, "tokens": 128 * n, "step_s": n / 10, "loss": 1.0}) for n in range(1, 100)]
    for folder in (ended, failed, running, pending):
        folder.mkdir(parents=True)
        for name in ("metrics.jsonl", "timing.jsonl"):
            (folder / name).write_text(f"{' ' * WRITTEN}\n" + "\n".join(lines) + "\n")
        with claim(folder, lambda: None):
            pass
    write_json(ended / "summary.json", SUMMARY)
    write_error(failed, UserError("it failed"))
    with claim(running, lambda: None):
        called.clear()
        before = read()
        found = watched(study)
        assert read() - before < WRITTEN
    assert [one.state.status for one in found] == [*COSTS]
    assert (found[2].step, found[2].state.tokens) == (99, 99 * 128)
    spent = {
        one.state.status: sum(n for path, n in called.items() if path.is_relative_to(study.run_folder(one.run_id)))
        for one in found
    }
    assert spent == COSTS


LEASE = {"host": "elsewhere", "pid": 1, "cpus": 1, "witness": "", "released": 0}
JOB = {"launcher": "slurm", "job": "1", "tasks": [["0123456789ab"]]}
LINE = '{"step": 1, "tokens": 1, "step_s": 1}\n{"step": %s, "tokens": %s, "step_s": 2}\n'
STRANGE = {
    "leases/1.json": [json.dumps(LEASE | one) for one in ({"witness": 3}, {"pid": "x"}, {"host": "**"}, {"host": "/"})],
    "metrics.jsonl": [LINE % (one, one) for one in ("Infinity", "NaN", "1" + "0" * 400, "-1", "[]")],
    "timing.jsonl": [LINE % (one, one) for one in ("Infinity", "NaN", "1" + "0" * 400, "[]")],
    "made_of.json": [],
    "../submissions/slurm-1.json": [json.dumps(JOB | one) for one in ({"tasks": 3}, {"tasks": [3]}, {"job": "--all"})],
    "../submissions/k8s-1.json": [json.dumps(JOB | one) for one in ({"job": 3}, {"job": "a\0b"}, {"tasks": []})],
}


@pytest.mark.parametrize("name", STRANGE)
def test_whatever_lies_there_each_run_is_shown_and_its_logs_are_asked_for(folders, name):
    study = load(write_experiment(folders / "study"))
    folder = study.run_folder(next(iter(study.runs)))
    (folder / "leases").mkdir(parents=True)
    (folder / "leases" / "1.json").write_text(json.dumps(LEASE)[:-1] + "}")
    (folder / "timing.jsonl").write_text(LINE % (2, 2))
    (folder / "error.txt").write_text("why")
    path = Path(os.path.normpath(folder / name))
    path.parent.mkdir(exist_ok=True)
    for text in ("", "[]", "null", "Infinity", '"x"', "{}", "[" * 3000, "[" * 100_000, "\x00", *STRANGE[name]):
        path.write_text(f"{text}\n" if name.endswith("jsonl") else text)
        found = watched(study)
        assert [one.run_id for one in found] == [*study.runs], text[:20]
        _print(study, found, Console(file=io.StringIO()))
        assert logs(str(folder)) == [folder / "error.txt"], text[:20]


def read() -> int:
    """Bytes that this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])
