"""`encdec status`: how far an experiment's runs are."""

from __future__ import annotations

from pathlib import Path

from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.store import RunState, counts, run_state
from encdec_jax.text import amount, console, shape, table

_NUMBERS = ("seed", "lr", "budget", "tokens", "bits/byte")


def print_status(folder: Path) -> int:
    """Print each run's state, and how many there are of each.

    Returns:
      0, the exit code.

    Raises:
      UserError: the folder holds no sound experiment.
    """
    experiment = load(folder)
    states = {identity: run_state(experiment.run_folder(identity)) for identity in experiment.runs}
    out = table("run", "status", "label", "layers x width", *_NUMBERS, "error", left=4)
    out.columns[-1].justify, out.columns[-1].no_wrap, out.columns[-1].overflow = "left", False, "fold"
    for identity, state in states.items():
        out.add_row(identity, *_cells(experiment, identity, state))
    printer = console()
    printer.print(out)
    printer.print(f"{experiment.name}: {counts(states)}")
    return 0


def _cells(experiment: Experiment, identity: str, state: RunState) -> list[str]:
    run = experiment.runs[identity]
    rate = (state.summary or {}).get("suffix_bits_per_byte")
    share = 1.0 if state.status == "done" else min(1.0, state.tokens / run.train.tokens)
    return [
        state.status,
        experiment.labels[identity],
        shape(run),
        str(run.train.seed),
        f"{run.optim.lr:.3g}",
        "-" if run.budget_flops is None else f"{run.budget_flops:.3g}",
        f"{share:.0%} of {amount(run.train.tokens)}",
        "" if rate is None else f"{rate:.4f}",
        state.reason or (state.summary or {}).get("error") or "",
    ]
