"""Slurm: job arrays by sbatch, a task a run or a task a claim-loop. What it knows of them is asked of squeue."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from encdec_jax.errors import UserError
from encdec_jax.submit.footprint import Footprint, by_size, footprint
from encdec_jax.submit.record import Queued, Submission, submissions, write_submission
from encdec_jax.submit.site import SlurmSite
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.scratch import check_processes

ARRAY = 1000  # tasks of an array: Slurm's MaxArraySize is 1001, unless its administrator says otherwise
GRACE = 120  # seconds before its time is over that a step is told to save
_ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


@dataclass(frozen=True)
class Array:
    """A job array to be.

    Attributes:
      footprint: of each of its tasks.
      tasks: the runs of each.
      script: for sbatch.
    """

    footprint: Footprint
    tasks: list[list[str]]
    script: str


def arrays(experiment: Experiment, identities: Sequence[str], site: SlurmSite, workers: int | None) -> list[Array]:
    """The job arrays that do runs: one or more for each size of mesh.

    Args:
      experiment: of the runs.
      identities: of the runs, in the order to begin them.
      site: what to ask for.
      workers: claim-loops for each size, each of which goes through all runs of that size; None for a task a run.

    Raises:
      UserError: a run's mesh does not fit the nodes, or its several processes a bucket.
    """
    found = []
    for devices, runs in by_size(experiment, identities).items():
        size = footprint(devices, site.gpus, site.nodes)
        check_processes(experiment.root, size.tasks)
        tasks = [[identity] for identity in runs] if workers is None else [runs] * min(workers, len(runs))
        for start in range(0, len(tasks), ARRAY):
            part = tasks[start : start + ARRAY]
            found.append(Array(size, part, _sweep_script(experiment, size, part, site, workers is not None)))
    return found


def _sweep_script(experiment: Experiment, size: Footprint, tasks: list[list[str]], site: SlurmSite, all: bool) -> str:
    limit = f"%{site.array_limit}" if site.array_limit else ""
    given = ",".join(tasks[0]) if all else '"${runs[SLURM_ARRAY_TASK_ID]}"'
    names = [] if all else [f"runs=({' '.join(task[0] for task in tasks)})"]
    command = [sys.executable, "-m", "encdec_jax.submit.supervise", str(experiment.folder.resolve())]
    return script(
        name=f"encdec:{experiment.name}",
        log=experiment.root / "logs" / "slurm-%A_%a.log",
        size=size,
        site=site,
        more=[f"--array=0-{len(tasks) - 1}{limit}", "--requeue", f"--signal=TERM@{GRACE}", "--open-mode=append"],
        lines=[*names, f"exec {shlex.join(command)} --runs {given} {shlex.join(step(size, site)[1:])}"],
    )


def script(name: str, log: Path, size: Footprint, site: SlurmSite, more: Sequence[str], lines: Sequence[str]) -> str:
    """A script for sbatch. The environment is not written into it: sbatch passes on that of whoever submits."""
    asked = [f"--job-name={name}", f"--output={log.absolute()}", f"--chdir={Path.cwd()}", *more]
    asked += [f"--nodes={size.nodes}", f"--ntasks={size.tasks}"]
    for option, value in (
        ("gpus-per-node", size.gpus or None),
        ("cpus-per-task", site.cpus),
        ("mem", site.memory),
        ("time", site.time),
        ("partition", site.partition),
        ("account", site.account),
        ("qos", site.qos),
        ("constraint", site.constraint),
    ):
        asked += [] if value is None else [f"--{option}={value}"]
    head = ["#!/usr/bin/env bash", *(f"#SBATCH {shlex.quote(option)}" for option in asked)]
    return "\n".join([*head, "", *([site.setup] if site.setup else []), *lines]) + "\n"


def step(size: Footprint, site: SlurmSite) -> list[str]:
    """How srun is called to start a gang; it takes the processors of a task from nowhere else."""
    cpus = [f"--cpus-per-task={site.cpus}"] if site.cpus else []
    return ["srun", "--kill-on-bad-exit=1", f"--nodes={size.nodes}", f"--ntasks={size.tasks}", *cpus]


def submit_arrays(experiment: Experiment, found: Sequence[Array], site: SlurmSite) -> list[Submission]:
    """Give arrays to Slurm. Where jobs are limited, one array waits for the one before: the limit is of all.

    Raises:
      UserError: sbatch is not there, or refuses.
    """
    (experiment.root / "logs").mkdir(parents=True, exist_ok=True)
    made: list[Submission] = []
    for array in found:
        after = [f"--dependency=afterany:{made[-1].job}"] if made and site.array_limit else []
        job = called(["sbatch", "--parsable", *after], array.script).strip().partition(";")[0]
        made.append(Submission("slurm", job, array.tasks))
        write_submission(experiment.root, made[-1])
    return made


def queued(experiment: Experiment) -> dict[str, Queued]:
    """The runs that wait or run in Slurm's queue, as submitted from any machine.

    Raises:
      UserError: there are submissions to Slurm, and squeue does not answer.
    """
    known = {submission.job: submission for submission in submissions(experiment.root, "slurm")}
    found: dict[str, Queued] = {}
    if not known:
        return found
    fields = "%F|%K|%T|%r"
    for line in called(["squeue", "--noheader", "--array", f"--format={fields}"]).splitlines():
        job, task, state, reason = line.strip().split("|", 3)
        if job in known and task.isdigit() and int(task) < len(known[job].tasks) and state not in _ENDED:
            for identity in known[job].tasks[int(task)]:
                found.setdefault(identity, Queued("slurm", f"{job}_{task}", state, "" if reason == "None" else reason))
    return found


def cancel_jobs(jobs: Sequence[str]) -> None:
    """Cancel tasks of arrays; running ones are sent SIGTERM, and have the cluster's KillWait to save.

    Raises:
      UserError: scancel is not there, or refuses.
    """
    if jobs:
        called(["scancel", *jobs])


def called(command: Sequence[str], text: str | None = None) -> str:
    """What a command of a cluster prints.

    Raises:
      UserError: it is not installed here, or fails; with the last line that it said.
    """
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not installed here: submit from a machine of the cluster") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} does not answer within two minutes") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{command[0]}: {said[-1]}")
    return done.stdout
