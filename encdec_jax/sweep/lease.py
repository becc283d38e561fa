"""Leases: which process works on a run. No server and no lock; only a folder that all workers see.

A run's folder holds `leases/1.json`, `leases/2.json`, ...: every claim ever made on the run, none ever deleted. The one
with the highest number counts. To claim is to create the next number exclusively, which the file system grants to one
process alone, whether the lease before it was released, was abandoned or never was. (Were a stale lease deleted or
renamed instead, a slow thief could remove the lease of a fast one.)

A lease's modification time changes with each heartbeat; 0 says that it was released, and needs no room on a full disk.
So does a digit within it, for copies have times of their own. What it says of the hour is for people to read: clocks
may differ by hours. Whoever wants the run takes the lease for stale when it has watched it for `TTL` without a change,
by its own clock, which stands still while its machine sleeps; or at once where it can see that the holder has ended.

The holder counts too, by a clock that goes on while the machine sleeps. Has its heart not beaten for `LIFE`, which is
shorter than anyone's patience, it must assume that the run was taken over: it claims the next number for itself, and
has lost where another holds it. It asks so before each write that matters (`Lease.check`), and once lost never writes
again. A run that makes no progress for `IDLE` is given up likewise, for its heart stops.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime, monotonic
from types import TracebackType

from encdec_jax.files import parsed
from encdec_jax.sweep.holder import Holder

BEAT = 15.0  # seconds between heartbeats
LIFE = 120.0  # seconds without a heartbeat after which a holder no longer trusts its own lease
TTL = 180.0  # seconds without a change after which others take it; NFS may show a heartbeat a minute late
IDLE = 3600.0  # seconds without progress after which the heart stops: longer than any compilation or scoring
LOOK = 1.0  # seconds between two looks of the holder at its own lease

_HELD, _RELEASED = b', "released": 0}', b', "released": 1}'

_watched: dict[Path, tuple[object, float]] = {}  # lease -> its state, and since when it has been in that


class Lease:
    """A claim that was won. A context: beats inside, and is released at its end, whatever ends it.

    Attributes:
      number: of the claim. Names of what a holder writes carry it, so that a later holder's never clash with them.
    """

    def __init__(self, path: Path, number: int, lost: Callable[[], None]) -> None:
        self.number = number
        self._path, self._next, self._lost = path, number + 1, lost
        self._beaten = self._moved = awake()
        self._one = threading.RLock()
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
        _release(self._path)

    def check(self) -> None:
        """To be called before each write that matters: calls `lost` if the run is no longer this process's."""
        with self._one:
            now, successor = awake(), self._path.with_name(f"{self._next}.json")
            if now - self._beaten > LIFE and now - self._moved < IDLE and create(successor):
                self._path, self._next, self._beaten = successor, self._next + 1, now  # nobody had come in between
            elif successor.exists() or not self._path.exists():
                self._lost()

    def progressed(self) -> None:
        """To be called whenever the run has made progress."""
        self._moved = awake()

    def _beat(self) -> None:
        while not self._released.wait(min(LOOK, BEAT)):
            try:
                self.check()
            except OSError:  # a disk's hiccup; who wants to write will hear of it
                continue
            now = awake()
            if now - self._beaten >= BEAT and now - self._moved < IDLE and touch(self._path, None):
                self._beaten = now


@dataclass(frozen=True)
class Held:
    """A lease, as it was found.

    Attributes:
      path: of its file.
      number: of the claim.
      state: another with each heartbeat.
      hour: of the last heartbeat, by whatever clock; seconds since the epoch.
      released: by its holder.
      holder: None while the lease is being written.
    """

    path: Path
    number: int
    state: object
    hour: float
    released: bool
    holder: Holder | None

    @property
    def dead(self) -> bool:
        """Whether the holder has ended for certain."""
        return self.holder is not None and self.holder.dead


def taken(last: Held) -> bool:
    """Whether a run is another's: by a lease that is not released, whose holder is not dead, and that was not watched
    by this process for `TTL` without a heartbeat."""
    return not last.released and not last.dead and not _unchanged(last)


def read(path: Path, number: int, stat: os.stat_result, text: bytes) -> Held:
    """A lease by its file's times and content."""
    released = stat.st_mtime_ns == 0 or text.endswith(_RELEASED)
    return Held(path, number, stat.st_mtime_ns, stat.st_mtime_ns / 1e9, released, holder_in(text))


def holder_in(text: bytes) -> Holder | None:
    """Who wrote a lease; None while it is being written."""
    try:
        return Holder.of(parsed(text))
    except (ValueError, TypeError, KeyError):
        return None


def _unchanged(last: Held) -> bool:
    """Whether this process has watched the lease for `TTL` and seen no heartbeat."""
    state, since = _watched.get(last.path, (None, 0.0))
    if state != last.state:
        since = monotonic()
        _watched[last.path] = (last.state, since)
    return monotonic() - since > TTL


def create(path: Path) -> bool:
    """Make a lease of this process; False if there is one of that number."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "wb", buffering=0) as file:
        file.write(json.dumps(asdict(Holder.this())).encode()[:-1] + _HELD)
    return True


def _release(path: Path) -> None:
    """Say in a lease that it is released, by a digit in the place of another: a full disk has no room for one more."""
    with suppress(OSError), path.open("r+b") as file:
        if file.read().endswith(_HELD):
            file.seek(-len(_HELD), os.SEEK_END)
            file.write(_RELEASED)
    touch(path, 0.0)


def awake() -> float:
    """Seconds by a clock of this machine that nobody sets, and that goes on while it sleeps."""
    return clock_gettime(CLOCK_BOOTTIME)


def touch(path: Path, beat: float | None) -> bool:
    """Set a lease's modification time, to now if None. Returns whether it could be set."""
    try:
        os.utime(path, None if beat is None else (beat, beat))
    except OSError:
        return False
    return True
