"""Runs that begin where others end: branches at their trunk, and runs at the parameters that `train.init_from` names.

What a run begins at may be of its own experiment, of another that is planned and not done, or any run that is there.
Workers wait for their own experiment's runs alone: what waits for others is shown so, and is left to a later
`encdec run`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from encdec_jax.config import RunConfig, from_dict, read_run
from encdec_jax.errors import require
from encdec_jax.files import project, runs_root
from encdec_jax.model.config import ModelConfig
from encdec_jax.sweep.experiment import Experiment, folders_named, load
from encdec_jax.sweep.replica import pull
from encdec_jax.sweep.store import RunState, run_state
from encdec_jax.train.beginning import ACCEPTED, beginning, check_alike, kept_at, unended
from encdec_jax.train.objects import holding, key_of, told


def waits(experiment: Experiment, identity: str) -> Path | None:
    """The folder of the run that a run waits for: its trunk, or that which it is to begin at; None for none.

    One of the same experiment that has ended is not waited for, however it ended: who begins at it will say.
    """
    train = experiment.runs[identity].train
    if train.trunk in experiment.runs:
        trunk = experiment.run_folder(train.trunk)
        if not run_state(trunk).ended:
            return trunk
    if not train.init_from:
        return None
    folder, update = beginning(train.init_from)
    pull(folder.parent)
    state = run_state(folder)
    ended = state.ended if _ours(experiment, folder) else state.status in ("done", "diverged")
    return None if ended or (update is not None and update in kept_at(folder)) else folder


def states(experiment: Experiment) -> dict[str, RunState]:
    """The state of every run, by its id; 'waiting' where it has not begun and is to begin at a run that is not done."""
    root = experiment.root  # which is asked for once, of ten thousand
    found = {identity: run_state(root / identity) for identity in experiment.runs}
    for identity, state in found.items():
        if experiment.runs[identity].train.init_from and state.status == "pending" and not state.tokens:
            awaited = waits(experiment, identity)
            if awaited is not None and not _ours(experiment, awaited):
                found[identity] = replace(
                    state, status="waiting", error=f"for {_name(awaited)}: {run_state(awaited).status}"
                )
    return found


def told_of(experiment: Experiment, found: Mapping[str, RunState]) -> str | None:
    """In one line, how many runs wait, and for what; None where none does."""
    waiting = [i for i, state in found.items() if state.status == "waiting"]
    places = Counter(_name(beginning(experiment.runs[i].train.init_from)[0].parent) for i in waiting)
    said = ", ".join(f"{n} of {folder}" for folder, n in places.items())
    return f"waiting: {len(waiting)} runs begin at runs that are not done: {said}" if waiting else None


class Beginnings:
    """Finds what runs of an experiment, in these states, can never begin at, now or when what they wait for is done."""

    def __init__(self, experiment: Experiment, found: Mapping[str, RunState]) -> None:
        self._experiment, self._found = experiment, found
        self._planned: dict[Path, Mapping[str, RunConfig]] = {experiment.root: experiment.runs}
        self._sound: set[tuple[str, ModelConfig]] = set()

    def check(self, identity: str) -> None:
        """Check a run's `train.init_from`; of one that has begun, nothing.

        Raises:
          UserError: it is neither there nor planned by an experiment of the project, keeps no such checkpoint, has
            diverged or has other parameters.
        """
        run, state = self._experiment.runs[identity], self._found[identity]
        given = run.train.init_from
        if not given or (given, run.model) in self._sound or state.tokens or state.summary is not None:
            return
        folder, update = beginning(given)
        source = _there(folder) or self._plan(folder)
        require(source is not None, "train.init_from", given, f"{ACCEPTED}; or a run that an experiment here plans")
        assert source is not None
        check_alike(run, source)
        pull(folder.parent)
        status = run_state(folder).status
        require(status != "diverged", "train.init_from", given, "a run that has not diverged")
        if update is None and status == "pending" and _never_trained(folder):
            require(False, "train.init_from", given, unended(given, folder))
        if update is not None and status == "done":
            kept = kept_at(folder)
            known = ", ".join(map(str, sorted(kept))) or "none"
            require(update in kept, "train.init_from", given, f"a checkpoint that is there: {known}")
        self._sound.add((given, run.model))

    def _plan(self, folder: Path) -> RunConfig | None:
        """The run of an experiment of the project whose folder that will be; None for none."""
        root = folder.parent
        if root not in self._planned and root.is_relative_to(runs_root()):
            name, inside = root.relative_to(runs_root()), project(self._experiment.folder)
            found = [inside / name] if (inside / name / "sweep.py").is_file() else []
            beside = self._experiment.folder.resolve().parent if inside.parent == inside else inside
            others = map(load, chain(found, folders_named(name.as_posix(), beside)))
            self._planned[root] = next((other.runs for other in others if other.root == root), {})
        return self._planned.get(root, {}).get(folder.name)


def _there(folder: Path) -> RunConfig | None:
    """The configuration of the run in a folder; None where there is no run yet."""
    store = holding(folder)
    if store is None:
        return read_run(folder / "config.json") if (folder / "config.json").exists() else None
    with told():
        read = store.read(key_of(folder / "config.json"))
    return None if read is None else from_dict(json.loads(read[0]))


def _never_trained(folder: Path) -> bool:
    """Whether a run is there that nobody trains: what `encdec convert` made."""
    return (folder / "config.json").exists() and not (folder / "made_of.json").exists()


def _name(folder: Path) -> str:
    root = runs_root()
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


def _ours(experiment: Experiment, folder: Path) -> bool:
    return folder.parent == experiment.root and folder.name in experiment.runs
