"""What was submitted: a small file a job beside the runs, so that any machine can ask which runs are queued."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from encdec_jax.errors import UserError
from encdec_jax.files import read_json
from encdec_jax.train.objects import put_json

FOLDER = "submissions"


@dataclass(frozen=True)
class Submission:
    """A job that a cluster was given.

    Attributes:
      launcher: 'slurm' or 'k8s'.
      job: the cluster's name of it: the id of a job array; namespace/name of a JobSet.
      tasks: the runs of each of its tasks.
    """

    launcher: str
    job: str
    tasks: list[list[str]]


@dataclass(frozen=True)
class Queued:
    """Where a run stands in a cluster's queue.

    Attributes:
      launcher: as in `Submission`.
      job: the cluster's name of the task: '17_3', or namespace/name.
      state: the cluster's word for it, as PENDING or RUNNING.
      reason: why it waits, if it does, in the cluster's words.
    """

    launcher: str
    job: str
    state: str
    reason: str


def write_submission(root: Path, submission: Submission) -> None:
    """Keep a submission in the folder of an experiment's runs.

    Raises:
      UserError: the folder can't be written to.
    """
    name = f"{submission.launcher}-{submission.job.replace('/', '.')}.json"
    put_json(root / FOLDER / name, asdict(submission))


def submissions(root: Path, launcher: str) -> Iterator[Submission]:
    """What was submitted to a kind of cluster, and is remembered; a damaged file is passed over."""
    for path in sorted((root / FOLDER).glob(f"{launcher}-*.json")):
        with suppress(UserError, TypeError):
            found = Submission(**read_json(path))
            if _sound(found):
                yield found


def _sound(found: Submission) -> bool:
    job = (
        isinstance(found.job, str)
        and re.fullmatch(r"([a-z0-9.-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*", found.job) is not None
    )
    tasks = isinstance(found.tasks, list) and all(isinstance(task, list) for task in found.tasks)
    return job and tasks and bool(found.tasks) and all(isinstance(one, str) for task in found.tasks for one in task)
