"""What the processes of one run must agree on. On one process, nothing is sent."""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils

from encdec_jax.data.batches import combine
from encdec_jax.errors import UserError


def any_host(told: bool) -> bool:
    """Whether any process was told to stop: all must leave the loop at the same call."""
    if jax.process_count() == 1:
        return told
    return bool(multihost_utils.process_allgather(np.asarray(told)).any())


def check_batch(digests: np.ndarray, here: np.ndarray, batch_size: int) -> None:
    """Check that the hosts together loaded one whole batch, whatever the mesh.

    Args:
      digests: uint8 [windows here, 32] of this host's windows of a step.
      here: their places in the batch, int64 [windows here].
      batch_size: windows of the batch.

    Raises:
      UserError: a window that several hosts loaded differs between them, or none loaded it. Every host raises it.
    """
    mine = np.zeros((batch_size, 33), np.uint8)
    mine[here, :32], mine[here, 32] = digests, 1
    every = _gathered(mine)
    loaded = every[..., 32].astype(bool)
    for window in range(batch_size):
        (hosts,) = np.nonzero(loaded[:, window])
        if not len(hosts):
            raise UserError(f"window {window} of the first batch was loaded by no process: the hosts see other devices")
        for host in hosts[1:]:
            if (every[host, window] != every[hosts[0], window]).any():
                raise UserError(
                    f"window {window} of the first batch differs between processes {hosts[0]} and {host}: "
                    "give every host the same configuration, code and token cache"
                )


def summed(hash: str) -> str:
    """The sum of the hosts' hashes of the windows that each answers for (`encdec_jax.data.batches.combine`)."""
    return combine(_gathered(np.frombuffer(int(hash or "0", 16).to_bytes(32), np.uint8)))


def _gathered(value: np.ndarray) -> np.ndarray:
    """Every process's value, [processes, ...]."""
    if jax.process_count() == 1:
        return value[None]
    return np.asarray(multihost_utils.process_allgather(value))
