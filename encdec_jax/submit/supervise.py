"""The batch step of a Slurm job: starts a gang over the job's nodes, and says what is to become of the job.

    python -m encdec_jax.submit.supervise EXPERIMENT --runs ID,ID,... [OPTION OF SRUN...]

A run that was saved, because the job's time is over or somebody sent SIGTERM, is requeued. So is one that was killed,
but not for ever: killed `DEATHS` times without having got further, it has failed. What a user has to mend is not tried
again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from encdec_jax.errors import UserError
from encdec_jax.files import expanded
from encdec_jax.submit.gang import DONE, FAILED, SAVED, chosen
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.replica import pull
from encdec_jax.sweep.signals import interrupts
from encdec_jax.sweep.store import run_state, write_error
from encdec_jax.train.objects import put, remove

DEATHS = 5


def supervise(experiment: Experiment, identities: Sequence[str], start: Sequence[str]) -> int | None:
    """Have a gang do runs, again and again while it gets on.

    Args:
      experiment: of the runs.
      identities: of the runs.
      start: srun and its options.

    Returns:
      the exit code; None if the job is to be requeued.
    """
    command = [*start, sys.executable, "-m", "encdec_jax.submit.gang", str(experiment.folder)]
    with interrupts() as told:
        while left := _left(experiment, identities):
            code = subprocess.run([*command, "--runs", ",".join(left)], check=False).returncode
            still = _left(experiment, left)
            if told():  # Slurm ends the job, and requeues it itself if it wants it again
                return 143
            if code == SAVED:
                return None
            if still == left:
                if code in (DONE, FAILED):  # others hold them; or what is wrong is not a run's
                    return code
                if not _deadly(experiment, left, code):
                    return None
    states = [run_state(experiment.run_folder(identity)).status for identity in identities]
    return FAILED if {"failed", "damaged"} & set(states) else DONE


def _left(experiment: Experiment, identities: Sequence[str]) -> list[str]:
    pull(experiment.root, fresh=True)
    return [identity for identity in identities if not run_state(experiment.run_folder(identity)).ended]


def _deadly(experiment: Experiment, left: Sequence[str], code: int) -> bool:
    """Note that a gang was killed; makes the run that it was at fail if that was too often without progress."""
    for identity in left:  # in the order in which they are taken
        folder = experiment.run_folder(identity)
        if not folder.exists():
            continue
        tokens, path = run_state(folder).tokens, folder / "killed.txt"
        before = path.read_text(encoding="utf-8").split() if path.exists() else []
        deaths = [*before, str(tokens)][-DEATHS:]
        put(path, "".join(f"{one}\n" for one in deaths))
        if deaths == [str(tokens)] * DEATHS:
            how = f"signal {code - 128}" if code > 128 else f"exit code {code}"
            error = UserError(
                f"killed {DEATHS} times at {tokens} tokens, last by {how}: out of memory? See encdec logs {identity}"
            )
            remove(path)
            write_error(folder, error)
            return True
        return False
    return False


def main() -> int:
    """Run as a program, as the batch step of a job. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m encdec_jax.submit.supervise", description="Supervise a gang.", allow_abbrev=False
    )
    parser.add_argument("folder", type=expanded, help="the experiment folder, which holds a sweep.py")
    parser.add_argument("--runs", default="all", help="ids, separated by commas")
    options, given = parser.parse_known_args()
    try:
        experiment = load(options.folder)
        code = supervise(experiment, chosen(experiment, options.runs), ["srun", *given])
    except UserError as error:
        print(f"encdec: {error}", file=sys.stderr, flush=True)
        return FAILED
    if code is None:
        job = os.environ["SLURM_JOB_ID"]
        print(f"job {job} is requeued", flush=True)
        os.execlp("scontrol", "scontrol", "requeue", job)
    return code


if __name__ == "__main__":
    sys.exit(main())
