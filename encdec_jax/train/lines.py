"""Lines of JSON that each know all lines before them: none is lost or changed unseen. No jax here."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write

log = logging.getLogger(__name__)
_DIGITS = 16
_MARK = ', "hash": "'


class Lines:
    """A file of lines with a `step` each, that a restarted run goes on with.

    Behind its values each line has a `hash`: of the line's own values and of the hash before, which no line can be
    taken out of, put into or changed without.

    The file is a new one for each holder of the run, so that a former one that thaws adds to none. If such a one was
    about to put its own in that place, this one finds at its next line that the file there is another, and writes anew.
    """

    def __init__(
        self, path: Path, last: int, copy: str | None = None, check: Callable[[], None] = lambda: None
    ) -> None:
        """Open for appending behind the lines of steps up to `last`; what a killed process wrote beyond is cut off.

        Args:
          path: of the file.
          last: the step that the run goes on from.
          copy: the lines up to there, where another place has them (`text`, as it was): they replace damaged ones. None
            where none has; then what is whole is kept. Either way what was found is said.
          check: asked right before the file takes its place; does not return if the run is another's.

        Raises:
          UserError: the folder can't be written to.
        """
        self._path, self._check = path, check
        kept = _chained(_read(path))
        whole = "".join(line for line, values in kept if values["step"] <= last)
        if copy is not None and whole != copy:
            log.warning("%s was damaged or missing: mended up to update %d from the checkpoint's copy", path, last)
            whole = copy
        elif copy is None and last and not (kept and kept[-1][1]["step"] >= last):
            log.warning("%s is damaged or missing: what it said of updates up to %d is lost", path, last)
        self._lines = [whole]
        self._hash = _hash_of(whole.rpartition("\n")[0].rpartition("\n")[2])
        self._file = self._made()

    def write(self, values: dict[str, float | None]) -> None:
        """Append a line, and hand it to the system.

        Raises:
          UserError: the disk is full.
        """
        body = json.dumps(values)
        self._hash = _next(self._hash, body)
        line = f'{body[:-1]}{_MARK}{self._hash}"}}\n'
        try:
            self._mend()
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise UserError(f"can't write {self._path}: {error.strerror or error}") from error
        self._lines.append(line)

    @property
    def text(self) -> str:
        """What the file holds."""
        return "".join(self._lines)

    def close(self) -> None:
        """Close the file.

        Raises:
          UserError: the file is another now, and can't be written anew.
        """
        with suppress(OSError):
            self._mend()
        self._file.close()

    def _made(self) -> IO[bytes]:
        atomic_write(self._path, self.text, self._check)
        return self._path.open("ab")

    def _mend(self) -> None:
        """Write the file anew if it is another than this process's."""
        try:
            if os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno())):
                return
        except FileNotFoundError:
            pass
        made = self._made()
        self._file.close()
        self._file = made


def read_lines(path: Path, last: int | None = None) -> list[dict[str, Any]]:
    """The values of a file's lines, each checked against the hash that it should have.

    Files of runs from before lines had hashes are read as they are: their first line says so.

    Args:
      path: of the file.
      last: the step that the last line must be of; None for any.

    Raises:
      UserError: the file can't be read, or a line of it is damaged or missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        hashed = not lines or "hash" in lines[0]
        whole = len(_chained(text)) if hashed else len(lines)
        ends = lines[-1]["step"] if lines else 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if whole < len(lines):
        raise UserError(f"{path} is damaged: line {whole + 1} is not what the run wrote behind the line before")
    if hashed and last is not None and ends != last:
        raise UserError(f"{path} is damaged: it ends with update {ends}, and the run with update {last}")
    return lines


def _read(path: Path) -> str:
    return path.read_bytes().decode(errors="replace") if path.exists() else ""


def _chained(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Lines with their values, up to the first that is torn or is not what was written behind the one before."""
    found, digest = [], ""
    for line in text.splitlines(keepends=True):
        head, mark, _ = line.rpartition(_MARK)
        digest = _next(digest, head + "}")
        if not mark or line != f'{head}{_MARK}{digest}"}}\n':
            break
        found.append((line, json.loads(line)))
    return found


def _hash_of(line: str) -> str:
    return json.loads(line)["hash"] if line else ""


def _next(before: str, body: str) -> str:
    return hashlib.sha256((before + body).encode()).hexdigest()[:_DIGITS]
