"""The job of several processes that this one belongs to, as its launcher's environment says. No jax here.

jax itself would find most of it, but on Slurm it gives a process the one GPU of its place on the node, also where the
node has eight and one process. Here every number is read and passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from encdec_jax import cpus
from encdec_jax.errors import UserError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
PORTS = range(61_440, 65_536)  # above those that Linux gives out by itself
TPU_PORT = 8476
_BOUND = ("SLURM_GPUS_PER_TASK", "SLURM_GPU_BIND", "SLURM_TRES_PER_TASK")  # Slurm shows each task its own GPUs alone


@dataclass(frozen=True)
class Job:
    """Where a process stands in its job.

    Attributes:
      address: host and port of process 0, where all meet.
      processes: in the job.
      place: of this process, from 0.
      devices: ordinals of the devices that it takes of those it sees; None for all.
    """

    address: str
    processes: int
    place: int
    devices: tuple[int, ...] | None = None


def job_of(environment: Mapping[str, str]) -> Job | None:
    """The job of several processes that an environment tells of; None if there is none.

    By `VARIABLES` (our Kubernetes manifests set them); as a task of a Slurm step, where the first of `VARIABLES` may
    say another address; or as a worker of a TPU slice, or of several (Multislice).

    Raises:
      UserError: one of the variables is missing or no number.
    """
    given = [environment.get(name) or None for name in VARIABLES]
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if any(given[1:]) or (given[0] and tasks == 1):
        address, number, place = (text or "" for text in given)
        if not (address and number.isdigit() and place.isdigit()):
            said = ", ".join(f"{name}={value}" for name, value in zip(VARIABLES, given, strict=True))
            raise UserError(f"{said}: a job of several processes needs all three, an address and two numbers")
        return Job(address, int(number), int(place))
    if tasks > 1:
        step = int(environment["SLURM_JOB_ID"]) + 7 * int(environment.get("SLURM_STEP_ID", "0"))
        address = given[0] or f"{_first(environment['SLURM_STEP_NODELIST'])}:{PORTS[step % len(PORTS)]}"
        return Job(address, tasks, int(environment["SLURM_PROCID"]), _own_devices(environment))
    hosts = (environment.get("TPU_WORKER_HOSTNAMES") or "").split(",")
    slices = int(environment.get("MEGASCALE_NUM_SLICES", "1"))
    if len(hosts) * slices > 1:
        worker = int(environment.get("MEGASCALE_SLICE_ID", "0")) * len(hosts) + int(environment["TPU_WORKER_ID"])
        first = environment["MEGASCALE_COORDINATOR_ADDRESS"].partition(":")[0] if slices > 1 else hosts[0]
        return Job(f"{first}:{TPU_PORT}", len(hosts) * slices, worker)
    return None


def _first(nodes: str) -> str:
    """The first of Slurm's list of nodes: 'a1,b2', 'a[001-015,17],b2', 'a[1-2]-ib'."""
    found = re.match(r"([^,\[]*)(?:\[([^,\-\]]+)[^\]]*\]([^,\[]*))?", nodes)
    assert found is not None
    return "".join(part or "" for part in found.groups())


def _own_devices(environment: Mapping[str, str]) -> tuple[int, ...] | None:
    """The part of its node's GPUs that a task takes: all if it is alone there, or sees no others'."""
    tasks = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "1").split(","):  # '2(x3),1'
        each, _, times = part.rstrip(")").partition("(x")
        tasks += [int(each)] * int(times or 1)
    here = tasks[min(int(environment.get("SLURM_NODEID", "0")), len(tasks) - 1)]
    seen = len(cpus.gpus(environment))
    if here == 1 or seen < here or any(environment.get(name) for name in _BOUND):
        return None
    if seen % here:
        raise UserError(f"{here} tasks of this Slurm step can't share {seen} GPUs of their node evenly")
    share, place = seen // here, int(environment["SLURM_LOCALID"])
    return tuple(range(place * share, (place + 1) * share))
