"""What a run needs of a cluster: its mesh says it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from encdec_jax.errors import require
from encdec_jax.sweep.experiment import Experiment


@dataclass(frozen=True, order=True)
class Footprint:
    """A part of a cluster that one run fills.

    Attributes:
      devices: of the run's mesh.
      nodes: that hold them.
      tasks: processes: one a node with accelerators, one a device on CPUs.
      gpus: of each node; 0 for none.
    """

    devices: int
    nodes: int
    tasks: int
    gpus: int


def footprint(devices: int, gpus: int, nodes: int | None = None) -> Footprint:
    """The part of a cluster for a mesh.

    Args:
      devices: of the mesh.
      gpus: that a node has; 0 for CPUs, of which a process is one device.
      nodes: to spread over; None for as few as hold the mesh.

    Raises:
      UserError: the nodes can't hold it, or not evenly.
    """
    if nodes is None:
        nodes = -(-devices // gpus) if gpus else 1
    require(devices % nodes == 0, "nodes", nodes, f"a divisor of the mesh's {devices} devices")
    each = devices // nodes
    require(not gpus or each <= gpus, "nodes", nodes, f"at least {-(-devices // max(gpus, 1))}: a node has {gpus} GPUs")
    return Footprint(devices, nodes, nodes if gpus else devices, each if gpus else 0)


def by_size(experiment: Experiment, identities: Iterable[str]) -> dict[int, list[str]]:
    """Runs by the devices of their meshes, the largest first, in the order given."""
    found: dict[int, list[str]] = defaultdict(list)
    for identity in identities:
        found[experiment.runs[identity].mesh.size].append(identity)
    return dict(sorted(found.items(), reverse=True))
