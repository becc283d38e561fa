"""Which run's checkpoint a run begins at (`train.init_from`), however its path is written. No jax here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from encdec_jax.config import RunConfig
from encdec_jax.errors import require
from encdec_jax.files import expanded, place, runs_root
from encdec_jax.model.declare import model
from encdec_jax.model.param import leaves
from encdec_jax.train.objects import MANIFEST_OF, holding, key_of, sealed, told

ACCEPTED = "the folder of a run, as it stands or below ENCDEC_RUNS, or RUN/checkpoints/UPDATE"


def beginning(given: str) -> tuple[Path, int | None]:
    """(the folder of the run, the update of its checkpoint), of what `train.init_from` names; None for the run's end.

    The folder is the path as it stands if a run is there, else the path below ENCDEC_RUNS, whether one is there or not.
    """
    path = expanded(given)
    found = re.search(r"\d+$", path.name) if path.parent.name == "checkpoints" else None  # alone or as its folder is
    path = path.parent.parent if found else path
    below = runs_root() / path
    return (path if (path / "config.json").exists() else below), int(found[0]) if found else None


def canonical(given: str) -> str:
    """One text for all paths of one beginning: what makes the run, wherever and from wherever it is asked.

    Below ENCDEC_RUNS it is the path there. Elsewhere it is ./ and the path in its project, or outside of one the whole.
    """
    if not given:
        return given
    folder, update = beginning(given)
    folder, root = folder.resolve(), runs_root().resolve()
    if folder.is_relative_to(root):
        name = folder.relative_to(root).as_posix()
    else:
        name = place(folder)
        name = name if Path(name).is_absolute() else f"./{name}"
    return name if update is None else f"{name}/checkpoints/{update}"


def kept_at(folder: Path) -> set[int]:
    """The updates of a run's checkpoints that are whole, on a disk or in a bucket."""
    store = holding(folder)
    if store is None:
        names = (path.name for path in folder.glob("checkpoints/manifest-*"))
        return {int(found[3]) for name in names if (found := MANIFEST_OF.fullmatch(name))}
    inside = f"{key_of(folder / 'x').removesuffix('/x')}/checkpoints"
    with told():
        return {int(found[3]) for found in sealed(inside, store.list(inside))}


def unended(given: str, folder: Path) -> str:
    """What to give in place of a run that is not done: a checkpoint of it, of a converted model its only one."""
    newest = max(kept_at(folder), default="UPDATE")
    return f"a run that is done; of one that is not, a checkpoint: {given.rstrip('/')}/checkpoints/{newest}"


def check_alike(run: RunConfig, source: RunConfig) -> None:
    """Refuse to begin at a run whose parameters are others.

    Raises:
      UserError: it names the first that differs, and both shapes.
    """
    there, here = (_shapes(one) for one in (source, run))
    for name in {**here, **there}:
        old, new = there.get(name, "absent"), here.get(name, "absent")
        what = f"a run of the same architecture and shape: parameter {name} is {old} there, {new} here"
        require(old == new, "train.init_from", run.train.init_from, what)


def _shapes(run: RunConfig) -> dict[str, Any]:
    return {".".join(path): param.shape for path, param in leaves(model(run.model))}
