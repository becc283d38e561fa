"""Where a run is trained whose folder is in a bucket: a folder on this machine's disk that lasts as long as the lease.

What the run left in the bucket is copied here first: the newest checkpoint that is sealed and whole, and its metrics.
While it trains, each checkpoint that was sealed here goes to the bucket: its files, then the metrics, its manifest
last, for a checkpoint without one is offered to nobody. The summary comes at the end, once all else is there.

Nothing is written once the lease is lost: it is asked before each write. Were it lost between the question and the
write, the write would still meet nothing: checkpoints have the lease's number in their names, the summary is only ever
created, and the other files are replaced only in the state in which this holder has seen them.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from encdec_jax.bucket import Bucket, Tag
from encdec_jax.config import RunConfig
from encdec_jax.errors import UserError, require
from encdec_jax.files import bucket_url
from encdec_jax.sweep import lease as leases
from encdec_jax.sweep.holder import Holder
from encdec_jax.sweep.lease import Lease
from encdec_jax.sweep.tenancy import Tenancy
from encdec_jax.train.objects import MANIFEST, Refused, fetch_newest, holding, key_of, sealed
from encdec_jax.train.retention import Retention

log = logging.getLogger(__name__)
PERIOD = 5.0  # seconds between two looks for a checkpoint that was sealed
_PREFIX = "encdec-scratch-"
_BEGUN = ("config.json", "made_of.json")
_GROWING = ("metrics.jsonl", "timing.jsonl")
_END = 2048  # bytes of the ends of files that a heartbeat shows


@contextmanager
def scratch(run: RunConfig, folder: Path, lease: Lease | None) -> Iterator[Path]:
    """The folder to train a run in: its own; or, where that is in a bucket, one on this disk, and both ways to it.

    Args:
      run: the configuration.
      folder: of the run.
      lease: on it.

    Raises:
      Refused: the bucket can't be read, or at the end be written to.
    """
    store = holding(folder)
    if store is None:
        yield folder
        return
    assert isinstance(lease, Tenancy)
    _remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{Holder.this().witness}-", ignore_cleanup_errors=True) as place:
        here = Path(place) / folder.parent.name / folder.name  # trackers name a run by it
        here.mkdir(parents=True)
        two = _Both(store, key_of(folder / "x").removesuffix("/x"), here, run, lease)
        two.summary = key_of(folder / "summary.json")
        two.down()
        lease.seen = two.seen
        ends = threading.Event()
        thread = threading.Thread(target=two.work, args=(ends,), name="uploads", daemon=True)
        thread.start()
        try:
            yield here
        finally:
            ends.set()
            thread.join()
            lease.seen = dict
        two.finish()


def check_processes(folder: Path, processes: int) -> None:
    """Raise a `UserError` if a run in `folder` lies in a bucket and has more than one process."""
    accepted = "a folder, for a run of several processes: they write a checkpoint together, on a disk that all see"
    require(processes == 1 or holding(folder) is None, "ENCDEC_RUNS", bucket_url("ENCDEC_RUNS"), accepted)


class _Both:
    """A run in the bucket, and on this disk."""

    def __init__(self, store: Bucket, base: str, here: Path, run: RunConfig, lease: Tenancy) -> None:
        self._store, self._base, self._here, self._lease = store, base, here, lease
        self._retention = Retention.of(run)
        self._tags: dict[str, Tag] = {}  # of files that this holder replaces, as it has seen them
        self._pushed: dict[str, tuple[int, int]] = {}
        self._sealed: dict[str, list[str]] = {}  # checkpoint -> its files in the bucket
        self.summary = ""

    def down(self) -> None:
        """Copy what the run left in the bucket."""
        self._patiently(self._down)

    def work(self, ends: threading.Event) -> None:
        """On a thread of its own: bring checkpoints to the bucket as they are sealed, until told to end."""
        while not ends.wait(min(PERIOD, leases.BEAT)):
            try:
                self._up()
            except (OSError, UserError, ValueError) as error:  # tried again; what lasts is said at the end
                log.info("a checkpoint is not in %s yet: %s", self._store.url, error)

    def finish(self) -> None:
        """Bring all that is here to the bucket, the summary last."""
        self._patiently(lambda: self._up(all_of_it=True))
        made = self._here / "summary.json"
        if made.exists():
            self._lease.confirm()
            self._patiently(lambda: self._store.create(self.summary, made.read_bytes()))

    def seen(self) -> dict[str, str]:
        """The ends of files, for whoever looks at the run from elsewhere."""
        found = {}
        for name in (*_GROWING, "made_of.json"):
            path = self._here / name
            if path.exists():
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - _END))
                    text = file.read().decode(errors="replace")
                whole = text if path.stat().st_size <= _END else text.partition("\n")[2]
                found[name] = whole
        return found

    def _down(self) -> None:
        listed = self._store.list(self._base)
        for name in (*_BEGUN, *_GROWING, "suffix_bits.npy"):
            there = self._store.read(self._key(name)) if self._key(name) in listed else None
            if there is not None:
                (self._here / name).write_bytes(there[0])
                self._tags[name] = there[1]
                if name in _BEGUN:
                    self._pushed[name] = self._state(name)
        inside = self._key("checkpoints")
        names = [key.removeprefix(f"{inside}/") for key in listed if key.startswith(f"{inside}/")]
        for found in sealed(inside, listed):
            self._sealed[found[1]] = [name for name in names if name.startswith(f"{found[1]}/")]
        left = [name for name in names if "/" in name and name.partition("/")[0] not in self._sealed]
        self._remove([name for name in left if self._older(name)])
        fetch_newest(self._store, inside, self._here / "checkpoints", listed)

    def _up(self, all_of_it: bool = False) -> None:
        """Bring what is new to the bucket: all, or only what a checkpoint needs."""
        for name in _BEGUN:
            self._bring(name)
        folder = self._here / "checkpoints"
        manifests = [found for path in folder.glob("manifest-*") if (found := MANIFEST.fullmatch(path.name))]
        for found in sorted(manifests, key=lambda one: int(one[3])):
            if found[1] not in self._sealed:
                self._seal(folder, found[0], found[1])
        if all_of_it:
            for path in sorted(self._here.rglob("*")):
                name = str(path.relative_to(self._here))
                if path.is_file() and not name.startswith("checkpoints/") and name != "summary.json":
                    self._bring(name)

    def _seal(self, folder: Path, manifest: str, name: str) -> None:
        """Bring a checkpoint to the bucket, and remove those there that it takes the place of."""
        try:
            raw = (folder / manifest).read_bytes()
            files = [f"{name}/{file}" for file in json.loads(raw)]
            for file in files:
                self._lease.check()
                self._store.write(self._key(f"checkpoints/{file}"), folder / file)
            for growing in _GROWING:
                self._bring(growing)
            if not (folder / manifest).exists():  # pruned meanwhile, and so may be its files
                raise FileNotFoundError(manifest)
        except FileNotFoundError:
            return
        self._lease.check()
        self._store.write(self._key(f"checkpoints/{manifest}"), raw)
        self._sealed[name] = files
        self._lease.progressed()
        steps = {int(one.rpartition("_")[2]): one for one in sorted(self._sealed, key=_age)}
        wanted = {steps[step] for step in self._retention.kept(list(steps))}
        for old in [one for one in self._sealed if one not in wanted]:
            self._lease.check()
            self._remove([f"manifest-{old}-0-of-1.json"])  # first: what a kill leaves of the rest is offered to nobody
            self._remove(self._sealed.pop(old))

    def _bring(self, name: str) -> None:
        """Write a file to the bucket in place of the state of it that this holder knows, if it has changed."""
        path = self._here / name
        if not path.exists() or self._pushed.get(name) == (state := self._state(name)):
            return
        raw = path.read_bytes()
        while True:
            self._lease.check()
            tag = self._tags.get(name)
            made = self._store.create(self._key(name), raw) if tag is None else self._replace(name, raw, tag)
            if made is not None:
                self._tags[name], self._pushed[name] = made, state
                return
            self._lease.confirm()  # a holder of before has written late, or this one is it
            found = self._store.read(self._key(name))
            if found is None:
                self._tags.pop(name, None)
            else:
                self._tags[name] = found[1]

    def _replace(self, name: str, raw: bytes, tag: Tag) -> Tag | None:
        return self._store.replace(self._key(name), raw, tag)

    def _older(self, name: str) -> bool:
        """Whether a part of a checkpoint is of an earlier claim: nobody goes on with it."""
        found = re.match(r"(?:lease(\d+)_)?\d+/", name)
        return found is not None and int(found[1] or 0) < self._lease.number

    def _remove(self, names: list[str]) -> None:
        if names:
            self._lease.check()
            self._store.remove([self._key(f"checkpoints/{name}") for name in names])

    def _key(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _state(self, name: str) -> tuple[int, int]:
        found = (self._here / name).stat()
        return found.st_size, found.st_mtime_ns

    def _patiently(self, do: Callable[[], Any]) -> None:
        """Do, and do again while the bucket refuses, for up to `IDLE`; the lease beats meanwhile."""
        begun, said = time.monotonic(), False
        while True:
            try:
                do()
                return
            except OSError as error:
                if time.monotonic() - begun > leases.IDLE:
                    raise Refused(str(error)) from error
                if not said:
                    log.warning("waiting for %s: %s", self._store.url, error)
                said = True
                time.sleep(min(1.0, leases.LOOK))


def _age(name: str) -> tuple[int, int]:
    lease, _, step = name.rpartition("_")
    return int(step), int(lease.removeprefix("lease") or 0)


def _remove_abandoned() -> None:
    """Remove the folders of processes of this machine that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        witness = path.name.removeprefix(_PREFIX).rpartition("-")[0]
        if Holder("", 0, 0, witness).dead:
            shutil.rmtree(path, ignore_errors=True)
