"""Leases of runs in a bucket: one object a run, written only by who has seen its last state.

The object holds the claim's number, its holder, and a count of heartbeats. To claim a run is to create the object, or
to replace the state in which it was released or was watched for `TTL`: the store lets one of all who try do that. A
heartbeat is the same: the holder replaces the state that it wrote last, and has lost the run where that is refused. So
a holder who has slept and finds its state unchanged goes on, and whoever came in between is never overwritten. Nothing
depends on clocks but how long others wait.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from encdec_jax.bucket import Bucket, Tag
from encdec_jax.files import parsed
from encdec_jax.sweep import lease as leases
from encdec_jax.sweep.holder import Holder
from encdec_jax.sweep.lease import Held, Lease, taken
from encdec_jax.sweep.replica import SEEN
from encdec_jax.train.objects import LEASE, Refused, key_of

BEFORE = 20  # holders that a lease remembers

Seen = Callable[[], dict[str, str]]


class Tenancy(Lease):
    """A lease of a run in a bucket.

    Attributes:
      seen: gives what a look at the run is to show, with each heartbeat.
    """

    def __init__(self, store: Bucket, key: str, content: dict[str, Any], tag: Tag, lost: Callable[[], None]) -> None:
        super().__init__(Path(key), content["number"], lost)
        self.seen: Seen = dict
        self._store, self._key, self._content, self._tag = store, key, content, tag

    def check(self) -> None:
        """Ask the bucket only where the heart has not beaten for `LIFE`: nobody takes the run before `TTL`."""
        if leases.awake() - self._beaten > leases.LIFE:
            self.confirm()

    def confirm(self) -> None:
        """Ask the bucket whether the run is still this process's; calls `lost` if it is not. Waits for a bucket that
        does not answer, for up to `IDLE`.

        Raises:
          Refused: it did not answer for that long.
        """
        begun = leases.awake()
        with self._one:
            while True:
                try:
                    if not self._renew():
                        self._lost()
                    return
                except OSError as error:
                    if leases.awake() - begun > leases.IDLE:
                        raise Refused(str(error)) from error
                    time.sleep(min(leases.LOOK, 1.0))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._released.set()
        self._heart.join()
        with self._one:
            try:
                self._renew(released=True)
            except OSError:  # the run is free when others have watched it long enough
                return

    def _renew(self, released: bool = False) -> bool:
        seen = self.seen() or self._content.get(SEEN, {})
        content = {**self._content, "beat": self._content["beat"] + 1, "released": released, SEEN: seen}
        now = leases.awake()
        tag = self._store.replace(self._key, json.dumps(content).encode(), self._tag)
        if tag is None:
            return False
        self._content, self._tag, self._beaten = content, tag, now
        return True

    def _beat(self) -> None:
        while not self._released.wait(min(leases.LOOK, leases.BEAT)):
            now = leases.awake()
            if now - self._beaten < leases.BEAT or now - self._moved >= leases.IDLE:
                continue
            try:
                with self._one:
                    kept = self._released.is_set() or self._renew()
            except OSError:  # `check` waits for it where it must
                continue
            if not kept:
                self._lost()


def take(folder: Path, store: Bucket, lost: Callable[[], None]) -> Tenancy | None:
    """As `encdec_jax.sweep.claim.claim`, of a run in a bucket."""
    copied = last_seen(folder)
    if copied is not None and taken(copied):  # by the last listing: no request is spent on it
        return None
    key = key_of(folder / LEASE)
    try:
        found = store.read(key)
        last = None if found is None else _held(folder / LEASE, found[0], time.time())
        if last is not None and taken(last):
            return None
        number = last.number + 1 if last else 1
        before = [] if found is None else _holders(found[0])
        content = {"number": number, "holder": asdict(Holder.this()), "beat": 0, "released": False}
        content |= {"before": [asdict(one) for one in before[-BEFORE:]], "claim": uuid.uuid4().hex, SEEN: {}}
        raw = json.dumps(content).encode()
        tag = store.create(key, raw) if found is None else store.replace(key, raw, found[1])
    except OSError as error:
        raise Refused(f"can't claim a run in {store.url}: {error.strerror or error}") from error
    if tag is None:
        return None
    if last is not None and last.holder is not None:
        last.holder.bury()
    return Tenancy(store, key, content, tag, lost)


def last_seen(folder: Path) -> Held | None:
    """The lease of a run as it was when the copy was made; None if there was none."""
    path = folder / LEASE
    try:
        return _held(path, path.read_bytes(), path.stat().st_mtime)
    except FileNotFoundError:
        return None


def all_holders(folder: Path) -> list[Holder]:
    """The processes that held the run last."""
    try:
        return _holders((folder / LEASE).read_bytes())
    except FileNotFoundError:
        return []


def _held(path: Path, raw: bytes, hour: float) -> Held:
    """What a lease says; one that is damaged is taken for that of a process without a name, which no longer beats."""
    try:
        found = parsed(raw)
        return Held(path, int(found["number"]), raw, hour, found["released"] is True, Holder.of(found["holder"]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return Held(path, 0, raw, hour, False, None)


def _holders(raw: bytes) -> list[Holder]:
    try:
        found = parsed(raw)
        return [Holder.of(one) for one in (*found["before"], found["holder"])]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
