"""Tokens in a bucket: written there by `encdec prepare`, and copied to this machine's disk as far as they are read.

    <ENCDEC_CACHE>/tokens/<task>-<vocab>/
        manifest.json                 as in a folder (`encdec_jax.data.cache`), written last
        files/<SHA-256>/<name>        every file that a manifest names; never changed

The copy has the folder's own layout, below the user's cache. A file is copied when it is first opened, range by range,
and counts only with the SHA-256 that the manifest says. Tokens that are made anew are other files: whoever reads the
ones before goes on reading them. How pairs are packed is planned on each machine, the same.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from encdec_jax.bucket import Bucket, bucket
from encdec_jax.data.stamps import damage, stamp
from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write, bucket_url

_FETCHING = ".fetching"  # locked by the process that copies


def there() -> Bucket | None:
    """The bucket of all tokens; None where they are in a folder."""
    url = bucket_url("ENCDEC_CACHE")
    return None if url is None else bucket(url)


def refresh(folder: Path) -> None:
    """Make a copy's manifest the bucket's.

    Raises:
      UserError: the bucket can't be read.
    """
    store = there()
    if store is None:
        return
    path = folder / "manifest.json"
    try:
        found = store.read(f"{_place(folder)}/manifest.json")
        if found is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_bytes() != found[0]:
            atomic_write(path, found[0])
    except OSError as error:
        raise UserError(str(error)) from error


def lacking(folder: Path, files: dict[str, Any]) -> str | None:
    """What a folder lacks of a manifest's files, in words; None if nothing. Of a bucket's, those not yet copied are
    looked for there, and those that were are as they should be, or are removed to be copied again."""
    store = there()
    if store is None:
        return damage(folder, files)
    listed = store.list(f"{_place(folder)}/files")
    for name, entry in files.items():
        found = listed.get(_key(folder, name, entry))
        if found is None:
            return f"{name} is missing in {store.url}"
        if found.size != entry["bytes"]:
            return f"{name} has {found.size} bytes in {store.url}, not {entry['bytes']}"
    for name, entry in files.items():
        if (folder / name).exists() and damage(folder, {name: entry}):
            (folder / name).unlink()
    return None


def present(path: Path, files: dict[str, Any]) -> Path:
    """A file of a cache, copied from the bucket now if it is not on this machine's disk.

    Raises:
      UserError: it can't be read there, is damaged, or the disk is full.
    """
    store = there()
    if store is None or path.exists():
        return path
    entry = files[path.name]
    try:
        with _alone(path.parent):
            if not path.exists():
                store.fetch(_key(path.parent, path.name, entry), path, entry["bytes"], entry["sha256"])
                stamp(path.parent, {path.name: entry})
    except OSError as error:
        raise UserError(f"can't copy {path.name} to {path.parent}: {error.strerror or error}") from error
    return path


def upload(making: Path, folder: Path, files: dict[str, Any]) -> None:
    """Write a whole cache to the bucket, if there is one: what it has not yet, and the manifest last.

    Args:
      making: the folder that the cache is in.
      folder: that it will be in.
      files: of its manifest.
    """
    store = there()
    if store is None:
        return
    listed = store.list(f"{_place(folder)}/files")
    for name, entry in files.items():
        key = _key(folder, name, entry)
        if key not in listed or listed[key].size != entry["bytes"]:
            store.write(key, making / name)
    store.write(f"{_place(folder)}/manifest.json", (making / "manifest.json").read_bytes())


def _place(folder: Path) -> str:
    return f"tokens/{folder.name}"


def _key(folder: Path, name: str, entry: dict[str, Any]) -> str:
    if Path(name).name != name:
        raise OSError(f"the manifest of {folder.name} names {name!r}, which is no file of its folder")
    return f"{_place(folder)}/files/{entry['sha256']}/{name}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process of this machine copies at a time: the others would copy the same."""
    with (folder / _FETCHING).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
