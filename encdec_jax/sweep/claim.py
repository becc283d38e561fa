"""Which process works on a run: claims, and who holds what, by the leases in its folder or in a bucket."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Literal

from encdec_jax.errors import UserError
from encdec_jax.sweep import lease as leases
from encdec_jax.sweep import tenancy
from encdec_jax.sweep.holder import Holder
from encdec_jax.sweep.lease import Held, Lease, create, holder_in, read, taken, touch
from encdec_jax.train.objects import holding

Condition = Literal["free", "held", "stale"]


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
        return tenancy.take(folder, store, lost)
    last = _last(folder)
    if last is not None and taken(last):
        return None
    number = last.number + 1 if last else 1
    path = _path(folder, number)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not create(path):
            return None
    except OSError as error:
        touch(path, 0.0)
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
    return "stale" if last.dead or abs(time() - last.hour) > leases.TTL else "held"


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
        return tenancy.all_holders(folder)
    found = (holder_in(path.read_bytes()) for path in (folder / "leases").glob("*.json"))
    return [holder for holder in found if holder is not None]


def held_by(folder: Path) -> str:
    """In words, who holds the run and when its heart last beat, to go on waiting for or to look after."""
    last = _last(folder)
    if last is None or last.released:
        return "nobody"
    age = time() - last.hour
    if last.dead:
        when = "which has ended"
    elif age < -leases.TTL:
        when = f"whose clock is {-age:.0f} s ahead of this one's"
    else:
        when = f"whose heart beat {max(age, 0.0):.0f} s ago"
    return f"{last.holder or 'a process without a name'}, {when}"


def _path(folder: Path, number: int) -> Path:
    return folder / "leases" / f"{number}.json"


def _last(folder: Path) -> Held | None:
    if holding(folder) is not None:
        return tenancy.last_seen(folder)
    try:
        names = [name.removesuffix(".json") for name in os.listdir(folder / "leases")]
        number = max((int(name) for name in names if name.isdecimal()), default=None)
        if number is None:
            return None
        path = _path(folder, number)
        if path.is_dir():  # by nobody of ours
            return read(path, number, path.stat(), b"")
        with path.open("rb") as file:  # opened, not only looked at: NFS then asks its server
            return read(path, number, os.fstat(file.fileno()), file.read())
    except (FileNotFoundError, NotADirectoryError):  # the latter is for `claim` to report
        return None
