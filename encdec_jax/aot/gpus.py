"""Target configurations: what XLA's compiler for GPUs must know of a GPU that is not there."""

from __future__ import annotations

from encdec_jax.compute.devices import Device

# NVIDIA's architecture white papers and the CUDA C++ programming guide's table of compute capabilities; XLA's
# xla/backends/gpu/target_config/specs lists the same for cards that were held.
_CHIPS: dict[str, dict[str, float | int | str]] = {
    "h100-80gb": {
        "capability": "major: 9 minor: 0",
        "core_count": 132,
        "fpus_per_core": 128,
        "shared_memory_per_core": 233_472,
        "shared_memory_per_block_optin": 232_448,
        "l2_cache_size": 52_428_800,
        "clock_rate_ghz": 1.98,
        "description": "sm_90",
    },
    "a100-80gb": {
        "capability": "major: 8 minor: 0",
        "core_count": 108,
        "fpus_per_core": 64,
        "shared_memory_per_core": 167_936,
        "shared_memory_per_block_optin": 166_912,
        "l2_cache_size": 41_943_040,
        "clock_rate_ghz": 1.41,
        "description": "sm_80",
    },
}


def target(device: Device) -> str:
    """The text of an xla.GpuTargetConfigProto.

    Args:
      device: one of `encdec_jax.compute.devices.DEVICES` that is in a server of GPUs.
    """
    chip = _CHIPS[device.name]
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {chip["shared_memory_per_core"]}
  threads_per_core_limit: 2048
  core_count: {chip["core_count"]}
  fpus_per_core: {chip["fpus_per_core"]}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {int(device.bandwidth)}
  l2_cache_size: {chip["l2_cache_size"]}
  clock_rate_ghz: {chip["clock_rate_ghz"]}
  device_memory_size: {device.memory_bytes}
  shared_memory_per_block_optin: {chip["shared_memory_per_block_optin"]}
  cuda_compute_capability {{ {chip["capability"]} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "{chip["description"]}"
"""
