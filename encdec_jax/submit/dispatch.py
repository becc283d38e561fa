"""Submitting an experiment, cancelling and retrying its runs, and what they said."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from encdec_jax.errors import UserError, require
from encdec_jax.files import expanded, runs_root
from encdec_jax.ranges import COUNT
from encdec_jax.submit import jobset, slurm
from encdec_jax.submit.queue import queued
from encdec_jax.submit.record import Queued, Submission, submissions
from encdec_jax.submit.site import Site, asked, checked, site
from encdec_jax.sweep.check import check_costs, check_data
from encdec_jax.sweep.claim import holders
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.launch import check_writable, prepare
from encdec_jax.sweep.replica import pull_folder, pull_run
from encdec_jax.sweep.speed import ordered
from encdec_jax.sweep.store import forgive
from encdec_jax.sweep.waiting import states

Launcher = Literal["slurm", "k8s", "print", "local"]


@dataclass(frozen=True)
class Dispatch:
    """What came of submitting an experiment.

    Attributes:
      missing: ids of the runs that jobs are for.
      queued: runs that a cluster had in its queue before.
      states: how many of the other runs are running, done, diverged or failed.
      text: of all scripts or manifests.
      submitted: what a cluster took; empty where it was only asked to be printed.
    """

    missing: list[str]
    queued: dict[str, Queued]
    states: Counter[str]
    text: str
    submitted: list[Submission] = field(default_factory=list)


def submit(folder: Path, to: Launcher, workers: int | None = None, apply: bool = False, **options: Any) -> Dispatch:
    """Submit the runs of an experiment that are missing: neither ended, nor running, nor in a queue.

    Runs that failed are not missing: see `retry`.

    Args:
      folder: of the experiment.
      to: 'slurm'; 'k8s'; or 'print', which makes Slurm's scripts and submits nothing.
      workers: claim-loops for each size of mesh; None for a job a run.
      apply: whether Kubernetes' manifests are applied, too.
      options: in the place of the site's defaults: fields of `SlurmSite` or `KubernetesSite`.

    Raises:
      UserError: the experiment, its data, an option or a folder is not as it should be, or the cluster refuses.
    """
    require(to in get_args(Launcher)[:3], "to", to, "one of slurm, k8s, print; for 'local', encdec run")
    require(workers is None or workers in COUNT, "workers", workers, str(COUNT))
    experiment = load(folder)
    part = defaults(to, options)
    if to == "slurm":
        prepare(experiment)
    check_costs(experiment)
    waiting = queued(experiment)
    found = {identity: state.status for identity, state in states(experiment).items()}
    missing = [i for i in ordered(experiment) if found[i] in ("pending", "stale") and i not in waiting]
    others = Counter(str(status) for i, status in found.items() if i not in missing and i not in waiting)
    submitted: list[Submission] = []
    if to == "k8s":
        sets = jobset.manifests(experiment, missing, part, workers)
        text = jobset.text(sets)
        if apply and sets:
            submitted = jobset.apply(experiment, sets, part)
    else:
        arrays = slurm.arrays(experiment, missing, part, workers)
        text = "\n".join(array.script for array in arrays)
        if to == "slurm" and arrays:
            check_data(experiment)
            check_writable(experiment)
            submitted = slurm.submit_arrays(experiment, arrays, part)
    return Dispatch(missing, waiting, others, text, submitted)


def defaults(to: str, options: dict[str, Any]) -> Any:
    """A site's part for a launcher, with what is asked for now in the place of its defaults.

    Raises:
      UserError: the site's file or an option is not accepted.
    """
    name = "kubernetes" if to == "k8s" else "slurm"
    part = asked(getattr(site(), name), options)
    checked(Site(**{name: part}))
    return part


def cancel(folder: Path, identities: Sequence[str] = ()) -> list[str]:
    """Take runs out of the queues; those at work are told to save. A job is cancelled whole: also its other runs.

    Args:
      folder: of the experiment.
      identities: of the runs; none for all.

    Returns:
      the clusters' names of the jobs cancelled.

    Raises:
      UserError: a run is unknown, or a cluster does not answer.
    """
    experiment = load(folder)
    _known(experiment, identities)
    found = [job for identity, job in queued(experiment).items() if not identities or identity in identities]
    arrays = sorted({job.job for job in found if job.launcher == "slurm"})
    sets = sorted({job.job for job in found if job.launcher == "k8s"})
    slurm.cancel_jobs(arrays)
    jobset.delete(sets)
    return arrays + sets


def retry(folder: Path, identities: Sequence[str] = ()) -> list[str]:
    """Make runs that failed pending again; their errors are kept as error.previous.txt.

    Args:
      folder: of the experiment.
      identities: of the runs; none for all that failed.

    Returns:
      the ids of those that had failed.

    Raises:
      UserError: a run is unknown, or a folder can't be written to.
    """
    experiment = load(folder)
    _known(experiment, identities)
    return [i for i in identities or experiment.runs if forgive(experiment.run_folder(i))]


def logs(run: str) -> list[Path]:
    """The files in which the processes that worked on a run said what they did; the newest last.

    Args:
      run: its id, or its folder.

    Raises:
      UserError: there is no such run, or nothing is known to have worked on it.
    """
    folder = expanded(run) if "/" in run else _find(runs_root(), run)
    require(folder is not None and folder.is_dir(), "run", run, f"the id of a run below {runs_root()}, or its folder")
    assert folder is not None
    pull_run(folder)
    for part in ("logs", "submissions"):
        pull_folder(folder.parent / part)
    files = [folder / name for name in ("error.previous.txt", "error.txt") if (folder / name).exists()]
    root, identity = folder.parent, folder.name
    said = {path.name: path for path in (root / "logs").glob("*.log")}
    for submission in submissions(root, "slurm"):
        names = [
            f"slurm-{submission.job}_{place}.log" for place, task in enumerate(submission.tasks) if identity in task
        ]
        files += [said[name] for name in names if name in said]
    for holder in holders(folder):
        worker = re.compile(rf"{re.escape(holder.host)}-.*-worker-.*-{holder.pid}\.log")
        files += [path for name, path in said.items() if worker.fullmatch(name)]
    if not files:
        raise UserError(f"nothing is known of what worked on {folder}: pods' logs are kubectl's, terminals' are gone")
    return sorted(set(files), key=lambda path: path.stat().st_mtime)


def _find(root: Path, identity: str) -> Path | None:
    """The folder of a run below a folder, not looked for inside of other runs."""
    if (root / identity).is_dir():
        return root / identity
    if not root.is_dir() or (root / "config.json").exists():
        return None
    inner = (path for path in sorted(root.iterdir()) if not _is_run(path.name) and path.is_dir())
    return next((found for path in inner if (found := _find(path, identity))), None)


def _is_run(name: str) -> bool:
    return len(name) == 12 and set(name) <= set("0123456789abcdef")


def _known(experiment: Experiment, identities: Sequence[str]) -> None:
    for identity in identities:
        require(identity in experiment.runs, "run", identity, f"one of the {len(experiment.runs)} of {experiment.name}")
