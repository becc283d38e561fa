"""What accelerators hold and how fast they are, from their makers' published numbers. No jax here.

Peaks are of dense matrix products. A bound computed from them is a bound: no program reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from encdec_jax.errors import require

GIB = 2**30
TPU = "https://cloud.google.com/tpu/docs/"
XLA = "https://github.com/openxla/xla/tree/main/xla/backends/gpu/target_config/specs/"


@dataclass(frozen=True)
class Device:
    """One device of a mesh: a chip, a GPU, or a whole CPU machine.

    Attributes:
      name: a key of `DEVICES`.
      memory_bytes: of device memory that one program may use, weights and inputs included. Makers' "GB" of device
        memory are GiB; firmware, error correction and the runtime keep some of them.
      nominal_bytes: of device memory as the maker sells it.
      bandwidth: bytes a second between that memory and the compute units.
      peak: FLOP/s of matrix products by compute dtype ('float32', 'bfloat16').
      interconnect: bytes a second out of a device to its peers over all its fast links, in one direction; 0 if none.
      source: where the numbers are published, or how they were measured.
    """

    name: str
    memory_bytes: int
    nominal_bytes: int
    bandwidth: float
    peak: MappingProxyType[str, float]
    interconnect: float
    source: str

    @property
    def platform(self) -> str:
        """What jax calls its kind: 'tpu', 'gpu' or 'cpu'."""
        return "tpu" if self.name in ("v4", "v5e", "v5p", "v6e") else "cpu" if self.name.startswith("cpu") else "gpu"


def _device(
    name: str,
    usable: float,
    nominal: float,
    bandwidth: float,
    float32: float,
    bfloat16: float,
    link: float,
    source: str,
) -> Device:
    peak = MappingProxyType({"float32": float32, "bfloat16": bfloat16})
    return Device(name, int(usable), int(nominal), bandwidth, peak, link, source)


# TPUs: the maker's pages give no float32 peak. XLA's default precision multiplies float32 operands in one bfloat16 pass
# (jax.lax.Precision.DEFAULT), so 'float32' has the bfloat16 peak there; 'highest' takes six passes. Usable memory is
# what libtpu's compiler calls available when a program asks for too much ("exceeds available HBM (15.75G)").
# v4 and v5p: libtpu shows a v4 chip as two devices of one core each, of which each has half of everything.
# GPUs: usable memory is `device_memory_size` of XLA's target configurations, read off real cards; the float32 peak is
# that of TF32 tensor cores, which is what XLA uses on these GPUs unless a higher precision is asked for.
DEVICES: dict[str, Device] = {
    d.name: d
    for d in (
        _device(
            "h100-80gb", 84_942_979_072, 80 * GIB, 3.35e12, 494.7e12, 989.4e12, 450e9,
            "NVIDIA H100 Tensor Core GPU architecture white paper and datasheet, SXM5, dense (half of the figures"
            " 'with sparsity'); NVLink 900 GB/s both directions; memory from " + XLA + "h100_sxm.txtpb",
        ),
        _device(
            "a100-80gb", 85_100_068_864, 80 * GIB, 2.039e12, 156e12, 312e12, 300e9,
            "NVIDIA A100 80GB SXM4 datasheet, dense; NVLink 600 GB/s both directions; memory from "
            + XLA + "a100_sxm_80.txtpb",
        ),
        _device(
            "v4", 2 * 15.25 * GIB, 32 * GIB, 1.2e12, 275e12, 275e12, 300e9,
            TPU + "v4 (a chip: two cores); six ICI links of 50 GB/s (Jouppi et al., arXiv 2304.01433)",
        ),
        _device("v5e", 15.75 * GIB, 16 * GIB, 819e9, 197e12, 197e12, 200e9, TPU + "v5e; ICI 1600 Gbit/s"),
        _device("v5p", 95.74 * GIB, 96 * GIB, 2.765e12, 459e12, 459e12, 600e9, TPU + "v5p; ICI 4800 Gbit/s"),
        _device("v6e", 31.25 * GIB, 32 * GIB, 1.64e12, 918e12, 918e12, 400e9, TPU + "v6e; ICI 3200 Gbit/s"),
        _device(
            "rtx3060-12gb", 11.76 * GIB, 12 * GIB, 360e9, 12.7e12, 25.5e12, 0.0,
            "NVIDIA Ampere GA102 architecture white paper: 512 dense BF16 FLOPs a cycle and SM accumulated in float32,"
            " half of that in TF32; GeForce RTX 3060: 28 SMs at 1.777 GHz; memory as CUDA reports it",
        ),
        _device(
            "cpu-24gb", 25_276_514_304, 24 * GIB, 26e9, 220e9, 220e9, 0.0,
            "measured on a virtual machine with two AMD EPYC cores: float32 products of 2048 x 2048 by XLA (bfloat16 is"
            " slower there), copying 256 MiB with both cores; memory as Linux reports it",
        ),
    )
}  # fmt: skip


def device(name: str) -> Device:
    """The device of that name.

    Raises:
      UserError: there is none.
    """
    require(name in DEVICES, "device", name, "one of " + ", ".join(DEVICES))
    return DEVICES[name]
