"""One process of a gang, which does runs one after another; started alike on every node of an allocation.

    python -m encdec_jax.submit.gang EXPERIMENT --runs ID,ID,...

The first process claims a run for all of them. Many gangs may be given the same runs: each is done once. SIGTERM lets
the run save a checkpoint. A gang of one is a process alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from encdec_jax.errors import UserError
from encdec_jax.files import compilation_cache, expanded
from encdec_jax.sweep.branch import graft
from encdec_jax.sweep.claim import claim, held_by
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.lease import TTL, Lease
from encdec_jax.sweep.replica import pull, pull_run
from encdec_jax.sweep.scratch import check_processes, scratch
from encdec_jax.sweep.signals import interrupts
from encdec_jax.sweep.store import run_state, write_error
from encdec_jax.sweep.waiting import waits
from encdec_jax.train.fence import Fence
from encdec_jax.train.objects import Refused

# Exit codes: FAILED_ONE says that the same again goes on with other runs; SAVED (EX_TEMPFAIL), with the same.
DONE, LOST, FAILED, FAILED_ONE, SAVED = 0, 1, 2, 3, 75
PATIENCE = 2 * TTL  # seconds to wait for runs that others hold: a holder that is gone is found out in TTL
_WAIT, _END = -1, -2  # in the place of a run's number
_ITS_OWN = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")  # of jax: no other process is to blame
_ANOTHERS = ("UNKNOWN: ", "INTERNAL: ", "UNAVAILABLE: ", "ABORTED: ", "CANCELLED: ", "DEADLINE_EXCEEDED: ")


def work(experiment: Experiment, identities: Sequence[str], stop: Callable[[], bool]) -> int:
    """Do runs until all have ended, or the others are held elsewhere, or `stop()` is true on any process.

    A run that raises becomes a failed one, and ends the gang: no process may go on without the others.

    Args:
      experiment: of the runs.
      identities: of the runs, in the order to take them.
      stop: asked between runs and within them.

    Returns:
      the exit code: `DONE`; `FAILED`, or `FAILED_ONE` where others are left; `SAVED` where it was stopped.

    Raises:
      UserError: the runs' folder can't be read or written to.
    """
    from encdec_jax.train.hosts import any_host, as_first, first, together

    waited = 0.0
    while True:
        lease, place = None, _END
        if any_host(stop()):
            return SAVED
        with together():
            if first():
                place, lease = _next(experiment, identities)
        place = int(as_first(np.array(place)))
        if place == _END or (place == _WAIT and waited > PATIENCE):
            return DONE
        if place == _WAIT:
            time.sleep(1.0)
            waited += 1.0
            continue
        waited = 0.0
        with lease or nullcontext():
            code = _perform(experiment, identities[place], stop, lease)
        if code == FAILED and any(not run_state(experiment.run_folder(identity)).ended for identity in identities):
            code = FAILED_ONE
        if code != DONE:
            return code


def _next(experiment: Experiment, identities: Sequence[str]) -> tuple[int, Lease | None]:
    """The place of the first run that is free, and a claim on it; else whether to wait for those that are held.

    Raises:
      UserError: nothing is left but runs that can't be claimed: another user's.
    """
    held, barred = None, None
    pull(experiment.root)
    for place, identity in enumerate(identities):
        folder = experiment.run_folder(identity)
        if run_state(folder).ended:
            continue
        if (awaited := waits(experiment, identity)) is not None:
            held = awaited
            continue
        try:
            lease = claim(folder, _vanish)
        except Refused:
            raise
        except UserError as error:
            barred = error
            continue
        if lease is None:
            held = folder
        elif _ended(folder):  # in between
            with lease:
                continue
        else:
            return place, lease
    if held is None and barred is not None:
        raise barred
    if held is None:
        return _END, None
    print(f"{held}: waiting at most {PATIENCE:.0f} s for {held_by(held)}", file=sys.stderr, flush=True)
    return _WAIT, None


def _ended(folder: Path) -> bool:
    pull_run(folder)
    return run_state(folder).ended


def _perform(experiment: Experiment, identity: str, stop: Callable[[], bool], lease: Lease | None) -> int:
    import jax

    from encdec_jax.train.hosts import first, together
    from encdec_jax.train.loop import train

    folder = experiment.run_folder(identity)
    fence = Fence() if lease is None else Fence(lease.number, lease.check, lease.progressed)
    print(f"run {identity} begins, on {jax.device_count()} devices", flush=True)
    try:
        check_processes(folder, jax.process_count())
        with scratch(experiment.runs[identity], folder, lease) as here:
            with together():
                if first():
                    graft(experiment, identity, here, fence.check)
            summary = train(experiment.runs[identity], here, stop=stop, fence=fence)
    except Exception as error:
        traceback.print_exc()
        alone = jax.process_count() == 1
        # What a device computed when another process went ends in a ValueError, with the runtime's code before it.
        told = isinstance(error, jax.errors.JaxRuntimeError) or str(error).startswith(_ANOTHERS)
        own = isinstance(error, UserError) or not told
        if not (alone or own or any(code in str(error) for code in _ITS_OWN)):
            os._exit(LOST)  # another process is gone, and jax would wait for it at the end of this one
        if first() or not isinstance(error, UserError):
            write_error(folder, error, fence.check)
        if not alone and not isinstance(error, UserError):
            os._exit(FAILED)
        return FAILED
    if summary is None:
        print(f"run {identity} is saved", flush=True)
        return SAVED
    print(f"run {identity} is {summary['status']}", flush=True)
    return DONE


def _vanish() -> None:
    print("the lease was lost to another process: this one did not beat for too long", file=sys.stderr, flush=True)
    os._exit(LOST)


def chosen(experiment: Experiment, given: str) -> list[str]:
    """Runs by their ids, separated by commas; all of the experiment for 'all'.

    Raises:
      UserError: sweep.py has no such run (any more).
    """
    if given == "all":
        return list(experiment.runs)
    found = given.split(",")
    for identity in found:
        if identity not in experiment.runs:
            raise UserError(
                f"{experiment.folder / 'sweep.py'} has no run {identity}: it gives {len(experiment.runs)} others;"
                " was it edited since this was submitted?"
            )
    return found


def main() -> int:
    """Run as a program. Returns the exit code: as `work`, or 2 with one line on what the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m encdec_jax.submit.gang", description="Do runs, with others.", allow_abbrev=False
    )
    parser.add_argument("folder", type=expanded, help="the experiment folder, which holds a sweep.py")
    parser.add_argument("--runs", default="all", help="ids, separated by commas")
    options = parser.parse_args()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compilation_cache()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return _joined(options.folder, options.runs)
    except UserError as error:
        print(f"encdec: {error}", file=sys.stderr, flush=True)
        return FAILED


def _joined(folder: Path, runs: str) -> int:
    from encdec_jax.train.hosts import join, together

    join()
    with interrupts() as stopped:
        with together():
            experiment = load(folder)
            identities = chosen(experiment, runs)
        return work(experiment, identities, stopped)


if __name__ == "__main__":
    sys.exit(main())
