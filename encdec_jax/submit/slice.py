"""What of a Kubernetes cluster holds a mesh: pods, what each asks for, and on which nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from encdec_jax.aot.topology import FAMILIES, topology
from encdec_jax.errors import require
from encdec_jax.submit.footprint import footprint

# GKE's names of accelerators, and the slices that it offers: https://cloud.google.com/kubernetes-engine/docs/concepts/tpus
_NAMES = {"v4": "tpu-v4-podslice", "v5e": "tpu-v5-lite-podslice", "v5p": "tpu-v5p-slice", "v6e": "tpu-v6e-slice"}
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_DEEP = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")
_CHIPS_A_HOST = 4
_GPU = "nvidia.com/gpu"
_PREFIX = "cloud.google.com/gke-tpu-"


@dataclass(frozen=True)
class Slice:
    """Pods that hold a mesh.

    Attributes:
      pods: each with one process.
      resources: that a pod asks for, by Kubernetes' name.
      selector: labels of the nodes, by name.
    """

    pods: int
    resources: dict[str, str] = field(default_factory=dict)
    selector: dict[str, str] = field(default_factory=dict)

    @property
    def gpus(self) -> int:
        """Of a pod."""
        return int(self.resources.get(_GPU, 0))


def tpu_slice(family: str | None, gpus: int, devices: int) -> Slice:
    """The pods for a mesh.

    Args:
      family: of TPUs, as 'v5e'; None for GPUs or CPUs.
      gpus: of a node; 0 for TPUs or CPUs, of which each device is a pod.
      devices: of the mesh.

    Raises:
      UserError: there is no slice of that size, or the nodes can't hold it evenly.
    """
    if family is None:
        size = footprint(devices, gpus, None if gpus else devices)
        return Slice(size.nodes, {_GPU: str(size.gpus)} if gpus else {})
    require(family in _NAMES, "tpu", family, "one of " + ", ".join(_NAMES))
    require(not gpus, "gpus", gpus, f"none beside TPUs ({family})")
    offered = {topology(f"{family}:{shape}").size: shape for shape in (_FLAT, _DEEP)[FAMILIES[family].axes - 2]}
    accepted = f"of {', '.join(map(str, offered))} devices, the slices of {family}"
    require(devices in offered, "mesh", f"{devices} devices", accepted)
    shape = offered[devices]
    chips = math.prod(map(int, shape.split("x")))
    each = min(chips, _CHIPS_A_HOST)
    selector = {f"{_PREFIX}accelerator": _NAMES[family], f"{_PREFIX}topology": shape}
    return Slice(chips // each, {"google.com/tpu": str(each)}, selector)
