"""Accelerators that are described, not held: `v5e:16x16`, `h100:8`. Imports jax only where a compiler is asked for.

TPUs are compiled for by libtpu, GPUs by jax's CUDA plugin with a target configuration; neither needs a device or a
driver. Each is an extra of its own.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from encdec_jax.aot.gpus import target
from encdec_jax.compute.devices import Device, device
from encdec_jax.errors import UserError, require

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True)
class Hardware:
    """What topologies of one kind of accelerator look like.

    Attributes:
      device: a name of `encdec_jax.compute.devices.DEVICES`.
      axes: of a TPU slice, in chips; a GPU has one, a number of GPUs.
      largest: chips in the largest that can be had.
      cores: devices that jax sees in a chip.
      cycle: FLOPs of a device's matrix units in a clock cycle, where known: 2 x 128^2 a unit.
      gpus_a_host: of a GPU server; 0 for TPUs.
    """

    device: str
    axes: int
    largest: int
    cores: int = 1
    cycle: int | None = None
    gpus_a_host: int = 0


# Sizes of pods and matrix units: https://cloud.google.com/tpu/docs/system-architecture-tpu-vm and the page of each.
FAMILIES = {
    "v4": Hardware("v4", 3, 4096, cores=2, cycle=4 * 2 * 128**2),
    "v5e": Hardware("v5e", 2, 256, cycle=4 * 2 * 128**2),
    "v5p": Hardware("v5p", 3, 8960, cycle=8 * 2 * 128**2),
    "v6e": Hardware("v6e", 2, 256),
    "h100": Hardware("h100-80gb", 1, 1024, gpus_a_host=8),
    "a100": Hardware("a100-80gb", 1, 1024, gpus_a_host=8),
}
ACCEPTED = (
    "v5e:AxB or v6e:AxB (as v5e:16x16), v5p:AxBxC or v4:AxBxC (as v5p:8x8x8), all numbers of chips along an axis, even"
    " unless the slice is one chip thick or alone; h100:N or a100:N, N a divisor or a multiple of 8"
)
# What libtpu else asks a metadata server about, on a machine that is no TPU's: slowly, and with pages of warnings.
WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
}
# Several processes may load it at once: it only compiles, but takes its lock file all the same.
QUIET = {
    **WITHOUT_TPU,
    "JAX_PLATFORMS": "cpu",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True)
class Topology:
    """A number of connected accelerators.

    Attributes:
      name: as it was given.
      family: a key of `FAMILIES`.
      shape: chips along each axis.
      device: datasheet numbers of one device, as jax counts them.
    """

    name: str
    family: str
    shape: tuple[int, ...]
    device: Device

    @property
    def size(self) -> int:
        """Devices."""
        return math.prod(self.shape) * FAMILIES[self.family].cores

    @property
    def platform(self) -> str:
        """'tpu' or 'gpu'."""
        return self.device.platform


def topology(name: str) -> Topology:
    """The topology of that name. Needs no compiler.

    Raises:
      UserError: there is no such topology.
    """
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
    require(found is not None and found[1] in FAMILIES, "topology", name, ACCEPTED)
    assert found is not None
    family = FAMILIES[found[1]]
    shape = tuple(int(n) for n in found[2].split("x"))
    chips = math.prod(shape)
    require(len(shape) == family.axes, "topology", name, f"{found[1]} has {family.axes} axes; {ACCEPTED}")
    require(1 <= chips <= family.largest, "topology", name, f"1 to {family.largest} chips of {found[1]}")
    if family.gpus_a_host:
        whole = chips % family.gpus_a_host == 0 or family.gpus_a_host % chips == 0
    else:  # hosts hold 2 x 2 chips; a slice of one chip is a part of one
        whole = chips == 1 or (shape[0] % 2 == 0 and shape[1] % 2 == 0)
    require(whole, "topology", name, ACCEPTED)
    chip = device(family.device)
    if family.cores > 1:
        n = family.cores
        chip = replace(
            chip,
            memory_bytes=chip.memory_bytes // n,
            nominal_bytes=chip.nominal_bytes // n,
            bandwidth=chip.bandwidth / n,
            peak=MappingProxyType({dtype: peak / n for dtype, peak in chip.peak.items()}),
            interconnect=chip.interconnect / n,
        )
    return Topology(name, found[1], shape, chip)


def devices(given: Topology) -> list[jax.Device]:
    """Its devices, to compile for; nothing can run on them. Changes this process's environment (`QUIET`).

    Raises:
      UserError: the compiler is not installed, or does not know the topology.
    """
    extra, package = ("tpu", "libtpu") if given.platform == "tpu" else ("gpu", "jax_cuda12_plugin")
    if importlib.util.find_spec(package) is None:
        raise UserError(f"topology = {given.name!r} needs the extra [{extra}]: in a checkout, pip install '.[{extra}]'")
    os.environ.update(QUIET)
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")  # jax may have been imported before the environment was set
    try:
        if given.platform == "tpu":
            alone = {"chips_per_host_bounds": (1, 1, 1)} if math.prod(given.shape) == 1 else {}
            return list(topologies.get_topology_desc(given.name, "tpu", **alone).devices)
        hosts, gpus = divmod(given.size, FAMILIES[given.family].gpus_a_host)
        layout = f"1x{hosts}x{FAMILIES[given.family].gpus_a_host}" if hosts else f"1x1x{gpus}"
        found = topologies.get_topology_desc(platform="cuda", target_config=target(given.device), topology=layout)
        return list(found.devices)
    except jax.errors.JaxRuntimeError as error:
        line = str(error).splitlines()[0]
        raise UserError(f"topology = {given.name!r} is not accepted: {line}") from error
