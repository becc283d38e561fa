"""Branches: runs of 'wsd' whose learning rate falls at several places of one trajectory, which is trained once.

A run whose rate rises, stays and then falls (arXiv 2405.18392) is, until it falls, every longer run of its kind. So the
longest of several lengths is the trunk: it keeps a checkpoint where the rate of each shorter one, its branch, begins to
fall, and the branch takes that checkpoint for its own. What comes of a branch is bitwise what comes of it without a
trunk: `train.trunk` is a field of execution. Its row says what the trunk paid, and whose noise it shares.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.objectives.mixture import Schedule
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.errors import UserError, require
from encdec_jax.files import atomic_write
from encdec_jax.sweep.cost import cost
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.identity import run_id
from encdec_jax.sweep.store import run_state
from encdec_jax.train.config import phases
from encdec_jax.train.objects import MANIFEST_OF, copy_run
from encdec_jax.train.retention import Retention


def branches(run: RunConfig, budgets: Sequence[float]) -> list[RunConfig]:
    """One run for each budget, the longest of them the trunk of the others.

    Args:
      run: of the schedule 'wsd'. Its shares of warm-up and decay hold for the longest; the others have as many updates
        of warm-up, and the same share of decay. Its tokens count for nothing.
      budgets: training FLOPs, attention as its mask requires; two or more.

    Returns:
      the trunk, then its branches by rising budget.

    Raises:
      UserError: there is one budget, or another schedule; or a rate would fall before the first call has ended.
    """
    require(len(set(budgets)) > 1, "budgets", list(budgets), "two or more, each once")
    tokens = geometry(run).update_tokens
    flops = cost(run).train_flops / geometry(run).updates
    *shorter, longest = [
        replace(run, train=replace(run.train, tokens=max(1, round(budget / flops)) * tokens), budget_flops=budget)
        for budget in sorted(budgets)
    ]
    warmup, _ = phases(longest.optim, geometry(longest).updates)
    least = min(geometry(one).updates for one in shorter)
    require(least > warmup, "budgets", list(budgets), f"of more than the longest's {warmup} updates of warm-up")
    grown = [replace(one, optim=replace(one.optim, warmup=warmup / geometry(one).updates)) for one in shorter]
    calls = run.train.steps_per_call
    marks = [_falls(one) // calls * calls * tokens for one in grown]
    accepted = f"budgets whose rates fall behind the first call of train.steps_per_call = {calls} updates"
    require(min(marks) > 0, "budgets", list(budgets), accepted)
    keep_at = ",".join([*filter(None, [run.train.keep_at]), *map(str, marks)])
    trunk = replace(longest, train=replace(longest.train, keep_at=keep_at))
    made = [replace(one, train=replace(one.train, trunk=run_id(trunk))) for one in grown]
    for one in made:
        taken(one, trunk)
    return [trunk, *made]


def taken(branch: RunConfig, trunk: RunConfig) -> int:
    """The update of the trunk's checkpoint that a branch begins at.

    Raises:
      UserError: the two are not one run until a rate falls, or the trunk keeps no checkpoint before that.
    """
    _check(branch, branch.optim.schedule == "wsd", "a run with optim.schedule = 'wsd', as its branches")
    optim = {name: getattr(trunk.optim, name) for name in ("warmup", "decay", "final")}
    like = replace(
        branch,
        optim=replace(branch.optim, **optim),
        train=replace(branch.train, tokens=trunk.train.tokens),
        budget_flops=trunk.budget_flops,
    )
    accepted = "a run that differs in train.tokens, budget_flops and optim.warmup, decay and final alone"
    _check(branch, run_id(like) == run_id(trunk) and not trunk.train.trunk, accepted)
    here, there = (phases(one.optim, geometry(one).updates)[0] for one in (branch, trunk))
    _check(branch, here == there, f"a run of as many updates of warm-up: {there} there, {here} here")
    whole = not isinstance(objective_of(branch.objective), Schedule)
    _check(branch, whole, "'', for the phases of the objective are shares of the whole run")
    tokens, calls = geometry(trunk).update_tokens, trunk.train.steps_per_call
    ends = [min(ceil(stamp / tokens / calls) * calls, geometry(trunk).updates) for stamp in Retention.of(trunk).stamps]
    last = min(_falls(branch), _falls(trunk))
    found = max((end for end in ends if 0 < end <= last), default=0)
    _check(branch, found > 0, f"a run whose train.keep_at keeps a checkpoint at or before {last * tokens:,} tokens")
    return found


def paid(experiment: Experiment, identity: str) -> float:
    """The training FLOPs of a run that its trunk pays; 0 for a run without one.

    Raises:
      UserError: as `taken`; or its trunk is no run of the experiment.
    """
    run = experiment.runs[identity]
    if not run.train.trunk:
        return 0.0
    _check(run, run.train.trunk in experiment.runs, f"the id of a run of {experiment.name}")
    due = cost(run)
    return taken(run, experiment.runs[run.train.trunk]) * due.train_flops / due.updates


def graft(experiment: Experiment, identity: str, here: Path, check: Callable[[], None] = lambda: None) -> None:
    """Give a run that has saved nothing yet the checkpoint of its trunk that it begins at.

    Args:
      experiment: of both.
      identity: of the run.
      here: the folder that it is trained in.
      check: asked right before anything there is replaced; does not return if the run is another's.

    Raises:
      UserError: as `paid`; or the trunk has no such checkpoint.
    """
    run, checkpoints = experiment.runs[identity], here / "checkpoints"
    if not run.train.trunk or any(checkpoints.glob("manifest-*")):
        return
    paid(experiment, identity)
    update, folder = taken(run, experiment.runs[run.train.trunk]), experiment.run_folder(run.train.trunk)
    status = run_state(folder).status
    _check(run, status == "done", f"a run that is done: this one is {status}")
    copy_run(folder, update, "train.trunk")
    manifests = (folder / "checkpoints").glob("manifest-*")
    seals = [found for path in manifests if (found := MANIFEST_OF.fullmatch(path.name))]
    names = sorted({(int(found[2] or 0), found[1]) for found in seals if int(found[3]) == update})
    _check(run, bool(names), f"a run with a checkpoint of update {update}, which {folder} has not")
    _, name = names[-1]
    check()
    shutil.rmtree(checkpoints / name, ignore_errors=True)
    try:
        shutil.copytree(folder / "checkpoints" / name, checkpoints / name)
        for file in ("made_of.json", "metrics.jsonl"):
            if (folder / file).exists():
                atomic_write(here / file, (folder / file).read_bytes(), check)
        for found in seals:
            if found[1] == name:
                atomic_write(checkpoints / found[0], (folder / "checkpoints" / found[0]).read_bytes())
    except OSError as error:
        raise UserError(f"can't copy {folder / 'checkpoints' / name}: {error.strerror or error}") from error


def _falls(run: RunConfig) -> int:
    """Updates before the learning rate begins to fall."""
    updates = geometry(run).updates
    return updates - phases(run.optim, updates)[1]


def _check(run: RunConfig, sound: bool, accepted: str) -> None:
    require(sound, "train.trunk", run.train.trunk, accepted)
