"""The files of runs as objects of a bucket, where ENCDEC_RUNS is one: which object each is, and copies of runs.

What is read of runs in a bucket is copied below `encdec_jax.files.runs_root`, and laid out there as on a disk. Paths of
runs are those of the copies, whether there are any yet or not. No jax here.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from encdec_jax.bucket import Bucket, Damaged, Listed, bucket
from encdec_jax.errors import UserError, require
from encdec_jax.files import atomic_write, bucket_url, expanded, runs_root, sha256_file

log = logging.getLogger(__name__)
LEASE = "lease.json"
MANIFEST_OF = re.compile(r"manifest-((?:lease(\d+)_)?(\d+))-\d+-of-\d+\.json")  # of one process
MANIFEST = re.compile(r"manifest-((?:lease(\d+)_)?(\d+))-0-of-1\.json")
STATE = (LEASE, "summary.json", "error.txt", "error.previous.txt", "killed.txt")
_RUN = re.compile(r"[0-9a-f]{12}")


class Refused(UserError):
    """A bucket could not be read or written to, though it was asked again for some time: nothing that a run did."""


def holding(path: Path) -> Bucket | None:
    """The bucket that a file or folder of runs is in; None where it is on a disk."""
    url = bucket_url("ENCDEC_RUNS")
    return bucket(url) if url is not None and path.is_relative_to(runs_root()) else None


def key_of(path: Path) -> str:
    """Where in the bucket a file of the copy is."""
    parts = path.relative_to(runs_root()).parts
    place = next((i for i, part in enumerate(parts) if _RUN.fullmatch(part)), None)
    if place is None:
        return "/".join(parts)
    kind = "state" if parts[place + 1 :] == () or (parts[-1] in STATE and len(parts) == place + 2) else "runs"
    return "/".join((*parts[:place], kind, *parts[place:]))


def put(path: Path, data: str | bytes) -> None:
    """Write a file of runs whole, and where they are in a bucket, the object.

    Raises:
      UserError: the folder or the bucket can't be written to.
    """
    atomic_write(path, data)
    store = holding(path)
    if store is not None:
        with told():
            store.write(key_of(path), data.encode() if isinstance(data, str) else data)


def put_json(path: Path, value: Any) -> None:
    """As `put`, of a value as JSON."""
    put(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def remove(path: Path) -> None:
    """Remove a file of runs, if it is there."""
    path.unlink(missing_ok=True)
    store = holding(path)
    if store is not None:
        with told():
            store.remove([key_of(path)])


def run_folder(given: str | Path) -> Path:
    """The folder of the run that a path names, as it stands or below ENCDEC_RUNS; where there is none, the path."""
    places = _places(given)
    return next((place for place in places if (place / "config.json").exists()), places[0])


def fetch_run(given: str | Path, update: int | None = None) -> Path:
    """As `run_folder`; of a run in a bucket, what `encdec_jax.train.restore` reads is copied there first.

    Args:
      given: the path.
      update: of the checkpoint that is to be read; None for the newest that is whole.

    Raises:
      UserError: the bucket can't be read, or has no such checkpoint.
    """
    for place in _places(given):
        copy_run(place, update)
        if (place / "config.json").exists():
            break
    return run_folder(given)


def _places(given: str | Path) -> list[Path]:
    path = expanded(str(given))
    return list(dict.fromkeys((path, runs_root() / path)))


def copy_run(folder: Path, update: int | None = None, field: str = "update") -> None:
    """Make a folder's copy what a run in a bucket is: its small files, and one checkpoint. On a disk, do nothing.

    Args:
      folder: of the run.
      update: of the checkpoint; None for the newest that is whole.
      field: that named the update, for messages.

    Raises:
      UserError: as `fetch_run`.
    """
    store = holding(folder)
    if store is None:
        return
    with told():
        base = key_of(folder / "x").removesuffix("/x")
        found = store.list(base)
        if f"{base}/config.json" not in found:
            return
        for path in (*folder.glob("*.json"), *folder.glob("checkpoints/manifest-*")):
            if f"{base}/{path.relative_to(folder)}" not in found and path.name not in STATE:
                path.unlink()
        for key, one in found.items():
            if key.endswith((".json", ".safetensors")) and "/" not in (name := key.removeprefix(f"{base}/")):
                store.fetch(key, folder / name, one.size)
        ended = store.read(key_of(folder / "summary.json"))
        if ended is None:
            (folder / "summary.json").unlink(missing_ok=True)
        else:
            atomic_write(folder / "summary.json", ended[0])
        inside, to = f"{base}/checkpoints", folder / "checkpoints"
        there = sealed(inside, found)
        for path in to.glob("*"):
            if path.is_dir() and path.name not in {one[1] for one in there}:
                shutil.rmtree(path)
        copied = fetch_newest(store, inside, to, found, update)
        known = ", ".join(sorted({one[3] for one in there}, key=int)) or "none"
        accepted = f"one with a whole checkpoint in {store.url}/{inside}: {known}"
        require(update is None or copied is not None, field, update, accepted)


def sealed(inside: str, found: Mapping[str, Listed]) -> list[re.Match[str]]:
    """The manifests, by `MANIFEST`, among the objects that were listed of a run; the newest first."""
    names = [key.removeprefix(f"{inside}/") for key in found if key.startswith(f"{inside}/")]
    manifests = [one for name in names if (one := MANIFEST.fullmatch(name))]
    return sorted(manifests, key=lambda one: (int(one[3]), int(one[2] or 0)), reverse=True)


def fetch(store: Bucket, inside: str, manifest: re.Match[str], to: Path, found: Mapping[str, Listed]) -> None:
    """Copy a checkpoint, its manifest last, as it was written. Files that are there, and whole, stay.

    Args:
      store: the bucket.
      inside: key of the run's checkpoints.
      manifest: of the checkpoint, one of `sealed`.
      to: the folder of checkpoints.
      found: what was listed of the run.

    Raises:
      ValueError, KeyError, FileNotFoundError, Damaged: the checkpoint is damaged.
      OSError: the bucket can't be read.
    """
    there = store.read(f"{inside}/{manifest[0]}")
    hashes = json.loads(there[0]) if there is not None else {}
    if there is None or not hashes:
        raise ValueError("its manifest is empty")
    for name, sha256 in hashes.items():
        path = to / manifest[1] / name
        if not path.resolve().is_relative_to((to / manifest[1]).resolve()):
            raise ValueError(f"its manifest names {name!r}")
        if not path.is_file() or sha256_file(path) != sha256:
            key = f"{inside}/{manifest[1]}/{name}"
            store.fetch(key, path, found[key].size, sha256)
    atomic_write(to / manifest[0], there[0])


def fetch_newest(
    store: Bucket, inside: str, to: Path, found: Mapping[str, Listed], update: int | None = None
) -> re.Match[str] | None:
    """As `fetch`, of the newest checkpoint that is whole, or of that of an update; None where there is none.

    Those that are damaged are said to be passed over.
    """
    for one in sealed(inside, found):
        if update not in (None, int(one[3])):
            continue
        try:
            fetch(store, inside, one, to, found)
        except (ValueError, KeyError, FileNotFoundError, Damaged) as error:
            log.warning("checkpoint %s in %s is passed over: %s", one[1], store.url, error)
            shutil.rmtree(to / one[1], ignore_errors=True)
            continue
        return one
    return None


@contextmanager
def told() -> Iterator[None]:
    """Within, what fails of a bucket is a `Refused`, in one line."""
    try:
        yield
    except OSError as error:
        raise Refused(f"{error.strerror or error}") from error
