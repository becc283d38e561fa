"""`encdec plan`: what an experiment will do and cost, before anything is spent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from encdec_jax import cpus
from encdec_jax.sweep.branch import paid
from encdec_jax.sweep.check import check_costs, check_data
from encdec_jax.sweep.cost import cost
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.speed import elapsed, measured_speed
from encdec_jax.sweep.waiting import states, told_of
from encdec_jax.text import amount, console, duration, shape, table

_TEXT = ("run", "status", "label", "layers x width")
_NUMBERS = ("seed", "lr", "parameters", "tokens", "updates", "FLOPs", "budget", "mismatch", "time (est.)")


def print_plan(folder: Path) -> int:
    """Print each run's identity, shape, parameters, tokens, updates, FLOPs, mismatch and estimated time, and totals.

    FLOPs are of training, with attention as its mask requires. Times are estimates and say what they rest on.

    Returns:
      0, the exit code.

    Raises:
      UserError: the folder holds no sound experiment, or its data can't be had.
    """
    experiment = load(folder)
    check_costs(experiment)
    found = states(experiment)
    check_data(experiment, found)
    speed = measured_speed(experiment, found)
    out = table(*_TEXT, *_NUMBERS, left=len(_TEXT))
    spent, once, left = 0.0, 0.0, {}
    for identity, run in experiment.runs.items():
        due, status = cost(run), found[identity].status
        shared = paid(experiment, identity)
        own = 1 - shared / due.train_flops
        seconds = speed.seconds(run, replace(due, train_flops_padded=due.train_flops_padded * own))
        spent, once = spent + due.train_flops - shared, once + shared
        if status not in ("done", "diverged"):
            left[identity] = seconds
        out.add_row(
            identity,
            status,
            experiment.labels[identity],
            shape(run),
            str(run.train.seed),
            f"{run.optim.lr:.3g}",
            amount(due.n_params),
            amount(run.train.tokens),
            str(due.updates),
            f"{due.train_flops:.3e}",
            "-" if run.budget_flops is None else f"{run.budget_flops:.3g}",
            "-" if due.mismatch is None else f"{due.mismatch:+.2%}",
            duration(seconds),
        )
    printer = console()
    printer.print(out)
    jobs = cpus.default_jobs()
    tokens = sum(run.train.tokens for run in experiment.runs.values())
    printer.print(
        f"{experiment.name}: {len(experiment.runs)} runs, {spent:.3e} training FLOPs, {amount(tokens)} tokens"
        + (f"; {once:.3e} more are of trunks, trained once" if once else "")
    )
    trunks = {identity: run.train.trunk for identity, run in experiment.runs.items() if run.train.trunk}
    about = duration(elapsed(left, jobs, trunks))
    printer.print(f"left: {len(left)} runs, about {about} with {jobs} workers ({speed.source})")
    if (waiting := told_of(experiment, found)) is not None:
        printer.print(waiting, markup=False, soft_wrap=True)
    return 0
