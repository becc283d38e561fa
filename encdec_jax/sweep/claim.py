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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime, monotonic, time
from types import TracebackType
from typing import Literal

from encdec_jax.errors import UserError
from encdec_jax.sweep.holder import Holder
from encdec_jax.train.objects import holding

BEAT = 15.0  # seconds between heartbeats
LIFE = 120.0  # seconds without a heartbeat after which a holder no longer trusts its own lease
TTL = 180.0  # seconds without a change after which others take it; NFS may show a heartbeat a minute late
IDLE = 3600.0  # seconds without progress after which the heart stops: longer than any compilation or scoring
LOOK = 1.0  # seconds between two looks of the holder at its own lease

_HELD, _RELEASED = b', "released": 0}', b', "released": 1}'

Condition = Literal["free", "held", "stale"]

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
            if now - self._beaten > LIFE and now - self._moved < IDLE and _create(successor):
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
            if now - self._beaten >= BEAT and now - self._moved < IDLE and _touch(self._path, None):
                self._beaten = now


def claim(folder: Path, lost: Callable[[], None]) -> Lease | None:
    """Claim a run for this process.

    A run may have been finished between a look at its state and the claim: look again under the lease.

    Args:
      folder: of the run; made if it is missing.
      lost: called, from whichever thread finds it, when the run was taken over: this one did not beat for too long.
        This process must then write no more into the folder; best it ends.

    Returns:
      the lease; None if another process holds the run, or was faster. One that beats no more is given up only when it
      was asked for at least twice, `TTL` apart.

    Raises:
      UserError: the folder can't be written to.
    """
    store = holding(folder)
    if store is not None:
        from encdec_jax.sweep.tenancy import take

        return take(folder, store, lost)
    last = _last(folder)
    if last is not None and taken(last):
        return None
    number = last.number + 1 if last else 1
    path = _path(folder, number)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _create(path):
            return None
    except OSError as error:
        _touch(path, 0.0)
        raise UserError(f"can't claim a run in {folder}: {error.strerror or error}") from error
    if last is not None and last.holder is not None:
        last.holder.bury()
    return Lease(path, number, lost)


def condition(folder: Path) -> Condition:
    """Whether the run is claimed: 'held' by a process at work, 'stale' if that is gone or its heart stands still.

    At one look, the hour that the lease shows must do: it is 'held' if that is not `TTL` away from this clock's.
    """
    last = _last(folder)
    if last is None or last.released:
        return "free"
    return "stale" if last.dead or abs(time() - last.hour) > TTL else "held"


def last_holder(folder: Path) -> Holder | None:
    """The process that claimed the run last; None if there was none or it died before it wrote its name."""
    last = _last(folder)
    return last.holder if last else None


def last_beat(folder: Path) -> float | None:
    """Seconds since the heart of the run's holder last beat, by this machine's clock; None where nobody holds it."""
    last = _last(folder)
    return None if last is None or last.released else time() - last.hour


def holders(folder: Path) -> list[Holder]:
    """The processes that ever claimed the run and wrote their names."""
    if holding(folder) is not None:
        from encdec_jax.sweep.tenancy import all_holders

        return all_holders(folder)
    found = (_holder(path.read_bytes()) for path in (folder / "leases").glob("*.json"))
    return [holder for holder in found if holder is not None]


def held_by(folder: Path) -> str:
    """In words, who holds the run and when its heart last beat, to go on waiting for or to look after."""
    last = _last(folder)
    if last is None or last.released:
        return "nobody"
    age = time() - last.hour
    if last.dead:
        when = "which has ended"
    elif age < -TTL:
        when = f"whose clock is {-age:.0f} s ahead of this one's"
    else:
        when = f"whose heart beat {max(age, 0.0):.0f} s ago"
    return f"{last.holder or 'a process without a name'}, {when}"


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


def _path(folder: Path, number: int) -> Path:
    return folder / "leases" / f"{number}.json"


def _last(folder: Path) -> Held | None:
    if holding(folder) is not None:
        from encdec_jax.sweep.tenancy import last_seen

        return last_seen(folder)
    try:
        names = [name.removesuffix(".json") for name in os.listdir(folder / "leases")]
        number = max((int(name) for name in names if name.isdecimal()), default=None)
        if number is None:
            return None
        path = _path(folder, number)
        if path.is_dir():  # by nobody of ours
            return _found(path, number, path.stat(), b"")
        with path.open("rb") as file:  # opened, not only looked at: NFS then asks its server
            return _found(path, number, os.fstat(file.fileno()), file.read())
    except (FileNotFoundError, NotADirectoryError):  # the latter is for `claim` to report
        return None


def _found(path: Path, number: int, found: os.stat_result, text: bytes) -> Held:
    released = found.st_mtime_ns == 0 or text.endswith(_RELEASED)
    return Held(path, number, found.st_mtime_ns, found.st_mtime_ns / 1e9, released, _holder(text))


def _holder(text: bytes) -> Holder | None:
    """Who wrote a lease; None while it is being written."""
    try:
        found = json.loads(text)
        return Holder(**{field.name: found[field.name] for field in fields(Holder)})
    except (ValueError, TypeError, KeyError):
        return None


def _unchanged(last: Held) -> bool:
    """Whether this process has watched the lease for `TTL` and seen no heartbeat."""
    state, since = _watched.get(last.path, (None, 0.0))
    if state != last.state:
        since = monotonic()
        _watched[last.path] = (last.state, since)
    return monotonic() - since > TTL


def _create(path: Path) -> bool:
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
    _touch(path, 0.0)


def awake() -> float:
    """Seconds by a clock of this machine that nobody sets, and that goes on while it sleeps."""
    return clock_gettime(CLOCK_BOOTTIME)


def _touch(path: Path, beat: float | None) -> bool:
    """Set a lease's modification time, to now if None. Returns whether it could be set."""
    try:
        os.utime(path, None if beat is None else (beat, beat))
    except OSError:
        return False
    return True
