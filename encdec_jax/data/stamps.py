"""Whether files are what they were: hashed once, known again by size, time of change and inode.

    <folder>/checked.json       name of a file -> [its SHA-256, bytes, time of change in ns, inode]

A corpus of terabytes is hashed when it is written, or at its first use where it was copied to, and not by each process
of each run. Whoever changes a file without changing any of these is not found out; `encdec prepare --check` does that.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from encdec_jax.cpus import available
from encdec_jax.errors import UserError
from encdec_jax.files import read_json, sha256_file, write_json

NAME = "checked.json"
SETTLED = 2 * 10**9  # ns: a file changed later than that before it was hashed might change again unseen

Files = Mapping[str, Mapping[str, Any]]  # name -> 'bytes' and 'sha256'


def damage(folder: Path, files: Files) -> str | None:
    """What of the files is not as it should be, in words; None if nothing is.

    Args:
      folder: that they are in; gets the stamps, where it can be written to.
      files: what each should be.
    """
    known, unknown = _read(folder), []
    for name, entry in files.items():
        try:
            found = (folder / name).stat()
        except FileNotFoundError:
            return f"{name} is missing"
        if found.st_size != entry["bytes"]:
            return f"{name} has {found.st_size} bytes, not {entry['bytes']}"
        if known.get(name) != _stamp(entry["sha256"], found):
            unknown.append(name)
    if not unknown:
        return None
    now = time.time_ns()
    before = {name: (folder / name).stat() for name in unknown}
    with ThreadPoolExecutor(len(available())) as threads:
        hashes = threads.map(lambda name: sha256_file(folder / name), unknown)
        for name, sha256 in zip(unknown, hashes, strict=True):
            if sha256 != files[name]["sha256"]:
                return f"{name} has another SHA-256 than its manifest"
    settled = {n: _stamp(files[n]["sha256"], s) for n, s in before.items() if s.st_mtime_ns < now - SETTLED}
    _write(folder, known | settled)
    return None


def stamp(folder: Path, files: Files) -> None:
    """Note files that were just written and hashed. Their times are set back, so that any later change shows."""
    then = time.time_ns() - 5 * SETTLED
    found = {}
    for name, entry in files.items():
        os.utime(folder / name, ns=(then, then))
        found[name] = _stamp(entry["sha256"], (folder / name).stat())
    _write(folder, _read(folder) | found)


def _stamp(sha256: str, found: os.stat_result) -> list[Any]:
    return [sha256, found.st_size, found.st_mtime_ns, found.st_ino]


def _read(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(UserError):
        found = read_json(folder / NAME)
        return found if isinstance(found, dict) else {}
    return {}


def _write(folder: Path, stamps: dict[str, Any]) -> None:
    with contextlib.suppress(UserError):  # of a folder that can't be written to: hashed again by the next
        write_json(folder / NAME, stamps)
