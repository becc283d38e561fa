"""A process, named so that others can tell whether it still lives, where that can be told at all."""

from __future__ import annotations

import atexit
import fcntl
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

_WITNESSES = Path("/tmp")  # of this machine or container alone; whoever shares it shares its locks too
_PREFIX = "encdec-witness-"


@dataclass(frozen=True)
class Holder:
    """The process that holds, or held, a lease.

    Attributes:
      host: name of its machine. Machines may share one, and containers a pid: neither says whether a process lives.
      pid: of the process.
      cpus: that the process may use.
      witness: name of a file in the machine's /tmp that the process keeps locked as long as it lives, by `flock`. It is
        random, so that no other machine has it; empty where there is no room for it.
    """

    host: str
    pid: int
    cpus: int
    witness: str

    @classmethod
    def this(cls) -> Holder:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), len(os.sched_getaffinity(0)), _witness(os.getpid()))

    @classmethod
    def of(cls, said: Any) -> Holder:
        """The process that a lease names.

        Raises:
          KeyError, TypeError: it names none.
        """
        given = {field.name: said[field.name] for field in fields(cls)}
        if any(type(given[field.name]).__name__ != field.type for field in fields(cls)):
            raise TypeError("it was not written by a holder")
        return cls(**given)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def dead(self) -> bool:
        """Whether the process has ended for certain; False too where that can't be seen from here."""
        path = _WITNESSES / self.witness
        if not self.witness.startswith(_PREFIX) or path.name != self.witness:
            return False
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, ValueError):  # another machine's, or container's; or swept away
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(handle)
        return True

    def bury(self) -> None:
        """Remove what a dead process left on this machine, once its run has another holder."""
        if self.dead:
            with suppress(OSError):  # another user's, which the machine will sweep away
                (_WITNESSES / self.witness).unlink()


@cache
def _witness(pid: int) -> str:
    """The name of this process's locked file; the file stays open, and so locked, to the end of the process."""
    try:
        handle, path = tempfile.mkstemp(prefix=_PREFIX, dir=_WITNESSES)
        os.fchmod(handle, 0o644)  # other users see the process's end too
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return ""
    atexit.register(Path(path).unlink, missing_ok=True)
    return os.path.basename(path)
