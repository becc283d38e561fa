"""`encdec train`: one run, outside any experiment."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from encdec_jax.config import RunConfig
from encdec_jax.errors import UserError, require
from encdec_jax.files import compilation_cache, runs_root
from encdec_jax.sweep.claim import claim, condition, held_by
from encdec_jax.sweep.identity import run_id
from encdec_jax.sweep.lease import TTL, Lease
from encdec_jax.sweep.replica import pull_run
from encdec_jax.sweep.scratch import check_processes, scratch
from encdec_jax.sweep.signals import interrupts
from encdec_jax.text import amount, progress_console
from encdec_jax.train.fence import Fence

if TYPE_CHECKING:
    from encdec_jax.train.loop import Progress as Seen

PERIOD = 30.0  # seconds between two lines of progress, where there is no terminal


def train_one(run: RunConfig, folder: Path | None) -> int:
    """Train and score one run, or go on with it, and print its result and where it is.

    A run may span hosts: give each the same command, and `encdec_jax.train.hosts.join` what it needs.

    Args:
      run: the configuration.
      folder: of the run; None for runs/single/<run id>.

    Returns:
      the exit code: 0, or 130 if a signal ended the run early, after it was saved.

    Raises:
      UserError: another process works in the folder, it holds another run, or the data or devices do not fit.
    """
    require(not run.train.trunk, "train.trunk", run.train.trunk, "'' outside of an experiment, which has its trunk")
    where = folder or runs_root() / "single" / run_id(run)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compilation_cache()
    import jax

    from encdec_jax.train.hosts import first, join, together
    from encdec_jax.train.loop import train

    join()
    with together():  # a job's first process claims the folder for all of it
        check_processes(where, jax.process_count())
        lease = _claimed(where) if first() else None
        pull_run(where)
    fence = Fence() if lease is None else Fence(lease.number, lease.check, lease.progressed)
    ended = (where / "summary.json").exists()
    place = nullcontext(where) if ended else scratch(run, where, lease)
    with lease or nullcontext(), interrupts() as stopped, place as here, _RunProgress(first()) as tell:
        summary = train(run, here, stop=stopped, progress=tell, fence=fence)
    if not first():
        return 130 if summary is None else 0
    if summary is None:
        print(f"interrupted and saved: {where}; give the same command again to go on", file=sys.stderr)
        return 130
    rate = summary["suffix_bits_per_byte"]
    score = "" if rate is None else f", {rate:.4f} bits per byte of held-out suffixes"
    if ended:
        print("this run had ended already; nothing was done", file=sys.stderr)
    print(f"{summary['status']}: {summary['tokens_seen']:,} tokens in {summary['updates']:,} updates{score}")
    print(f"run: {where}")
    return 0


def _claimed(folder: Path) -> Lease:
    """Claim a folder, if need be after a wait, of at most `TTL`, for one whose heart stands still.

    Raises:
      UserError: another process trains there, or the folder can't be written to.
    """
    told = False
    pull_run(folder)
    while (lease := claim(folder, lost=_vanish)) is None:
        if condition(folder) == "held":
            raise UserError(f"folder = {str(folder)!r} is not accepted: {held_by(folder)}, trains there")
        if not told:
            told = True
            print(f"{folder}: waiting at most {TTL:.0f} s for {held_by(folder)}", file=sys.stderr, flush=True)
        time.sleep(1.0)
        pull_run(folder)
    return lease


def _vanish() -> None:
    """End this process at once, with all its threads: the folder is another's now."""
    print(
        "the folder was taken over by another process: this one did not beat for too long", file=sys.stderr, flush=True
    )
    os._exit(1)


class _RunProgress:
    """On a terminal a bar, with loss and speed; elsewhere a line of them now and then."""

    def __init__(self, speaks: bool) -> None:
        self._speaks, self._console = speaks, progress_console()
        shown = TextColumn("loss {task.fields[loss]}, {task.fields[speed]} tokens/s")
        columns = (TextColumn("updates"), BarColumn(), MofNCompleteColumn(), shown, TimeRemainingColumn())
        self._bar = Progress(
            *columns, console=self._console, transient=True, disable=not (speaks and self._console.is_terminal)
        )
        self._task = self._bar.add_task("train", total=None, loss="-", speed="-")
        self._last: float | None = None

    def __enter__(self) -> _RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def __call__(self, seen: Seen) -> None:
        if not self._speaks:
            return
        if self._last is None:
            self._last = time.monotonic()
            begun = f"goes on behind update {seen.updates:,}" if seen.updates else "begins"
            self._console.print(f"{begun}, of {seen.total:,} updates; the first call compiles")
        loss, speed = f"{seen.loss:.4f}", amount(seen.tokens_per_s)
        self._bar.update(self._task, completed=seen.updates, total=seen.total, loss=loss, speed=speed)
        if self._bar.disable and (time.monotonic() - self._last >= PERIOD or seen.updates == seen.total):
            self._last = time.monotonic()
            self._console.print(f"update {seen.updates:,} of {seen.total:,}: loss {loss}, {speed} tokens/s")
