"""`encdec run`: works an experiment's list with worker processes, and shows how far it is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from encdec_jax import cpus
from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write, compilation_cache
from encdec_jax.sweep.branch import paid
from encdec_jax.sweep.check import check_costs, check_data
from encdec_jax.sweep.claim import held_by, last_holder
from encdec_jax.sweep.cost import cost
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.lease import TTL
from encdec_jax.sweep.replica import prove, pull
from encdec_jax.sweep.results import TABLE, collect
from encdec_jax.sweep.signals import interrupts
from encdec_jax.sweep.store import RunState, counts, forgive
from encdec_jax.sweep.waiting import states, told_of
from encdec_jax.sweep.worker import digest
from encdec_jax.text import duration, progress_console, shape
from encdec_jax.train.objects import holding, put

PERIOD = 0.5  # seconds between two looks at the runs
PATIENCE = 60.0  # seconds that stopped workers have to save before they are killed


def run(folder: Path, jobs: int | None = None) -> int:
    """Do every run of an experiment that is not done yet, and write the results table.

    Failed runs are tried again; those that workers elsewhere hold are waited for.

    Args:
      folder: of the experiment.
      jobs: worker processes, each on its own share of the CPUs; None for one a CPU (one in all with an accelerator).

    Returns:
      the exit code: 0 if every run is done or diverged, 1 if some failed, are damaged or wait for other experiments,
      130 if it was interrupted.

    Raises:
      UserError: the experiment, its data or a folder is not as it should be.
    """
    experiment = load(folder)
    shares = cpus.shares(jobs if jobs is not None else cpus.default_jobs())
    devices = cpus.own_devices(len(shares), max(run.mesh.size for run in experiment.runs.values()))
    prepare(experiment)
    check_costs(experiment)  # of pairs, what their tokens say
    check_data(experiment)
    check_writable(experiment)
    for identity in experiment.runs:
        forgive(experiment.run_folder(identity))
    left = sum(not state.left_alone for state in _states(experiment).values())
    interrupted = False
    if left:
        with interrupts() as stopped, _workers(experiment, shares[:left], devices) as workers:
            _watch(experiment, workers, stopped)
            interrupted = stopped()
    collect(experiment)
    return _report(experiment, interrupted)


def _states(experiment: Experiment) -> dict[str, RunState]:
    pull(experiment.root)
    return states(experiment)


def prepare(experiment: Experiment) -> None:
    """Tokenise shipped text that is not yet, in a process of its own: TensorFlow stays out of this one."""
    for task, vocab in check_data(experiment):
        command = [sys.executable, "-m", "encdec_jax", "prepare", "--task", task, "--vocab", vocab]
        ended = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, errors="replace")
        if ended.returncode:
            lines = ended.stderr.strip().splitlines() or [f"`encdec prepare` ended with {ended.returncode}"]
            raise UserError(lines[-1].removeprefix("encdec: "))


def check_writable(experiment: Experiment) -> None:
    """Raise a `UserError` unless a run's files can be written."""
    store = holding(experiment.root)
    if store is not None:
        prove(store)
    probe = experiment.root / ".writable"
    atomic_write(probe, bytes(1 << 20))  # as much as a small run leaves
    probe.unlink()


@contextmanager
def _workers(
    experiment: Experiment, shares: list[list[int]], devices: list[dict[str, str]]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Worker processes, at work; at the end those that still are get to save and are waited for."""
    (experiment.root / "logs").mkdir(parents=True, exist_ok=True)
    workers = []
    for place, share in enumerate(shares):
        command = [sys.executable, "-m", "encdec_jax.sweep.worker", str(experiment.folder)]
        command += ["--cpus", ",".join(map(str, share)), "--parent", str(os.getpid()), "--runs", digest(experiment)]
        path = experiment.root / "logs" / f"{_ours()}-worker-{place}.log"
        with path.open("wb") as log:
            # A session of their own: a terminal's Ctrl-C reaches this process alone, which then tells them.
            workers.append(
                subprocess.Popen(
                    command,
                    env=_environment(share) | devices[place],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        path.rename(path.with_name(f"{path.stem}-{workers[-1].pid}.log"))  # leases tell of the pid
    try:
        yield workers
    finally:
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + PATIENCE
        for worker in workers:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        if holding(experiment.root) is not None:
            for path in (experiment.root / "logs").glob(f"{_ours()}-worker-*.log"):
                put(path, path.read_bytes())


def _ours() -> str:
    """What this process's logs are named by: several may work on one experiment, from several machines."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _environment(share: list[int]) -> dict[str, str]:
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": compilation_cache()}
    env.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    env.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if len(share) == 1:  # a thread pool on one CPU only gets in its own way
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {cpus.ONE_THREAD}".strip()
    return env


def _watch(experiment: Experiment, workers: list[subprocess.Popen[bytes]], stopped: Callable[[], bool]) -> None:
    """Show progress until all runs have ended, all workers are gone, or it is interrupted."""
    console = progress_console()
    tell = _SweepProgress(experiment, console)
    waited: set[str] = set()
    with tell:
        while True:
            gone = all(worker.poll() is not None for worker in workers)
            states = _states(experiment)
            tell(states)
            if not any(state.status == "pending" for state in states.values()):
                _say_waits(experiment, states, workers, console, waited)
            if gone or stopped():
                break
            time.sleep(PERIOD)
    if stopped():
        console.print("interrupted: workers save their runs; give the same command again to go on")


def _say_waits(
    experiment: Experiment,
    states: dict[str, RunState],
    workers: list[subprocess.Popen[bytes]],
    console: Console,
    said: set[str],
) -> None:
    """Name, once each, whom the last runs wait for, and for how long at most."""
    ours = {(socket.gethostname(), worker.pid) for worker in workers}
    for identity, state in states.items():
        if identity in said or state.status not in ("running", "stale"):
            continue
        folder = experiment.run_folder(identity)
        holder = last_holder(folder)
        if holder is None or (holder.host, holder.pid) not in ours:
            said.add(identity)
            bound = f"it is taken over {TTL:.0f} s after its heart's last beat"
            console.print(f"{identity} waits for {held_by(folder)}; {bound}", markup=False, soft_wrap=True)


class _SweepProgress:
    """On a terminal a bar, weighted by FLOPs; elsewhere, a line for each run that ends."""

    def __init__(self, experiment: Experiment, console: Console) -> None:
        self._experiment, self._console = experiment, console
        self._flops = {identity: cost(run).train_flops for identity, run in experiment.runs.items()}
        self._paid = {identity: paid(experiment, identity) for identity in experiment.runs}  # by trunks, once
        self._ended: set[str] | None = None
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(experiment.name, total=sum(self._flops.values()) - sum(self._paid.values()))

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def __call__(self, states: dict[str, RunState]) -> None:
        runs = self._experiment.runs
        share = {i: 1.0 if s.ended else min(1.0, s.tokens / runs[i].train.tokens) for i, s in states.items()}
        spent = sum(max(0.0, self._flops[identity] * part - self._paid[identity]) for identity, part in share.items())
        self._bar.update(self._task, completed=spent, description=counts(states))
        ended = {identity for identity, state in states.items() if state.ended}
        if self._ended is not None:
            for place, identity in enumerate(sorted(ended - self._ended), start=len(self._ended) + 1):
                self._line(identity, states[identity], place)
        self._ended = ended

    def _line(self, identity: str, state: RunState, ended: int) -> None:
        summary, label = state.summary or {}, self._experiment.labels[identity]
        rate = summary.get("suffix_bits_per_byte")
        result = f"{rate:.4f} bits/byte in {duration(summary['wall_s'])}" if rate is not None else state.reason or ""
        what = f"{identity} {label} {shape(self._experiment.runs[identity])}"
        self._console.print(
            f"[{ended}/{len(self._flops)}] {what}: {state.status} {result}",
            markup=False,
            soft_wrap=True,
        )


def _report(experiment: Experiment, interrupted: bool) -> int:
    found = _states(experiment)
    print(f"{experiment.name}: {counts(found)}")
    print(f"results: {experiment.root / TABLE}")
    failed = {identity: state for identity, state in found.items() if state.status in ("failed", "damaged")}
    for identity, state in failed.items():
        print(f"{state.status}: {experiment.run_folder(identity)}: {state.reason}", file=sys.stderr)
    waiting = told_of(experiment, found)
    if waiting is not None:
        print(waiting, file=sys.stderr)
    if interrupted:
        return 130
    if failed or waiting is not None:
        return 1
    if not all(state.ended for state in found.values()):
        for log in sorted((experiment.root / "logs").glob(f"{_ours()}-worker-*.log")):
            lines = log.read_text(errors="replace").strip().splitlines() or ["it left no word of why"]
            print(f"a worker ended before the runs did: {lines[-1]} ({log})", file=sys.stderr)
        return 1
    return 0
