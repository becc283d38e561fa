"""Workers on many small runs, disturbed at random: killed, frozen, told to stop, with clocks hours apart and a disk
that refuses. A program, so that workers fork off a process that has no threads: one starts in a millisecond.

    PYTHONPATH=.:tests python tests/sweep/chaos.py FOLDER --workers 8 --runs 200 --kills 1000 --seed 0

The lease's times are a 200th of what they are. What runs compute is a chain of hashes, by the real claims,
worker, lines and files. Prints its figures as JSON; exits with 1 and the reason if a run is not as an undisturbed one.

With --bucket URL the runs are in a bucket, that of a server on loopback say. Times are a 30th, for a request takes its
time; each worker has a copy of its own, and of four two can't see which processes of this machine have ended.
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
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

from tiny import SUMMARY, tiny_run

from encdec_jax import bucket as buckets
from encdec_jax import files
from encdec_jax.errors import UserError
from encdec_jax.files import read_json, sha256_file, write_json
from encdec_jax.sweep import claim as claims
from encdec_jax.sweep import holder, replica, results, scratch, worker
from encdec_jax.sweep import lease as leases
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


def train(run, folder: Path, *, stop, fence, steps: int, traces: Path, pace: float = 0.02) -> dict | None:
    """A chain of hashes with lines, checkpoints and a summary, restored and fenced as the host loop does it."""
    sealed = (folder / "checkpoints").glob("manifest-*.json")
    paths = [path.with_name(path.name.split("-")[1]) / "kept.json" for path in sealed]
    kept = sorted(map(read_json, paths), key=lambda one: one["step"])
    first, value, copy = (kept[-1][name] for name in ("step", "value", "lines")) if kept else (0, run_id(run), None)
    lines = Lines(folder / "metrics.jsonl", first, copy, fence.check)
    trace = os.open(traces / f"trace-{folder.name}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
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
            name, where = f"lease{fence.number}_{step}", folder / "checkpoints"
            write_json(where / name / "kept.json", saved)
            write_json(where / f"manifest-{name}-0-of-1.json", {"kept.json": sha256_file(where / name / "kept.json")})
    lines.close()
    summary = {**SUMMARY, "status": "done", "suffix_bits_per_byte": int(value[:8], 16) / 2**32, "updates": steps}
    write_json(folder / "summary.json", {**summary, "lease": fence.number}, fence.check)
    os.close(trace)
    if "s3://" not in os.environ["ENCDEC_RUNS"]:  # there, what counts is the object
        ended(traces, folder.name)
    return summary


def ended(traces: Path, identity: str) -> None:
    """Note that a run got its summary."""
    trace = os.open(traces / f"trace-{identity}", os.O_APPEND | os.O_WRONLY)
    os.write(trace, b"done\n")
    os.close(trace)


def hasten(root: Path, skew: float, bucket: bool) -> None:
    """Short times, a clock that is wrong by `skew` seconds, and a disk that refuses while there is a file `refuses`."""
    leases.BEAT, leases.LIFE, leases.TTL, leases.LOOK, worker.PAUSE = 0.075, 0.6, 0.9, 0.02, 0.05
    claims.time = lambda: time.time() + skew
    flag = root / "refuses"
    if bucket:
        leases.BEAT, leases.LIFE, leases.TTL, leases.LOOK, worker.PAUSE = 0.5, 4.0, 6.0, 0.1, 0.3
        scratch.PERIOD, replica.FRESH = 0.2, 0.5
        asking, create = buckets.Bucket._asking, buckets.Bucket.create

        def created(self, key, data):
            tag = create(self, key, data)
            if tag is not None and key.endswith("summary.json"):
                ended(root, key.split("/")[-2])
            return tag

        @contextmanager
        def refused(self, what, key):
            with asking(self, what, key):
                if flag.exists():
                    raise OSError(f"can't {what} {key}: the bucket refuses")
                yield

        buckets.Bucket._asking, buckets.Bucket.create = refused, created
        return

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

    files.os = leases.os = System()


def fork(experiment: Experiment, place: Path, steps: int, random_: random.Random, bucket: bool) -> int:
    """A worker; gives its pid."""
    skew, number = random_.choice((0.0, 0.0, -7200.0, 7200.0)), random_.randrange(4)
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        os.dup2(os.open(place / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY), 2)
        hasten(place, skew, bucket)
        if bucket:
            os.environ["XDG_CACHE_HOME"] = str(place / f"home-{number}")
            if number % 2:
                (place / f"tmp-{number}").mkdir(exist_ok=True)
                holder._WITNESSES = place / f"tmp-{number}"
        pace = 0.1 if bucket else 0.02
        with interrupts() as told:
            worker.work(experiment, partial(train, steps=steps, traces=place, pace=pace), told)
        code = 0
    except UserError:
        code = 2
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def look(experiment: Experiment) -> dict[str, str]:
    """The states of all runs; those that failed are tried again, as `encdec run` does."""
    replica.pull(experiment.root, fresh=True)
    states = {one: run_state(experiment.run_folder(one)).status for one in experiment.runs}
    for identity, status in states.items():
        if status == "failed":
            forgive(experiment.run_folder(identity))
    return states


def lookout(experiment: Experiment, place: Path) -> int:
    """A process that looks again and again, for one that forks must not talk to a bucket itself; gives its pid."""
    pid = os.fork()
    if pid:
        return pid
    os.environ["XDG_CACHE_HOME"] = str(place / "home-lookout")
    while True:
        try:
            write_json(place / "states.json", look(experiment))
        except UserError:
            traceback.print_exc()
        time.sleep(0.3)


def disturb(
    experiment: Experiment, place: Path, steps: int, workers: int, kills: int, random_: random.Random, bucket: bool
) -> dict[str, int]:
    """Work until all is done and all disturbances were made; gives how many of each there were."""
    if bucket:
        watcher = lookout(experiment, place)
        while not (place / "states.json").exists():
            time.sleep(0.1)
    figures = dict.fromkeys(("kills", "freezes", "stops", "refusals", "lost", "workers"), 0)
    alive: dict[int, float] = {}  # pid -> when it thaws, 0 if it is not frozen
    refuses, until = place / "refuses", 0.0
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
        states = read_json(place / "states.json") if bucket else look(experiment)
        over = all(status == "done" for status in states.values())
        if over and not alive:
            text = (place / "log").read_text()
            if bucket:
                os.kill(watcher, signal.SIGKILL)
                os.waitpid(watcher, 0)
            if "Traceback" in text:
                raise AssertionError(text)
            return {**figures, "lost": text.count("the lease was lost")}
        while len(alive) < workers and not over:
            alive[fork(experiment, place, steps, random_, bucket)] = 0.0
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
                alive[pid] = time.monotonic() + random_.uniform(0.1, 12.0 if bucket else 3.0)  # often beyond its life
            elif what == "stops":
                os.kill(pid, signal.SIGTERM)
            elif not until:
                refuses.touch()
                until = time.monotonic() + (2.0 if bucket else 0.3)  # a minute, at this pace
        time.sleep(random_.uniform(0.0, 0.5 if bucket else 0.05))


def differences(experiment: Experiment, steps: int, place: Path) -> list[str]:
    """What is not as in runs that one worker does undisturbed."""
    found = []
    replica.pull(experiment.root, fresh=True)
    replica.pull_whole(experiment.root, experiment.runs)
    alone = place / "undisturbed"
    alone.mkdir()
    for identity, run in experiment.runs.items():
        whole = alone / identity
        whole.mkdir()
        train(run, whole, stop=lambda: False, fence=worker.Fence(), steps=steps, traces=alone, pace=0)
        other = experiment.run_folder(identity)
        if (whole / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes():
            found.append(f"{identity}: metrics.jsonl")
        one, two = (read_json(where / "summary.json") for where in (whole, other))
        if {**one, "lease": 0} != {**two, "lease": 0}:
            found.append(f"{identity}: summary.json")
        trace = (place / f"trace-{identity}").read_text().split()
        if trace.count("done") > 1:
            found.append(f"{identity}: done {trace.count('done')} times")
    table = results.collect(experiment)
    if sorted(table["run_id"]) != sorted(experiment.runs) or set(table["status"]) != {"done"}:
        found.append("the table")
    return found


def late(experiment: Experiment, place: Path) -> int:
    """Steps that a worker made behind one of its successor: frozen between its last look and the write."""
    count = 0
    for identity in experiment.runs:
        numbers = [int(n) for n in (place / f"trace-{identity}").read_text().split() if n != "done"]
        count += sum(later < earlier for earlier, later in pairwise(numbers))
    return count


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, default in (("workers", 8), ("runs", 200), ("steps", 100), ("kills", 1000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bucket")
    given = parser.parse_args()
    place: Path = given.folder
    os.environ["ENCDEC_RUNS"] = given.bucket or str(place / "runs")
    os.environ["XDG_CACHE_HOME"] = os.environ["TMPDIR"] = str(place / "home")
    experiment = study(place, given.runs)
    (place / "home").mkdir(parents=True)
    experiment.root.mkdir(parents=True)
    random_, bucket = random.Random(given.seed), given.bucket is not None
    figures = disturb(experiment, place, given.steps, given.workers, given.kills, random_, bucket)
    wrong = differences(experiment, given.steps, place)
    print(json.dumps({"runs": given.runs, **figures, "late": late(experiment, place), "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
