"""What the processes of one run must agree on. On one process, nothing is sent."""

from __future__ import annotations

import faulthandler
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from encdec_jax.data.batches import combine
from encdec_jax.errors import UserError
from encdec_jax.train.job import job_of
from encdec_jax.train.sharding import in_turn, present

SAID = 1000  # bytes of an error that other processes are told
JOIN = 300  # seconds that processes of a job may begin apart
BARRIER = 1800.0  # seconds that one may wait for the others: they compile, and save, at their own pace


def join() -> None:
    """Join the other processes of this job, if the environment tells of several; to be called before jax is used.

    Raises:
      UserError: as `encdec_jax.train.job.job_of`; the others can't be reached, or there are no devices.
    """
    job = job_of(os.environ)
    try:
        if job is not None:
            given = (job.address, job.processes, job.place, job.devices)
            jax.distributed.initialize(*given, cluster_detection_method="deactivate", initialization_timeout=JOIN)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"can't join the other processes of this job: {str(error).splitlines()[0]}") from error
    present()


def first() -> bool:
    """Whether this is the job's first process, which writes and speaks for all."""
    return jax.process_index() == 0


@contextmanager
def together() -> Iterator[None]:
    """A piece of work that each process does by itself: if one can't, none goes on, and all say why.

    Nothing within may wait for another process: one that failed would be waited for without end.

    Raises:
      UserError: this process's own; or another's, with its number.
    """
    error: Exception | None = None
    try:
        yield
    except (UserError, OSError) as raised:
        error = raised
    if jax.process_count() > 1:
        every = every_text(str(error or ""), SAID)
        if error is None and any(every):
            place, text = next((i, text) for i, text in enumerate(every) if text)
            raise UserError(f"process {place} of this run ended: {text}")
    if error is not None:
        raise error


def every_text(text: str, size: int) -> list[str]:
    """What each process says, cut to a number of bytes."""
    said = np.frombuffer(text.encode()[:size].ljust(size), np.uint8)
    return [bytes(one).decode(errors="replace").strip() for one in _gathered(said)]


def any_host(told: bool) -> bool:
    """Whether any process was told to stop: all must leave the loop at the same call."""
    return bool(_gathered(np.asarray(told)).any())


class Loose:
    """Work that each process does by itself between calls, and its part in ending the loop with all others.

    What a process is told or refused, it says at its next call without waiting: the devices gather it behind what they
    have to do, and all read it one call later. On one process it is heard at once.
    """

    def __init__(self) -> None:
        self._trouble: UserError | OSError | None = None
        self._before: jax.Array | None = None

    def attempt(self, work: Callable[[], Any]) -> Any:
        """Work, and what it gives; None if it is refused, which ends the run once all know (alone, at once).

        Until then the process does its part of what the devices compute together, which comes to nothing, and no more
        work of its own.
        """
        if self._trouble is not None:
            return None
        try:
            return work()
        except (UserError, OSError) as error:
            if jax.process_count() == 1:
                raise
            self._trouble = error
            return None

    def settle(self) -> None:
        """Raise, on all processes, what any was refused."""
        with together():
            if self._trouble is not None:
                raise self._trouble

    def ends(self, told: bool) -> bool:
        """Whether all leave the loop here: because one was told to, or was refused something."""
        return self._agreed(2 if self._trouble else int(told)) > 0

    def _agreed(self, value: int) -> int:
        """The largest number that any process said one call before; 0 at the first."""
        if jax.process_count() == 1:
            return value
        where, largest = _one_device_each()
        said = jax.make_array_from_process_local_data(where, np.array([value], np.int32), (jax.process_count(),))
        before, self._before = self._before, in_turn(largest(said))
        if before is None:
            return 0
        with _bounded():
            return int(np.asarray(before))


@functools.cache
def _one_device_each() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    """Where a number of each process lies, and what gives all of them the largest."""
    devices = {device.process_index: device for device in jax.devices()}
    mesh = Mesh(np.array([devices[place] for place in sorted(devices)]), ("processes",))
    return NamedSharding(mesh, PartitionSpec("processes")), jax.jit(
        jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec())
    )


def as_first(values: np.ndarray) -> np.ndarray:
    """The first process's values, of one shape and type on all."""
    if jax.process_count() == 1:
        return values
    with _bounded():
        return np.asarray(multihost_utils.broadcast_one_to_all(values))


def most(value: int) -> int:
    """The largest of the processes' values."""
    return int(_gathered(np.asarray(value)).max())


def check_same(given: Mapping[str, str]) -> None:
    """Check that every process of a run was given the same.

    Args:
      given: name -> what this process was given, as text.

    Raises:
      UserError: something differs, by its name. Every process raises it.
    """
    digests = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in given.values()]
    every = _gathered(np.stack(digests))
    for place, name in enumerate(given):
        (others,) = np.nonzero((every[:, place] != every[0, place]).any(-1))
        if len(others):
            raise UserError(f"{name} differs between processes 0 and {others[0]} of this run: give every host the same")


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
    with _bounded():
        return np.asarray(multihost_utils.process_allgather(value))


@contextmanager
def _bounded() -> Iterator[None]:
    """A wait for the other processes. One longer than `BARRIER` ends this process, and prints where its threads are."""
    faulthandler.dump_traceback_later(BARRIER, exit=True, file=sys.__stderr__ or 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
