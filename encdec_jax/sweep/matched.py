"""An experiment of matched grids: a folder that holds each run as JSON, and a sweep.py that reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from encdec_jax.compute.families import family_of
from encdec_jax.compute.grid import Cell, Grid
from encdec_jax.compute.quantities import WORDS
from encdec_jax.config import RunConfig, read_run, to_dict
from encdec_jax.data.objectives.cut import Cut
from encdec_jax.data.objectives.named import described, objective_of
from encdec_jax.errors import require
from encdec_jax.files import atomic_write, write_json

SWEEP = '''"""{n} runs that `encdec match` made equal: each a JSON file in this folder, to be edited or taken away."""

from pathlib import Path

from encdec_jax.sweep.matched import read_runs

QUESTION = {question}
BASELINE = {baseline}
CONFOUNDERS = {{  # what else could explain a difference, and how it is handled
{confounders}
}}
PREDICTIONS = []


def runs():
    return read_runs(Path(__file__).parent)
'''


def read_runs(folder: Path) -> list[RunConfig]:
    """The runs in a folder's JSON files, by budget, width of the decoder, label and seed.

    Raises:
      UserError: a file holds no run; it names the file.
    """
    return sorted((read_run(path) for path in sorted(folder.glob("*.json"))), key=_place)


def _place(run: RunConfig) -> tuple[float, int, str, int]:
    return run.budget_flops or 0.0, run.model.decoder.d_model, family_of(run.model).label, run.train.seed


def write_experiment(grids: Sequence[Grid], folder: Path, seeds: int = 1, recipe: str | None = None) -> list[Path]:
    """Write a configuration a cell and seed, and a sweep.py that reads them; nothing if one is there already.

    Args:
      grids: of the same families, one a budget.
      folder: of the experiment.
      seeds: runs of each cell, of seeds 0 to seeds - 1.
      recipe: that gave the runs their learning rates, if one did.

    Returns:
      the files of the runs.

    Raises:
      UserError: one of the files is there already, or can't be written.
    """
    runs = {
        folder / _name(grid, cell, seed, seeds): _seeded(cell.run, seed)
        for grid in grids
        for cell in grid
        for seed in range(seeds)
    }
    for path in (*runs, folder / "sweep.py"):
        accepted = f"a folder without {path.name}: nothing is overwritten; one call takes several budgets and seeds"
        require(not path.exists(), "out", str(folder), accepted)
    for path, run in runs.items():
        write_json(path, to_dict(run))
    first, *others = dict.fromkeys(family_of(cell.run.model).label for grid in grids for cell in grid)
    text = SWEEP.format(
        n=len(runs),
        question=json.dumps(_question(grids[0], first, others)),
        baseline=json.dumps(first),
        confounders="\n".join(
            f"    {json.dumps(name)}: {json.dumps(handled)},"
            for name, handled in _confounders(grids, seeds, recipe).items()
        ),
    )
    atomic_write(folder / "sweep.py", text)
    return list(runs)


def _name(grid: Grid, cell: Cell, seed: int, seeds: int) -> str:
    """Of a run's file: 2e9-d32-enc_dec-1of2-seed0.json."""
    budget = "" if grid.budget is None else f"{Decimal(repr(grid.budget)).normalize():e}-".replace("+", "")
    name = f"{budget}{cell.name}-{cell.family.label}" + (f"-seed{seed}" if seeds > 1 else "")
    return f"{name}.json".replace(" ", "-").replace("/", "of")


def _seeded(run: RunConfig, seed: int) -> RunConfig:
    return replace(run, train=replace(run.train, seed=seed))


def _question(grid: Grid, first: str, others: Sequence[str]) -> str:
    equal = " and ".join(WORDS[name] for name in grid.equal)
    if not others:
        return f"At equal {equal}, which size of {first} has the least loss?"
    return f"At equal {equal}, how does {first} compare with {', '.join(others)}?"


def _confounders(grids: Sequence[Grid], seeds: int, recipe: str | None) -> dict[str, str]:
    """What the grids show, each with how it is handled."""
    found = {}
    cut = any(grid.batch != grid.asked for grid in grids)
    if cut or len({grid.batch for grid in grids}) > 1:
        asked = [f"{grid.batch} of {grid.asked} asked at {grid.budget:g} training FLOPs" for grid in grids]
        pays = f"at least {grids[0].min_updates} updates of every run, and whole ones come near enough to it"
        why = f"; halved until a budget pays {pays}" if cut else ""
        found["batch"] = f"windows an update: {', '.join(asked)}{why}"
    rates = {cell.run.optim.lr for grid in grids for cell in grid}
    if recipe is not None:
        found["learning rate"] = (
            f"by the recipe {recipe}: it follows the width, not the depth; not tuned for these runs"
        )
    elif len(rates) == 1:
        found["learning rate"] = f"{rates.pop():g} for all sizes, architectures and budgets; tuned for none of them"
    read = {cell.run.model.arch: cell.run.objective for grid in grids for cell in grid}
    if not all(isinstance(objective_of(one), Cut) for one in read.values()):
        found["objective"] = "; ".join(f"{arch}: {described(one)}" for arch, one in read.items())
    many = f"{seeds} runs of each, of seeds 0 to {seeds - 1}"
    found["seeds"] = many if seeds > 1 else "one run of each: scatter between seeds is not measured"
    return found
