"""A worker: walks the experiment's runs, claims what nobody works on, trains it.

    python -m encdec_jax.sweep.worker FOLDER --cpus 0,1 --parent PID

Any number of workers may walk one experiment, started by anyone on any machine that sees the runs' folder. SIGTERM and
SIGINT let the run save a checkpoint, then release it. A worker whose parent is gone does the same by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from encdec_jax import cpus
from encdec_jax.errors import UserError
from encdec_jax.files import expanded
from encdec_jax.sweep import lease as leases
from encdec_jax.sweep.branch import graft
from encdec_jax.sweep.claim import claim
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.lease import Lease
from encdec_jax.sweep.replica import pull, pull_run
from encdec_jax.sweep.scratch import scratch
from encdec_jax.sweep.signals import interrupts
from encdec_jax.sweep.speed import ordered
from encdec_jax.sweep.store import run_state, write_error
from encdec_jax.sweep.waiting import states, waits
from encdec_jax.train.fence import Fence
from encdec_jax.train.objects import Refused

PAUSE = 1.0  # seconds between two looks at runs that others hold

Train = Callable[..., dict[str, Any] | None]  # encdec_jax.train.loop.train


def work(experiment: Experiment, train: Train, stop: Callable[[], bool]) -> None:
    """Do runs until every run has ended, by whomever, or waits for other experiments, or `stop()` is true.

    A run that raises becomes a failed one, and is left alone.

    Args:
      experiment: whose runs to walk.
      train: trains a run in a folder, as `encdec_jax.train.loop.train`.
      stop: asked between runs, and by `train` within them.

    Raises:
      UserError: the runs' folder can't be read or written to; of one run's folder, when the others have ended.
    """
    order, answered = ordered(experiment), time.monotonic()
    barred: dict[str, UserError] = {}  # runs whose folders take not even an error: another user's
    while not stop():
        try:
            pull(experiment.root)
            found = states(experiment)
            left = [identity for identity in order if not found[identity].left_alone and identity not in barred]
            if not left and barred:
                raise next(iter(barred.values()))
            if not left:
                return
            busy = any(_attempt(experiment, identity, train, stop, barred) for identity in left)
            answered = time.monotonic()
        except Refused as error:
            if time.monotonic() - answered > leases.IDLE:
                raise
            print(f"waiting for a bucket: {error}", file=sys.stderr, flush=True)
            busy = False
        if not busy:
            time.sleep(PAUSE)


def _attempt(
    experiment: Experiment, identity: str, train: Train, stop: Callable[[], bool], barred: dict[str, UserError]
) -> bool:
    """Do one run if it is free, or note why it can't be claimed. Returns whether it was free."""
    folder = experiment.run_folder(identity)
    if waits(experiment, identity) is not None:
        return False
    try:
        lease = claim(folder, _vanish)
    except Refused:
        raise
    except UserError as error:  # what is wrong with one run's folder keeps nobody from the others
        try:
            write_error(folder, error)
        except UserError:
            barred[identity] = error
        return True
    if lease is None:
        return False
    with lease:
        pull_run(folder)
        if not run_state(folder).ended:
            _perform(experiment, identity, train, stop, lease)
    return True


def _perform(experiment: Experiment, identity: str, train: Train, stop: Callable[[], bool], lease: Lease) -> None:
    run, folder = experiment.runs[identity], experiment.run_folder(identity)
    try:
        with scratch(run, folder, lease) as here:
            graft(experiment, identity, here, lease.check)
            summary = train(run, here, stop=stop, fence=Fence(lease.number, lease.check, lease.progressed))
        if summary is None and not stop():
            raise RuntimeError("training ended early, though nothing asked it to")
    except Refused:
        raise
    except Exception as error:
        write_error(folder, error, lease.check)


def _vanish() -> None:
    """End this process at once, with all its threads: another has taken its run over, whose folder is not ours now."""
    print("the lease was lost to another process: this one did not beat for too long", file=sys.stderr, flush=True)
    os._exit(1)


def main() -> int:
    """Run as a program. Returns the exit code: 0, or 2 with one line on what the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m encdec_jax.sweep.worker", description="Work on an experiment's runs."
    )
    parser.add_argument("folder", type=expanded, help="the experiment folder, which holds a sweep.py")
    parser.add_argument("--cpus", type=_ids, help="ids of the CPUs to keep to, as in 0,1; default: no limit")
    parser.add_argument("--runs", help="digest of the runs' ids, as `encdec run` sees them; default: any")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="stop when this pid is no longer the parent")
    options = parser.parse_args()
    if options.cpus:
        os.sched_setaffinity(0, options.cpus)
    cpus.keep_freed_memory()
    try:
        with interrupts() as told:
            experiment = load(options.folder)
            if options.runs not in (None, digest(experiment)):
                script = experiment.folder / "sweep.py"
                raise UserError(
                    f"{script}: runs() gives other runs in every process: no set, hash, clock or pid decides"
                )
            from encdec_jax.train.loop import train  # only now: the CPUs are set before JAX counts them
            from encdec_jax.train.mirrors import asked
            from encdec_jax.train.sharding import present

            asked()
            present()  # or every run would fail of what is wrong with the machine
            work(experiment, train, stop=lambda: told() or os.getppid() != options.parent)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def digest(experiment: Experiment) -> str:
    """SHA-256 of the runs' ids, whatever their order."""
    return hashlib.sha256("".join(sorted(experiment.runs)).encode()).hexdigest()


def _ids(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
