"""`encdec submit`: what was submitted, and what was not."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from encdec_jax.submit.dispatch import Dispatch


def print_dispatch(folder: Path, to: str, done: Dispatch) -> int:
    """Print what was submitted, or is to be, on standard output; what was not, and why, on standard error.

    Returns:
      0, the exit code.
    """
    if not done.submitted and done.missing and (to != "slurm"):
        print(done.text, end="")
    for submission in done.submitted:
        runs = sorted({identity for task in submission.tasks for identity in task})
        print(f"submitted: {submission.launcher} {submission.job}: {_n(len(submission.tasks))} for {len(runs)} runs")
    print(f"{len(done.missing)} runs are missing", file=sys.stderr)
    for (job, state), n in Counter((_array(one.job), one.state) for one in done.queued.values()).items():
        print(f"{n} are in the queue already: {job}, {state}", file=sys.stderr)
    for status, n in sorted(done.states.items()):
        print(f"{n} are {status}", file=sys.stderr)
    if done.states["failed"]:
        print(f"those that failed are not tried again, unless told: encdec retry {folder} --failed", file=sys.stderr)
    return 0


def _array(job: str) -> str:
    """The array of a task."""
    return job.partition("_")[0]


def _n(tasks: int) -> str:
    return "1 job" if tasks == 1 else f"{tasks} jobs"
