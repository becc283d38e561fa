"""A process, named so that others can tell whether it still lives. Linux: reads /proc."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """The process that holds, or held, a lease.

    Attributes:
      host: name of its machine.
      space: boot and pid namespace of that machine, within which a pid means something.
      pid: of the process.
      started: of the process, in clock ticks since boot; tells it from a later process with the same pid.
      cpus: that the process may use.
    """

    host: str
    space: str
    pid: int
    started: int
    cpus: int

    @classmethod
    def this(cls) -> Holder:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _space(), pid, _started(pid) or 0, len(os.sched_getaffinity(0)))

    @property
    def alive(self) -> bool | None:
        """Whether the process lives; None where that can't be seen from here (another machine, boot or container)."""
        if (self.host, self.space) != (socket.gethostname(), _space()):
            return None
        return _started(self.pid) == self.started


@cache
def _space() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"


def _started(pid: int) -> int | None:
    """When a process started; None if there is none, or only its zombie."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before, in brackets, may hold spaces
    state, started = fields[0], fields[19]  # fields 3 and 22 of proc(5)
    return None if state in "ZX" else int(started)
