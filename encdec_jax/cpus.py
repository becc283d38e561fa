"""The processors of this machine that workers may share."""

from __future__ import annotations

import os
from pathlib import Path

from encdec_jax.errors import require

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU, or 'max', in a period
_ACCELERATORS = ("nvidia[0-9]*", "accel[0-9]*", "kfd", "vfio/[0-9]*")  # device files of GPUs and TPUs


def available() -> list[int]:
    """Ids of the CPUs that this process may use, fewer if its container is granted less time."""
    allowed = sorted(os.sched_getaffinity(0))
    quota, _, period = _QUOTA.read_text().partition(" ") if _QUOTA.exists() else ("max", "", "")
    return allowed if quota == "max" else allowed[: max(1, int(quota) // int(period))]


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


def _accelerated() -> bool:
    chosen = os.environ.get("JAX_PLATFORMS")
    if chosen:
        return not chosen.startswith("cpu")
    return any(next(Path("/dev").glob(pattern), None) for pattern in _ACCELERATORS)
