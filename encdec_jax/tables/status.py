"""`encdec status`: how far an experiment's runs are."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from encdec_jax.errors import require
from encdec_jax.submit.watch import Watched, watched
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.text import amount, console, duration, shape, table

_NUMBERS = ("seed", "lr", "budget", "tokens", "bits/byte")
_AT_WORK = ("step", "tokens/s", "MFU", "left", "heart beat")
PERIOD = 5.0  # seconds between two looks of --watch


def print_status(folder: Path, watch: bool = False, as_json: bool = False) -> int:
    """Print each run's state, and how many there are of each.

    Args:
      folder: of the experiment.
      watch: whether to do so again and again, until every run has ended or waits for other experiments.
      as_json: whether to print one JSON object.

    Returns:
      0, the exit code.

    Raises:
      UserError: the folder holds no sound experiment, or a cluster does not answer.
    """
    require(not (watch and as_json), "watch", watch, "not together with --json")
    experiment = load(folder)
    printer = console()
    while True:
        found = watched(experiment)
        if watch and printer.is_terminal:
            printer.clear()
        if as_json:
            print(json.dumps(status_json(experiment, found), indent=1))
        else:
            _print(experiment, found, printer)
        if not watch or all(one.state.left_alone for one in found):
            return 0
        time.sleep(PERIOD)


def status_json(experiment: Experiment, found: Sequence[Watched]) -> dict[str, Any]:
    """Plain data: the experiment's name, how many runs are in each state, and `Watched.row` of each."""
    rows = [one.row() for one in found]
    return {"experiment": experiment.name, "counts": dict(Counter(row["status"] for row in rows)), "runs": rows}


def _print(experiment: Experiment, found: Sequence[Watched], printer: Console) -> None:
    rows = [one.row() for one in found]
    more = [*(_AT_WORK if any(one.step is not None for one in found) else ())]
    jobs = any(one.job for one in found)
    out = table(
        "run", "status", "label", "layers x width", *_NUMBERS, *more, *(["job"] if jobs else []), "error", left=4
    )
    out.columns[-1].justify, out.columns[-1].no_wrap, out.columns[-1].overflow = "left", False, "fold"
    for one, row in zip(found, rows, strict=True):
        cells = [*_cells(experiment, one, row["status"]), *(_at_work(one) if more else [])]
        cells += [f"{row['job']} {row['job_state']}" if one.job else ""] if jobs else []
        out.add_row(one.run_id, *cells, row["error"] or "")
    printer.print(out)
    counts = Counter(row["status"] for row in rows)
    printer.print(f"{experiment.name}: {len(rows)} runs: {', '.join(f'{n} {name}' for name, n in counts.items())}")


def _cells(experiment: Experiment, one: Watched, status: str) -> list[str]:
    run = experiment.runs[one.run_id]
    rate = (one.state.summary or {}).get("suffix_bits_per_byte")
    share = 1.0 if one.state.status == "done" else min(1.0, one.state.tokens / one.tokens)
    return [
        status,
        one.label,
        shape(run),
        str(run.train.seed),
        f"{run.optim.lr:.3g}",
        "-" if run.budget_flops is None else f"{run.budget_flops:.3g}",
        f"{share:.0%} of {amount(one.tokens)}",
        "" if rate is None else f"{rate:.4f}",
    ]


def _at_work(one: Watched) -> list[str]:
    if one.step is None:
        return [""] * len(_AT_WORK)
    return [
        f"{one.step} of {one.steps}",
        "-" if one.tokens_per_s is None else amount(one.tokens_per_s),
        "-" if one.mfu is None else f"{one.mfu:.1%}",
        "-" if one.eta_s is None else duration(one.eta_s),
        "-" if one.heartbeat_s is None else f"{duration(max(0.0, one.heartbeat_s))} ago",
    ]
