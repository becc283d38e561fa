"""Mirrors of a run's metrics: TensorBoard, W&B, trackio. No jax here.

metrics.jsonl in the run's folder is the truth. A mirror may fail, hang or lack a network: it works on a thread of its
own behind a queue that has an end, so that a run never waits for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from encdec_jax.errors import UserError, require
from encdec_jax.files import environment

log = logging.getLogger(__name__)
VARIABLE = "ENCDEC_MIRRORS"
ROOM = 1000  # entries that may wait
FLUSHED = 30.0  # seconds between two flushes of an event file
PATIENCE = 10.0  # seconds that a run's end waits for what is left

Write = Callable[[int, Mapping[str, float]], None]
Opened = tuple[Write, Callable[[], object]]  # what writes the values of a step, and what ends the mirror


def asked() -> tuple[str, ...]:
    """The mirrors that the environment's ENCDEC_MIRRORS asks for: names with commas between; 'tensorboard' if unset.

    Raises:
      UserError: a mirror is unknown, or its package is not installed.
    """
    text = environment(VARIABLE) or "tensorboard"
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        require(name in _OPEN, VARIABLE, text, "names with commas between, of: " + ", ".join(_OPEN))
        package = "tensorboardX" if name == "tensorboard" else name
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{VARIABLE} = {text!r} is not accepted: {package} is not installed here (pip install it)")
    return names


class Mirror:
    """One mirror, from its opening to its end on a thread of its own; nothing that it does reaches the run."""

    def __init__(self, name: str, folder: Path, first_step: int) -> None:
        """Begin to mirror a run.

        Args:
          name: one of those `asked`.
          folder: of the run.
          first_step: the update that the run begins or goes on from; what is beyond, a killed process wrote.
        """
        self._name = name
        self._queue: queue.Queue[tuple[int, Mapping[str, float]] | None] = queue.Queue(ROOM)
        self._dropped, self._failed = 0, False
        self._thread = threading.Thread(target=self._work, args=(folder, first_step), name=name, daemon=True)
        self._thread.start()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Have the values of an update written, unless the mirror is too far behind; does not wait."""
        try:
            self._queue.put_nowait((step, values))
        except queue.Full:
            self._dropped += 1
            if self._dropped == 1 and not self._failed:
                said = "%s lags %d entries behind: it lacks those that come now; the run's files have all"
                log.warning(said, self._name, ROOM)

    def close(self) -> None:
        """End the mirror, and wait a little for what it has still to write; what it then lacks is said."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=PATIENCE if self._thread.is_alive() else 0)
        self._thread.join(PATIENCE)
        if not self._failed and (self._thread.is_alive() or self._dropped):
            lacks = self._queue.qsize() + self._dropped
            log.warning("%s did not come to its end: it lacks %d entries; the run's files have all", self._name, lacks)

    def _work(self, folder: Path, first_step: int) -> None:
        try:
            write, close = _OPEN[self._name](folder, first_step)
            while (entry := self._queue.get()) is not None:
                write(*entry)
            close()
        except Exception as error:  # whatever a library may raise
            self._failed = True
            said = (str(error).splitlines() or [""])[0]
            log.warning("%s failed, and the run goes on without it: %s: %s", self._name, type(error).__name__, said)


def _tensorboard(folder: Path, first_step: int) -> Opened:
    """Through the writer of event files alone: SummaryWriter's own thread dies silently of a full disk, and its end
    then hangs the interpreter's."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import scalar

    where = folder / "tensorboard"
    where.mkdir(parents=True, exist_ok=True)
    events = EventsWriter(str(where / "events"), f".{first_step}.{os.getpid()}")  # its own name has seconds
    begun = SessionLog(status=SessionLog.START)  # hides what is at or beyond its step in files before
    events.write_event(Event(wall_time=time.time(), step=first_step + 1, session_log=begun))
    flushed = time.monotonic()

    def write(step: int, values: Mapping[str, float]) -> None:
        nonlocal flushed
        for name, value in values.items():
            events.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        if time.monotonic() - flushed > FLUSHED:
            events.flush()
            flushed = time.monotonic()

    return write, events.close


def _tracked(package: str) -> Callable[[Path, int], Opened]:
    """W&B, and trackio, which has its interface: the project is the experiment, the run's name its id."""

    def opened(folder: Path, first_step: int) -> Opened:
        tracker = importlib.import_module(package)
        where = folder.absolute()
        begun = tracker.init(project=where.parent.name, name=where.name, resume="allow", **_PLACE[package](where))
        return lambda step, values: begun.log(dict(values), step=step), begun.finish

    return opened


# W&B would take what the process prints for its own, and wait without end for a network at the process's end: what has
# not gone out then stays in the run's folder, for `wandb sync`.
_WANDB = {"console": "off", "finish_timeout": PATIENCE}
_PLACE: dict[str, Callable[[Path], dict[str, object]]] = {
    "wandb": lambda folder: {"id": folder.name, "dir": str(folder), "settings": _WANDB},
    "trackio": lambda folder: {},
}
_OPEN = {"tensorboard": _tensorboard, "wandb": _tracked("wandb"), "trackio": _tracked("trackio")}
