"""The state of a run, read from its folder: disk is the only truth, whoever asks and whatever was killed."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write, parsed, read_json
from encdec_jax.sweep.claim import condition, held_by
from encdec_jax.train.objects import holding, key_of, put, remove, told
from encdec_jax.train.summary import read_summary

Status = Literal["pending", "waiting", "running", "stale", "done", "diverged", "failed", "damaged"]

_TAIL = 4096  # bytes at the end of metrics.jsonl that surely hold its last line


@dataclass(frozen=True)
class RunState:
    """What is known of a run.

    Attributes:
      status: 'done' and 'diverged' runs have a summary, 'failed' ones an error; 'running' ones are claimed by a living
        process, 'stale' ones by one that is gone or makes no progress; 'damaged' ones have a file that can't be
        believed; 'waiting' ones are to begin at a run of another experiment that is not done
        (`encdec_jax.sweep.waiting`); all others are 'pending', begun or not.
      tokens: trained on so far.
      summary: of a run that came to its end, else None.
      error: of a run that failed, what is damaged and what to do, who holds a stale one, what a waiting one
        waits for; else None.
    """

    status: Status
    tokens: int
    summary: dict[str, Any] | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the run came to an end, good or bad: it has a row."""
        return self.status in ("done", "diverged", "failed", "damaged")

    @property
    def left_alone(self) -> bool:
        """Whether workers have nothing to do on it before the next `encdec run`: it has ended, or waits for others."""
        return self.ended or self.status == "waiting"

    @property
    def reason(self) -> str | None:
        """The last line of the error."""
        return None if self.error is None else self.error.strip().rpartition("\n")[2]


def run_state(folder: Path) -> RunState:
    """The state of the run in `folder`, which need not exist. One damaged run keeps nobody from the others."""
    try:
        return _state(folder)
    except UserError as error:
        return RunState("damaged", 0, error=str(error))
    except OSError as error:
        what = f"{error.filename or folder} is damaged: remove it, and the run goes on"
        return RunState("damaged", 0, error=f"{what} ({error.strerror or error})")


def _state(folder: Path) -> RunState:
    summary = folder / "summary.json"
    claimed = None if summary.exists() else condition(folder)
    if claimed is None or summary.exists():  # a run may have ended between the two looks
        found = read_summary(summary)
        return RunState(found["status"], found["tokens_seen"], summary=found)
    tokens = _tokens(folder / "metrics.jsonl")
    if claimed == "held":
        return RunState("running", tokens)
    error = _text(folder / "error.txt")
    if error is not None:
        return RunState("failed", tokens, error=error)
    if claimed == "stale":
        return RunState("stale", tokens, error=f"held by {held_by(folder)}")
    return RunState("pending", tokens)


def counts(states: dict[str, RunState]) -> str:
    """How many runs are in each state: '27 runs: 20 done, 2 running, 5 pending'."""
    found = [state.status for state in states.values()]
    parts = [f"{found.count(status)} {status}" for status in get_args(Status) if status in found]
    return f"{len(states)} runs: {', '.join(parts)}"


def write_error(folder: Path, error: Exception, check: Callable[[], None] = lambda: None) -> None:
    """Make the run a failed one: a user's error by its line, any other by its traceback, last line last.

    Args:
      folder: of the run.
      error: why it failed.
      check: asked right before the error takes its place, as `atomic_write` does; in a bucket it is only ever created.

    Raises:
      UserError: the folder or the bucket can't be written to.
    """
    said = str(error) if isinstance(error, UserError) else "".join(traceback.format_exception(error))
    path, text, store = folder / "error.txt", f"{said.rstrip()}\n", holding(folder)
    atomic_write(path, text, check)
    if store is not None:
        with told():
            check()
            store.create(key_of(path), text.encode())


def forgive(folder: Path) -> bool:
    """Make a failed run pending again; its error is kept as error.previous.txt. Returns whether there was one.

    Raises:
      UserError: the folder can't be written to.
    """
    error, before = folder / "error.txt", folder / "error.previous.txt"
    try:
        if holding(folder) is None:
            error.replace(before)
        else:
            put(before, error.read_bytes())
            remove(error)
    except FileNotFoundError:
        return False
    except OSError as refused:
        raise UserError(f"can't write {folder}: {refused.strerror or refused}") from refused
    return True


def _tokens(metrics: Path) -> int:
    """Tokens of the last whole line of metrics.jsonl; 0 if there is none."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            whole, _, _ = file.read().rpartition(b"\n")
        tokens = int(parsed(whole.rpartition(b"\n")[2])["tokens"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError):
        return 0
    return tokens if 0 <= tokens < 2**63 else 0


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def task_scores(folder: Path) -> dict[str, float]:
    """What `encdec evaluate` found of a run here, the numbers among it: by METRIC TASK-SPLIT."""
    found = {}
    for path in sorted(folder.glob("evaluations/*/scores.json")):
        for name, score in read_json(path)["scores"].items():
            if isinstance(score["value"], int | float):
                found[f"{name} {path.parent.name}"] = float(score["value"])
    return found
