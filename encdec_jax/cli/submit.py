"""The verbs of clusters: submit, logs, cancel, retry, doctor."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, get_args

from encdec_jax.cli.arguments import add_verb, ranged
from encdec_jax.errors import UserError, require
from encdec_jax.files import expanded
from encdec_jax.ranges import COUNT, number
from encdec_jax.submit.dispatch import Launcher
from encdec_jax.submit.site import KubernetesSite, SlurmSite

# Options that take the place of a site's defaults: what each is, and for which launcher.
_OPTIONS: dict[str, tuple[str, type]] = {
    "gpus": ("GPUs of a node; 0 for CPUs, of which each device is a process", int),
    "nodes": ("slurm: nodes that each run is spread over; default: as few as hold its mesh", int),
    "time": ("slurm: limit of a job, as 12:00:00; a run that it ends is saved, and requeued", str),
    "partition": ("slurm: where jobs run", str),
    "account": ("slurm: whom they are charged to; k8s: service account of the pods", str),
    "qos": ("slurm: their quality of service", str),
    "constraint": ("slurm: features of the nodes; k8s: their labels, as cloud.google.com/gke-spot=true", str),
    "array-limit": ("slurm: jobs that run at once", int),
    "setup": ("slurm: a line of shell before each job's command, as 'module load cuda'", str),
    "cpus": ("CPUs of each process", str),
    "memory": ("of each node, as 64G, or pod, as 64Gi", str),
    "image": ("k8s: that holds this package, and in its working folder the experiments", str),
    "namespace": ("k8s: of the jobs", str),
    "claim": ("k8s: PersistentVolumeClaim of runs and tokens", str),
    "secret": ("k8s: name of the Secret whose entries become the pods' variables", str),
    "tpu": ("k8s: family of TPU slices, as v5e; each run gets the slice that its mesh fills", str),
    "queue": ("k8s: Kueue's queue", str),
}
_TO = "where; print: Slurm's scripts, submitting nothing; k8s prints manifests, too; local: this machine"
_SITE = """\
defaults: encdec_jax/site.toml in ~/.config (or XDG_CONFIG_HOME), as
  [slurm]
  partition = "gpu"
  gpus = 8
  [kubernetes]
  image = "example.org/me/encdec"
  claim = "shared"
"""


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    text = "submit the runs that are missing: neither ended, nor running, nor queued"
    parser = add_verb(verbs, "submit", text, _SITE)
    parser.add_argument("folder", type=expanded, metavar="EXPERIMENT", help="a folder that holds a sweep.py")
    _launchers(parser)
    text = "jobs that go through all runs of one size; default: a job a run"
    parser.add_argument("--workers", type=ranged("workers", COUNT, int), help=text)
    parser.set_defaults(function=_submit)

    text = "say what a process sees here, or in a job: devices, versions, clocks, a collective's bandwidth, the folders"
    parser = add_verb(verbs, "doctor", text, _SITE)
    _launchers(parser)
    text = "of the job to submit; default 1"
    parser.add_argument("--devices", type=ranged("devices", COUNT, int), help=text)
    parser.set_defaults(function=_doctor, to="local")

    parser = add_verb(verbs, "logs", "print what the processes that worked on a run said")
    parser.add_argument("run", metavar="RUN", help="its id, or its folder")
    parser.set_defaults(function=_logs)

    parser = _on_runs(verbs, "cancel", "take runs out of the queues of clusters; those at work save first")
    parser.set_defaults(function=_cancel)
    parser = _on_runs(verbs, "retry", "make runs that failed pending again, to be submitted or run")
    parser.add_argument("--failed", action="store_true", help="all that failed")
    parser.set_defaults(function=_retry)


def _launchers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", choices=get_args(Launcher), required=parser.prog.endswith("submit"), help=_TO)
    parser.add_argument("--apply", action="store_true", help="k8s: give the manifests to kubectl, not only print them")
    for name, (text, kind) in _OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, help=text)


def _on_runs(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser = add_verb(verbs, name, text)
    parser.add_argument("folder", type=expanded, metavar="EXPERIMENT", help="a folder that holds a sweep.py")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="ids")
    return parser


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options that stand in the place of a site's defaults, typed as its part declares them."""
    require(not options.apply or options.to == "k8s", "--apply", options.to, "with --to k8s")
    part = KubernetesSite if options.to == "k8s" else SlurmSite
    whole = {field.name for field in fields(part) if "int" in str(field.type)}
    given = {}
    for name in _OPTIONS:
        field = name.replace("-", "_")
        value = getattr(options, field)
        if value is not None and field in whole and isinstance(value, str):
            value = number(name, value, COUNT, int)
        given[field] = value
    return given


def _submit(options: argparse.Namespace) -> int:
    from encdec_jax.submit.dispatch import submit
    from encdec_jax.tables.submit import print_dispatch

    given = _given(options)
    if options.to == "local":
        from encdec_jax.sweep.launch import run

        for name, value in given.items():
            require(value is None, f"--{name}", value, "nothing: --to local is encdec run")
        return run(options.folder, options.workers)
    done = submit(options.folder, options.to, options.workers, options.apply, **given)
    return print_dispatch(options.folder, options.to, done)


def _doctor(options: argparse.Namespace) -> int:
    from encdec_jax.submit.doctor import doctor, submit_doctor

    if options.to == "local":
        for name, value in (_given(options) | {"devices": options.devices}).items():
            require(value is None, f"--{name.replace('_', '-')}", value, "only with --to slurm, k8s or print")
        return doctor()
    return submit_doctor(options.to, options.devices or 1, options.apply, **_given(options))


def _logs(options: argparse.Namespace) -> int:
    from encdec_jax.submit.dispatch import logs

    for path in logs(options.run):
        print(f"==> {path} <==")
        print(path.read_text(encoding="utf-8", errors="replace").rstrip() or "(nothing was said)")
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from encdec_jax.submit.dispatch import cancel

    jobs = cancel(options.folder, options.runs)
    print(f"cancelled: {' '.join(jobs)}" if jobs else "nothing is queued")
    return 0


def _retry(options: argparse.Namespace) -> int:
    from encdec_jax.submit.dispatch import retry

    if options.failed == bool(options.runs):
        raise UserError("retry: give either the ids of runs, or --failed")
    again = retry(options.folder, options.runs)
    if not again:
        print("nothing failed, nothing is retried")
        return 0
    print(f"pending again: {' '.join(again)}; give: encdec submit or encdec run {options.folder}")
    return 0
