"""Hidden folders that one process at a time writes in, and that do not stay for ever."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOCK = "lock"
ABANDONED = 7 * 86400.0  # seconds after which a hidden folder that nobody holds is removed


@contextlib.contextmanager
def held(hidden: Path) -> Iterator[bool]:
    """Within, this process alone writes in a hidden folder; gives whether another one that did was waited for."""
    waited = False
    while True:
        hidden.mkdir(exist_ok=True)
        with (hidden / LOCK).open("w") as lock:
            if not _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                print(f"waiting for another process, which prepares the same in {hidden}")
                waited = True
                _locked(lock, fcntl.LOCK_EX)
            if _same(hidden / LOCK, os.fstat(lock.fileno())):  # not put into place meanwhile
                yield waited
                return


def remove_abandoned(parent: Path) -> None:
    """Remove hidden folders of processes that were killed long ago."""
    for path in parent.glob(".*"):
        with contextlib.suppress(OSError):
            if path.is_dir() and time.time() - path.stat().st_mtime > ABANDONED:
                if (path / LOCK).exists():
                    with (path / LOCK).open() as lock:
                        if not _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                            continue
                shutil.rmtree(path, ignore_errors=True)


def _same(path: Path, file: os.stat_result) -> bool:
    try:
        return path.stat().st_ino == file.st_ino
    except FileNotFoundError:
        return False


def _locked(lock: Any, how: int) -> bool:
    try:
        fcntl.flock(lock, how)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody can be told apart from a process that is dead
        return True
    return True
