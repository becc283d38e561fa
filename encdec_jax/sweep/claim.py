"""Leases: which process works on a run. No server and no lock; only a folder that all workers see.

A run's folder holds `leases/1.json`, `leases/2.json`, ...: every claim ever made on the run, none ever deleted. The one
with the highest number counts. To claim is to create the next number exclusively, which the file system grants to one
process alone, whether the lease before it was released, was abandoned or never was. (Were a stale lease deleted or
renamed instead, a slow thief could remove the lease of a fast one.)

A lease's modification time is its last heartbeat; 0 says that it was released, and needs no room on a full disk. On the
holder's own machine the truth is the process: a dead one frees its run at once, a living one keeps it even if the
machine has slept. Other machines see only the heartbeat, and take a lease for stale when it has not beaten for `TTL`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time
from types import TracebackType
from typing import Literal

from encdec_jax.errors import UserError
from encdec_jax.sweep.holder import Holder

TTL = 180.0  # seconds; room for clocks that differ, and for NFS, which may show a heartbeat a minute late
BEAT = 15.0  # seconds between heartbeats

Condition = Literal["free", "held", "stale"]


class Lease:
    """A claim that was won. A context: beats inside, and is released at its end, whatever ends it."""

    def __init__(self, path: Path, successor: Path, lost: Callable[[], None]) -> None:
        self._path, self._successor, self._lost = path, successor, lost
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Lease:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._released.set()
        self._heart.join()
        _touch(self._path, 0.0)

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            if self._successor.exists() or not _touch(self._path, None):
                self._lost()
                return


def claim(folder: Path, lost: Callable[[], None]) -> Lease | None:
    """Claim a run for this process.

    A run may have been finished between a look at its state and the claim: look again under the lease.

    Args:
      folder: of the run; made if it is missing.
      lost: called, from another thread, if the run was taken over by another machine, which can happen only after
        this one did not beat for `TTL`. This process must then write no more into the folder.

    Returns:
      the lease; None if another process holds the run, or was faster.

    Raises:
      UserError: the folder can't be written to.
    """
    last = _last(folder)
    if _condition(last) == "held":
        return None
    number = last.number + 1 if last else 1
    path = _path(folder, number)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        with os.fdopen(handle, "wb", buffering=0) as file:
            file.write(json.dumps(asdict(Holder.this())).encode())
    except FileExistsError:
        return None
    except OSError as error:
        _touch(path, 0.0)
        raise UserError(f"can't claim a run in {folder}: {error.strerror or error}") from error
    return Lease(path, _path(folder, number + 1), lost)


def condition(folder: Path) -> Condition:
    """Whether the run is claimed: 'held' by a process at work, 'stale' if that is gone, else 'free'."""
    return _condition(_last(folder))


def last_holder(folder: Path) -> Holder | None:
    """The process that claimed the run last; None if there was none or it died before it wrote its name."""
    last = _last(folder)
    return last.holder if last else None


@dataclass(frozen=True)
class _Held:
    number: int
    beat: float  # seconds since the epoch; 0 when released
    holder: Holder | None


def _path(folder: Path, number: int) -> Path:
    return folder / "leases" / f"{number}.json"


def _last(folder: Path) -> _Held | None:
    try:
        names = [name.removesuffix(".json") for name in os.listdir(folder / "leases")]
        number = max((int(name) for name in names if name.isdigit()), default=None)
        if number is None:
            return None
        path = _path(folder, number)
        return _Held(number, path.stat().st_mtime, _holder(path))
    except (FileNotFoundError, NotADirectoryError):  # the latter is for `claim` to report
        return None


def _holder(path: Path) -> Holder | None:
    """Who wrote a lease; None while it is being written."""
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        return None


def _condition(last: _Held | None) -> Condition:
    if last is None or last.beat == 0:
        return "free"
    alive = last.holder.alive if last.holder else None
    if alive is None:
        alive = time() - last.beat <= TTL
    return "held" if alive else "stale"


def _touch(path: Path, beat: float | None) -> bool:
    """Set a lease's modification time, to now if None. False if the lease is gone; a disk's hiccup is let pass."""
    try:
        os.utime(path, None if beat is None else (beat, beat))
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True
