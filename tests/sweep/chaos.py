"""Workers on many small runs, disturbed at random: killed, frozen, told to stop, with clocks hours apart and a disk
that refuses. A program, so that workers fork off a process that has no threads: one starts in a millisecond.

    PYTHONPATH=.:tests python tests/sweep/chaos.py FOLDER --workers 8 --runs 200 --kills 1000 --seed 0

The lease's times are a 200th of what they are. What runs compute is a chain of hashes, by the real claims,
worker, lines and files. Prints its figures as JSON; exits with 1 and the reason if a run is not as an undisturbed one.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from functools import partial
from itertools import pairwise
from pathlib import Path

from tiny import SUMMARY, tiny_run

from encdec_jax import files
from encdec_jax.errors import UserError
from encdec_jax.files import read_json, write_json
from encdec_jax.sweep import claim as claims
from encdec_jax.sweep import results, worker
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.identity import run_id
from encdec_jax.sweep.signals import interrupts
from encdec_jax.sweep.store import forgive, run_state
from encdec_jax.train.lines import Lines

EVERY = 4  # steps between checkpoints


def study(folder: Path, runs: int) -> Experiment:
    """Of runs that differ in their seed; `ENCDEC_RUNS` must be `folder`."""
    made = {run_id(run): run for run in (tiny_run(seed=seed) for seed in range(runs))}
    labels = dict.fromkeys(made, "causal_lm")
    return Experiment("chaos", folder, "Once?", "causal_lm", {}, [], made, labels)


def train(run, folder: Path, *, stop, fence, steps: int, pace: float = 0.02) -> dict | None:
    """A chain of hashes with lines, checkpoints and a summary, restored and fenced as the host loop does it."""
    kept = sorted((read_json(path) for path in folder.glob("kept-*.json")), key=lambda one: one["step"])
    first, value, copy = (kept[-1][name] for name in ("step", "value", "lines")) if kept else (0, run_id(run), None)
    fence.check()
    lines = Lines(folder / "metrics.jsonl", first, copy)
    trace = os.open(folder.parent / f"trace-{folder.name}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for step in range(first + 1, steps + 1):
        if stop():
            return None
        time.sleep(pace)
        value = hashlib.sha256(f"{value} {step}".encode()).hexdigest()
        fence.check()
        fence.progressed()
        os.write(trace, f"{fence.number}\n".encode())
        lines.write({"step": step, "tokens": step, "value": value})
        if step % EVERY == 0:
            fence.check()
            saved = {"step": step, "value": value, "lines": lines.text}
            write_json(folder / f"kept-{fence.number}-{step}.json", saved)
    fence.check()
    summary = {**SUMMARY, "status": "done", "suffix_bits_per_byte": int(value[:8], 16) / 2**32, "updates": steps}
    write_json(folder / "summary.json", {**summary, "lease": fence.number})
    os.write(trace, b"done\n")
    os.close(trace)
    return summary


def hasten(root: Path, skew: float) -> None:
    """Short times, a clock that is wrong by `skew` seconds, and a disk that refuses while there is a file `refuses`."""
    claims.BEAT, claims.LIFE, claims.TTL, claims._LOOK, worker.PAUSE = 0.075, 0.6, 0.9, 0.02, 0.05
    claims.time = lambda: time.time() + skew
    flag = root / "refuses"

    def refusing(do):
        def done(*given, **named):
            if flag.exists():
                raise OSError(errno.EROFS, "the disk refuses")
            return do(*given, **named)

        return done

    class System:
        """`os`, as the modules under test see it."""

        def __getattr__(self, name):
            return getattr(os, name)

        replace = staticmethod(refusing(os.replace))

        @staticmethod
        def utime(path, times=None):
            now = time.time() + skew
            refusing(os.utime)(path, (now, now) if times is None else times)

    files.os = claims.os = System()


def fork(experiment: Experiment, steps: int, random_: random.Random) -> int:
    """A worker; gives its pid."""
    skew = random_.choice((0.0, 0.0, -7200.0, 7200.0))
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        os.dup2(os.open(experiment.root / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY), 2)
        hasten(experiment.root, skew)
        with interrupts() as told:
            worker.work(experiment, partial(train, steps=steps), told)
        code = 0
    except UserError:
        code = 2
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def disturb(experiment: Experiment, steps: int, workers: int, kills: int, random_: random.Random) -> dict[str, int]:
    """Work until all is done and all disturbances were made; gives how many of each there were."""
    figures = dict.fromkeys(("kills", "freezes", "stops", "refusals", "lost", "workers"), 0)
    alive: dict[int, float] = {}  # pid -> when it thaws, 0 if it is not frozen
    refuses, until = experiment.root / "refuses", 0.0
    while True:
        for pid in list(alive):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del alive[pid]
            elif 0 < alive[pid] < time.monotonic():
                os.kill(pid, signal.SIGCONT)
                alive[pid] = 0.0
        if until and time.monotonic() > until:
            refuses.unlink()
            until = 0.0
        states = {one: run_state(experiment.run_folder(one)).status for one in experiment.runs}
        for identity, status in states.items():
            if status == "failed":  # as `encdec run` does
                forgive(experiment.run_folder(identity))
        over = all(status == "done" for status in states.values())
        if over and not alive:
            text = (experiment.root / "log").read_text()
            if "Traceback" in text:
                raise AssertionError(text)
            return {**figures, "lost": text.count("the lease was lost")}
        while len(alive) < workers and not over:
            alive[fork(experiment, steps, random_)] = 0.0
            figures["workers"] += 1
        awake = [pid for pid, thaws in alive.items() if not thaws]
        what = random_.choices(("kills", "freezes", "stops", "refusals", None), (8, 3, 1, 0.3, 4))[0]
        if what and awake and not over and (figures["kills"] < kills or what != "kills"):
            pid = random_.choice(awake)
            figures[what] += 1
            if what == "kills":
                os.kill(pid, signal.SIGKILL)
            elif what == "freezes":
                os.kill(pid, signal.SIGSTOP)
                alive[pid] = time.monotonic() + random_.uniform(0.1, 3.0)  # often beyond the lease's life
            elif what == "stops":
                os.kill(pid, signal.SIGTERM)
            elif not until:
                refuses.touch()
                until = time.monotonic() + 0.3  # a minute, at this pace
        time.sleep(random_.uniform(0.0, 0.05))


def differences(experiment: Experiment, steps: int, folder: Path) -> list[str]:
    """What is not as in runs that one worker does undisturbed."""
    found = []
    for identity, run in experiment.runs.items():
        whole = folder / "undisturbed" / identity
        whole.mkdir(parents=True)
        train(run, whole, stop=lambda: False, fence=worker.Fence(), steps=steps, pace=0)
        other = experiment.run_folder(identity)
        if (whole / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes():
            found.append(f"{identity}: metrics.jsonl")
        one, two = (read_json(where / "summary.json") for where in (whole, other))
        if {**one, "lease": 0} != {**two, "lease": 0}:
            found.append(f"{identity}: summary.json")
        trace = (experiment.root / f"trace-{identity}").read_text().split()
        if trace.count("done") > 1:
            found.append(f"{identity}: done {trace.count('done')} times")
    table = results.collect(experiment)
    if sorted(table["run_id"]) != sorted(experiment.runs) or set(table["status"]) != {"done"}:
        found.append("the table")
    return found


def late(experiment: Experiment) -> int:
    """Steps that a worker made behind one of its successor: frozen between its last look and the write."""
    count = 0
    for identity in experiment.runs:
        numbers = [int(n) for n in (experiment.root / f"trace-{identity}").read_text().split() if n != "done"]
        count += sum(later < earlier for earlier, later in pairwise(numbers))
    return count


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, default in (("workers", 8), ("runs", 200), ("steps", 100), ("kills", 1000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    os.environ["ENCDEC_RUNS"] = str(given.folder / "runs")
    experiment = study(given.folder, given.runs)
    experiment.root.mkdir(parents=True)
    figures = disturb(experiment, given.steps, given.workers, given.kills, random.Random(given.seed))
    wrong = differences(experiment, given.steps, given.folder)
    print(json.dumps({"runs": given.runs, **figures, "late": late(experiment), "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
