"""An experiment's runs in a bucket, where ENCDEC_RUNS is one: a copy on this machine's disk of what its verbs read.

    <ENCDEC_RUNS>/<experiment>/
        state/<run id>/lease.json         who works on the run, and how far it is (`encdec_jax.sweep.tenancy`)
        state/<run id>/summary.json       of a run that came to its end; error.txt of one that failed
        runs/<run id>/...                 all else: metrics.jsonl, checkpoints, ... (`encdec_jax.sweep.scratch`)
        results.parquet, report.html, predictions.json, submissions/, logs/
        summaries.json.gz                 most summaries once more, together

What runs are in is one listing of `state`, a page for each thousand objects, and one small object for each run that has
changed since the last look: of runs at work the lease, of those that have ended the summary. The copy is laid out as a
folder of runs is, so that whoever reads one reads it. Leases of runs at work carry the last lines of the metrics.

Whoever looks and finds that a tenth of the summaries are not in the object that has them together writes it anew, so
that a machine's first look need not ask for each. What that object says of a summary counts only for the state of it
that was listed: however old the object is, it hides nothing.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from encdec_jax.bucket import Bucket, Listed, Tag
from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write, parsed, read_json, write_json
from encdec_jax.train.objects import LEASE, STATE, holding, key_of, told

FRESH = 5.0  # seconds that a look is good for
SEEN = "seen"  # of a lease: the ends of files of a run at work
WHOLE = ("config.json", "metrics.jsonl", "suffix_bits.npy")  # that reports read of runs that have ended
_INDEX = ".replica.json"  # what of the bucket each file of the copy is
_AT_ONCE = 16  # requests in flight
_TOGETHER = "summaries.json.gz"
# What is copied, from the experiment on; what else lies there is somebody's.
_OURS = re.compile(rf"state/[0-9a-f]{{12}}/({'|'.join(map(re.escape, STATE))})|submissions/[^/]+\.json|\w+\.\w+")
_FEW = 100  # summaries that are as well asked for one by one


_looked: dict[Path, float] = {}  # root of an experiment -> when it was looked at


def prove(store: Bucket) -> None:
    """Check that a bucket can be written to, and that its conditional writes are what leases need.

    Raises:
      UserError: they are not: a store that does not know them writes whatever is asked of it.
    """
    key = f".probe-{uuid.uuid4().hex}"
    with told():
        first = store.create(key, b"first")
        twice = store.create(key, b"second")
        second = None if first is None else store.replace(key, b"second", first)
        stale = None if first is None else store.replace(key, b"third", first)
        there = store.read(key)
        store.remove([key])
    wrong = (
        "an object that is there could be created again" if twice is not None else
        "an object could not be replaced in the state that it was in" if first is None or second is None else
        "an object could be replaced in a state that it was no longer in" if stale is not None else
        "an object does not read as it was written" if there is None or there[0] != b"second" else
        None
    )  # fmt: skip
    if wrong is not None:
        raise UserError(f"{store.url} is not accepted for runs: {wrong}, so that two could claim one run")


def pull(root: Path, fresh: bool = False) -> None:
    """Copy what has changed of an experiment's states and small files, if it is in a bucket.

    Args:
      root: of the experiment.
      fresh: whether to look even where this process has just looked.

    Raises:
      UserError: the bucket can't be read.
    """
    store = holding(root)
    if store is None or (not fresh and time.monotonic() - _looked.get(root, -FRESH) < FRESH):
        return
    with told(), _alone(root) as index:
        base = key_of(root)
        found = store.list(f"{base}/state") | store.list(f"{base}/submissions") | store.beside(base)
        _copy(store, root, found, index)
        _looked[root] = time.monotonic()


def pull_run(folder: Path) -> None:
    """As `pull`, of one run; always looks."""
    store = holding(folder)
    if store is not None:
        with told(), _alone(folder.parent) as index:
            _copy(store, folder.parent, store.list(key_of(folder)), index, of=f"{key_of(folder)}/")


def pull_whole(root: Path, identities: Iterable[str]) -> None:
    """Copy what reports read of runs that have ended: whole, and once for each end that a run came to."""
    store = holding(root)
    if store is None:
        return

    def copy(identity: str) -> None:
        for name in WHOLE:
            found = store.read(key_of(root / identity / name))
            if found is not None:
                atomic_write(root / identity / name, found[0])

    with told(), _alone(root) as index, ThreadPoolExecutor(_AT_ONCE) as threads:
        ends = {identity: index.get(key_of(root / identity / "summary.json")) for identity in identities}
        due = [identity for identity, end in ends.items() if end is None or index.get(_whole(identity)) != end]
        list(threads.map(copy, due))
        index.update({_whole(one): end for one in due if (end := ends[one]) is not None})


def pull_folder(folder: Path) -> None:
    """Copy all of a folder of an experiment, as its logs."""
    store = holding(folder)
    if store is not None:
        with told():
            base = key_of(folder)
            for key in store.list(base):
                found = store.read(key)
                if found is not None:
                    atomic_write(folder / key.removeprefix(f"{base}/"), found[0])


def _copy(store: Bucket, root: Path, found: dict[str, Listed], index: dict[str, str], of: str = "") -> None:
    """Make the copy what was listed, and the index with it; `of` is what the keys of one run begin with."""
    base = key_of(root)
    within = of or f"{base}/"
    found = {key: one for key, one in found.items() if _OURS.fullmatch(key.removeprefix(f"{base}/"))}
    for gone in [key for key in index if key.startswith(within) and key not in found]:
        _path(root, base, gone).unlink(missing_ok=True)
        del index[gone]
    ended = {key.rpartition("/")[0]: key for key in found if key.endswith("/summary.json")}
    due = [key for key, one in found.items() if index.get(key) != one.tag]
    if not of:  # of a run that has ended the summary says all
        due = [key for key in due if not (key.endswith(f"/{LEASE}") and key.rpartition("/")[0] in ended)]
    few = len(due) <= _FEW

    def keep(key: str, raw: bytes) -> None:
        path = _path(root, base, key)
        if path.name == LEASE and key.rpartition("/")[0] not in ended:
            index.pop(_whole(path.parent.name), None)
            with suppress(ValueError, AttributeError, TypeError, KeyError):
                for name, end in parsed(raw)[SEEN].items():
                    if name in ("metrics.jsonl", "timing.jsonl", "made_of.json"):
                        atomic_write(path.with_name(name), str(end), durable=few)
        atomic_write(path, raw, durable=few)
        os.utime(path, (found[key].changed, found[key].changed))
        index[key] = found[key].tag

    def get(key: str) -> None:
        got = store.read(key)
        if got is not None:  # since the listing
            keep(key, got[0])

    together = _Together(store, f"{base}/{_TOGETHER}", {key: found[key].tag for key in ended.values()}, index)
    if not of and len(set(due) & set(ended.values())) > _FEW:
        there = together.read()
        for key in set(due) & set(there):
            keep(key, there[key])
        due = [key for key in due if key not in there]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(get, due))
    if not few:
        os.sync()  # once for all: the index says that they are there
    if not of and together.lacks_many():
        together.write({key: _path(root, base, key) for key in ended.values() if index.get(key) == found[key].tag})


class _Together:
    """The object that has summaries together: of each, the tag of its state and its text.

    Args:
      store: the bucket.
      key: of the object.
      tags: of the summaries that there are, by their keys.
      index: of the copy; keeps how many of the summaries the object has, as far as is known here.
    """

    def __init__(self, store: Bucket, key: str, tags: dict[str, str], index: dict[str, str]) -> None:
        self._store, self._key, self._tags, self._index = store, key, tags, index
        self._state: Tag | None = None

    def read(self) -> dict[str, bytes]:
        """Those summaries that it has in the state in which they are; none where it is missing or damaged."""
        got, found = self._store.read(self._key), {}
        self._state = got and got[1]
        with suppress(OSError, EOFError, zlib.error, ValueError, TypeError, AttributeError):
            for key, (tag, text) in parsed(gzip.decompress(got[0] if got else b"")).items():
                if self._tags.get(key) == tag:
                    found[key] = text.encode()
        self._index[_TOGETHER] = str(len(found))
        return found

    def lacks_many(self) -> bool:
        """Whether it lacks a tenth of the summaries, and more than a few, as far as is known here."""
        return len(self._tags) > 1.1 * int(self._index.get(_TOGETHER, 0)) + _FEW

    def write(self, paths: dict[str, Path]) -> None:
        """Write it anew of the copies of summaries, unless somebody else has, or this machine may only read."""
        self.read()
        if not self.lacks_many():
            return
        entries = {}
        for key, path in paths.items():
            with suppress(OSError, ValueError):
                entries[key] = [self._tags[key], path.read_bytes().decode()]
        raw = gzip.compress(json.dumps(entries).encode(), 1)
        with suppress(OSError):
            if self._state is None:
                self._store.create(self._key, raw)
            else:
                self._store.replace(self._key, raw, self._state)
        self._index[_TOGETHER] = str(len(paths))


def _path(root: Path, base: str, key: str) -> Path:
    """Of the copy of an object; keys are of our own making, and do not leave the folder."""
    parts = key.removeprefix(f"{base}/").split("/")
    if parts[0] in ("state", "runs") and len(parts) > 2:
        parts = parts[1:]
    if any(part in ("", ".", "..") for part in parts):
        raise OSError(f"{key} is no name of a file of {base}")
    return root.joinpath(*parts)


def _whole(identity: str) -> str:
    return f"whole {identity}"


@contextmanager
def _alone(root: Path) -> Iterator[dict[str, str]]:
    """One process of this machine copies an experiment at a time; gives the index, which is kept at the end."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        index: dict[str, str] = {}
        with suppress(UserError, ValueError, TypeError):
            index = dict(read_json(root / _INDEX))
        before = dict(index)
        try:
            yield index
        finally:
            if index != before:
                write_json(root / _INDEX, index)
