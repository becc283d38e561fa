"""Metrics of a run: JSON lines that a restart continues, and TensorBoard beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

from tensorboardX import SummaryWriter

from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write


class MetricsLog:
    """Writes `metrics.jsonl` (the same bytes however often a run was killed), `timing.jsonl` and `tensorboard/`."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Open for appending behind the lines of updates up to `first_step`; later and torn lines are cut off.

        Raises:
          UserError: the folder can't be written to.
        """
        self._metrics = _Lines(folder / "metrics.jsonl", first_step)
        self._timing = _Lines(folder / "timing.jsonl", first_step)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1, flush_secs=30)

    def write(self, *, step: int, **values: float) -> None:
        """Write what training itself gives, after update `step`; values that are not finite become null."""
        self._metrics.write({"step": step, **{name: _finite(value) for name, value in values.items()}})
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def write_timing(self, *, step: int, **values: float) -> None:
        """Write what clocks say, after update `step`."""
        self._timing.write({"step": step, **values})

    def close(self) -> None:
        """Flush and close the files."""
        self._metrics.close()
        self._timing.close()
        self._board.close()


class _Lines:
    def __init__(self, path: Path, last: int) -> None:
        self._path = path
        kept = b"".join(line for line in _whole_lines(path) if json.loads(line)["step"] <= last)
        atomic_write(path, kept)
        self._file: IO[bytes] = path.open("ab")

    def write(self, values: dict[str, float | None]) -> None:
        try:
            self._file.write(json.dumps(values).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"can't write {self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        self._file.close()


def _whole_lines(path: Path) -> list[bytes]:
    """Lines up to the first that a crash has torn."""
    if not path.exists():
        return []
    whole = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        whole.append(line)
    return whole


def _finite(value: float) -> float | None:
    return value if value - value == 0 else None
