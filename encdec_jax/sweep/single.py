"""`encdec train`: one run, outside any experiment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from encdec_jax.config import RunConfig
from encdec_jax.errors import UserError
from encdec_jax.files import compilation_cache, runs_root
from encdec_jax.sweep.claim import claim
from encdec_jax.sweep.identity import run_id
from encdec_jax.sweep.signals import interrupts
from encdec_jax.text import progress_console


def train_one(run: RunConfig, folder: Path | None) -> int:
    """Train and score one run, or go on with it, and print its result and where it is.

    Args:
      run: the configuration.
      folder: of the run; None for runs/single/<run id>.

    Returns:
      the exit code: 0, or 130 if a signal ended the run early, after it was saved.

    Raises:
      UserError: another process works in the folder, it holds another run, or the data or devices do not fit.
    """
    where = folder or runs_root() / "single" / run_id(run)
    lease = claim(where, lost=lambda: os._exit(1))
    if lease is None:
        raise UserError(f"folder = {str(where)!r} is not accepted: another process trains there")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compilation_cache()
    from encdec_jax.train.loop import train

    console = progress_console()
    columns = (TextColumn("updates"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with lease, interrupts() as stopped, progress as bar:
        task = bar.add_task("train", total=None)
        summary = train(
            run,
            where,
            stop=stopped,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if summary is None:
        print(f"interrupted and saved: {where}; give the same command again to go on", file=sys.stderr)
        return 130
    rate = summary["suffix_bits_per_byte"]
    score = "" if rate is None else f", {rate:.4f} bits per byte of held-out suffixes"
    print(f"{summary['status']}: {summary['tokens_seen']:,} tokens in {summary['updates']} updates{score}")
    print(f"run: {where}")
    return 0
