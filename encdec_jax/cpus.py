"""The processors of this machine that workers may share: CPUs, GPUs and TPU chips."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

from encdec_jax.errors import require

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU, or 'max', in a period
_DEV = Path("/dev")
_CHIPS = ("TPU_VISIBLE_CHIPS", ("accel[0-9]*", "vfio/[0-9]*"))
_NAMES = {"gpu": ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), "tpu": ("TPU_VISIBLE_CHIPS",)}
# glibc's mallopt, by the numbers of <malloc.h>. One arena, for those of threads map whatever exceeds their 64 MB.
_KEEP = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 1 << 24), "M_ARENA_MAX": (-8, 1)}
_ACCELERATORS = ("nvidia[0-9]*", "accel[0-9]*", "kfd", "vfio/[0-9]*")  # device files of GPUs and TPUs


def available() -> list[int]:
    """Ids of the CPUs that this process may use, fewer if its container is granted less time."""
    allowed = sorted(os.sched_getaffinity(0))
    quota, _, period = _QUOTA.read_text().partition(" ") if _QUOTA.exists() else ("max", "", "")
    return allowed if quota == "max" else allowed[: max(1, int(quota) // int(period))]


def threads() -> int:
    """Threads that XLA computes with on this process's CPUs: one a CPU, or one in all where its flags say so.

    Sums are split over threads, so that results are bitwise the same for one number of threads alone.
    """
    alone = ONE_THREAD in os.environ.get("XLA_FLAGS", "").split()
    return 1 if alone else len(os.sched_getaffinity(0))


def default_jobs() -> int:
    """Workers to start unless told: one a CPU, but one in all where an accelerator is to be used."""
    return 1 if _accelerated() else len(available())


def shares(jobs: int) -> list[list[int]]:
    """The CPUs of each of `jobs` workers: disjoint, and of sizes that differ by at most one.

    Raises:
      UserError: there are more workers than CPUs.
    """
    ids = available()
    require(1 <= jobs <= len(ids), "jobs", jobs, f"1 to {len(ids)}, the CPUs of this machine")
    return [ids[len(ids) * i // jobs : len(ids) * (i + 1) // jobs] for i in range(jobs)]


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, if it is to compute on CPUs: call it before there are threads.

    Of itself glibc gives a step's large buffers back to the system, and each step faults them in again, page by page:
    an eighth of its CPU time at d_model 512 (LOG.md).

    Returns:
      whether it does: not beside an accelerator, with another C library, or where the environment tunes glibc.
    """
    libc = ctypes.CDLL(None)
    tuned = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if tuned or _accelerated() or not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(libc.mallopt(name, value) for name, value in _KEEP.values())


def own_devices(jobs: int, each: int = 1) -> list[dict[str, str]]:
    """Variables that show each of `jobs` workers its own GPUs or TPU chips; empty where there are none, or one worker.

    Args:
      jobs: workers, all on this machine.
      each: devices that a worker needs at least.

    Raises:
      UserError: there are too few.
    """
    if jobs == 1 or not _accelerated():
        return [{} for _ in range(jobs)]
    for names, seen in ((_NAMES["gpu"], gpus(os.environ)), (_NAMES["tpu"], _seen(os.environ, *_CHIPS))):
        if seen:
            accepted = f"at most {len(seen) // each}: {len(seen)} devices, of which a run here needs {each}"
            require(jobs * each <= len(seen), "jobs", jobs, accepted)
            parts = [seen[len(seen) * i // jobs : len(seen) * (i + 1) // jobs] for i in range(jobs)]
            return [{name: ",".join(part) for name in names} | _alone(names, part) for part in parts]
    return [{} for _ in range(jobs)]


def gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that a process of this environment sees, as CUDA or ROCm name them."""
    return _seen(environment, "CUDA_VISIBLE_DEVICES", ("nvidia[0-9]*",)) or _seen(
        environment, "ROCR_VISIBLE_DEVICES", ("dri/renderD*",) if (_DEV / "kfd").exists() else ()
    )


def _seen(environment: Mapping[str, str], variable: str, files: tuple[str, ...]) -> list[str]:
    if environment.get(variable) is not None:
        return [name for name in environment[variable].split(",") if name not in ("", "-1")]
    return [str(place) for place in range(sum(len(list(_DEV.glob(pattern))) for pattern in files))]


def _alone(names: tuple[str, ...], part: list[str]) -> dict[str, str]:
    """libtpu also wants to know the shape of the part: a row of chips, and no other process."""
    if names != _NAMES["tpu"]:
        return {}
    return {"TPU_CHIPS_PER_PROCESS_BOUNDS": f"1,{len(part)},1", "TPU_PROCESS_BOUNDS": "1,1,1"}


def _accelerated() -> bool:
    chosen = os.environ.get("JAX_PLATFORMS")
    if chosen:
        return not chosen.startswith("cpu")
    return any(next(_DEV.glob(pattern), None) for pattern in _ACCELERATORS)
