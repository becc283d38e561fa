"""How the clusters that a user submits to are to be asked: their defaults, from a small file of the user's own."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from encdec_jax.errors import UserError, require
from encdec_jax.files import environment, expanded
from encdec_jax.ranges import COUNT, MANY, Range, check_ranges
from encdec_jax.resolve import build


@dataclass(frozen=True)
class SlurmSite:
    """What sbatch is asked for, and how; None leaves it to the cluster.

    Attributes:
      partition, account, qos, constraint: as sbatch names them.
      time: limit of a job, as 12:00:00 or 2-00:00:00.
      gpus: of a node; 0 where runs compute on CPUs, a process for each device of their mesh.
      nodes: over which each run is spread; None for as few as hold its mesh.
      cpus: of each process.
      memory: of a node, as 64G.
      array_limit: jobs that run at once.
      setup: a line of shell that each job begins with, as `module load cuda`.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str | None = None
    gpus: Annotated[int, Range(0, MANY)] = 0
    nodes: Annotated[int | None, COUNT] = None
    cpus: Annotated[int | None, COUNT] = None
    memory: str | None = None
    array_limit: Annotated[int | None, COUNT] = None
    setup: str | None = None


@dataclass(frozen=True)
class KubernetesSite:
    """What a pod is made of.

    Attributes:
      image: that holds this package, and in its working folder the experiments.
      namespace: of the jobs; None for kubectl's own.
      claim: PersistentVolumeClaim for runs and tokens, that all pods may write to; None if ENCDEC_RUNS is a bucket.
      secret: whose entries become variables of the pods' environment; only its name is ever written.
      account: the service account of the pods.
      gpus: of a node; 0 for CPUs or TPUs.
      tpu: family of TPU slices, as v5e; None for GPUs or CPUs.
      cpus: of a pod, as 8 or 500m.
      memory: of a pod, as 32Gi.
      queue: of Kueue, that jobs wait in.
      constraint: labels of the nodes, as cloud.google.com/gke-spot=true, with commas between.
    """

    image: str | None = None
    namespace: str | None = None
    claim: str | None = None
    secret: str | None = None
    account: str | None = None
    gpus: Annotated[int, Range(0, MANY)] = 0
    tpu: str | None = None
    cpus: str | None = None
    memory: str | None = None
    queue: str | None = None
    constraint: str | None = None


@dataclass(frozen=True)
class Site:
    """The defaults of a user's clusters.

    Attributes:
      slurm, kubernetes: of each kind.
    """

    slurm: SlurmSite = dataclasses.field(default_factory=SlurmSite)
    kubernetes: KubernetesSite = dataclasses.field(default_factory=KubernetesSite)


def site_file() -> Path:
    """Where a user's defaults are: encdec_jax/site.toml in XDG_CONFIG_HOME, or in ~/.config."""
    return expanded(environment("XDG_CONFIG_HOME") or "~/.config") / "encdec_jax" / "site.toml"


def site() -> Site:
    """The user's defaults; without a file, ours.

    Raises:
      UserError: the file is no TOML, or has a field that is unknown or not accepted.
    """
    path = site_file()
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Site()
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {path}: {error}") from error
    try:
        return checked(build(Site, given))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def asked(defaults: Any, options: dict[str, Any]) -> Any:
    """A site's part with what is asked for now in the place of its defaults; what is None is not asked for."""
    given = {name: value for name, value in options.items() if value is not None}
    known = {field.name for field in dataclasses.fields(defaults)}
    for name in given:
        other = "slurm or print" if isinstance(defaults, KubernetesSite) else "k8s"
        require(name in known, f"--{name.replace('_', '-')}", given[name], f"only with --to {other}")
    return dataclasses.replace(defaults, **given)


def checked(given: Site) -> Site:
    """A site whose numbers are such, and whose texts are one line: they become lines of scripts.

    Raises:
      UserError: naming the first that is not.
    """
    for part in (given.slurm, given.kubernetes):
        check_ranges(part)
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if isinstance(value, str):
                require(value.isprintable() and value.strip() == value != "", field.name, value, "one line of text")
    for part, pattern, accepted in (
        (given.slurm, r"\d+[KMGT]?", "as 64G"),
        (given.kubernetes, r"\d+(\.\d+)?([kMGTPE]|[KMGTPE]i)?", "as 64Gi"),
    ):
        require(part.memory is None or bool(re.fullmatch(pattern, part.memory)), "memory", part.memory, accepted)
    labels = given.kubernetes.constraint
    label = r"[A-Za-z0-9]([\w./-]*\w)?=[\w.-]*"
    accepted = "labels, as cloud.google.com/gke-spot=true, with commas between"
    require(labels is None or bool(re.fullmatch(f"{label}(,{label})*", labels)), "constraint", labels, accepted)
    time = given.slurm.time  # sbatch's own forms
    accepted = "minutes, or as 12:00:00 or 2-00:00:00"
    forms = r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}|UNLIMITED|INFINITE"
    require(time is None or bool(re.fullmatch(forms, time)), "time", time, accepted)
    return given
