"""Checkpoints: orbax, and a manifest of hashes a step that says which of them are whole."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from encdec_jax.errors import UserError
from encdec_jax.files import read_json, sha256_file, write_json
from encdec_jax.train.fence import Fence
from encdec_jax.train.hosts import as_first, together
from encdec_jax.train.step import State

KEEP = 2  # checkpoints of a run
_NAME = re.compile(r"(lease(?P<lease>\d+)_)?(?P<step>\d+)")


@dataclass(frozen=True, order=True)
class Saved:
    """A checkpoint by its update and the number of the lease under which it was saved, 0 for none."""

    step: int
    lease: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"lease{self.lease}_{self.step}" if self.lease else str(self.step)

    @property
    def manifest(self) -> str:
        """Name of the file that holds its hashes."""
        return f"manifest-{self.name}.json"


class Checkpoints:
    """A run's checkpoints, by update. A step counts only if its manifest exists and every file has its hash.

    Orbax restores a flipped byte without a word, and takes an empty folder for the latest step; the manifest, written
    last, rules out both. Saves run in the background; `seal` writes the manifest of one that has reached the disk.

    The lease's number stands in the name of what is saved: what a process that has lost the run may still be writing
    in the background never meets what its successor writes.
    """

    def __init__(self, folder: Path, fence: Fence = Fence()) -> None:  # noqa: B008  (it is frozen)
        """Checkpoints in `folder`, which is made on the first save; the newest two are kept."""
        self._folder = folder.absolute()
        self._fence = fence
        self._pending: int | None = None
        self._manager: ocp.CheckpointManager | None = None

    def save(self, step: int, state: State, meta: dict[str, Any]) -> None:
        """Save the state after update `step`, and what goes with it (plain data).

        Raises:
          UserError: the disk is full or the folder can't be written to.
        """
        items = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), meta=ocp.args.JsonSave(meta))
        with together(), self._writing():
            self._settle()
            self._fence.check()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._check_room(state)
        with self._writing():
            if not self._open().save(step, args=items):
                raise RuntimeError(f"orbax did not save step {step} in {self._folder}")
        self._pending = step

    def seal(self) -> None:
        """Write the manifest of the last save, if all its files are on disk; does not wait for them."""
        if self._manager is not None and not self._manager.is_saving_in_progress():
            with self._writing():
                self._settle()

    def restore_latest(self, abstract: State) -> tuple[int, State, dict[str, Any]] | None:
        """The newest checkpoint that is whole: its update, the state, and what was saved with it; None if none is.

        Newer ones that are not whole are set aside, as `damaged-<step>`.

        Args:
          abstract: shapes, types and shardings to restore onto; the mesh may differ from the one saved on.
        """
        kept = self._newest_whole()
        return None if kept is None else self._restore(kept, abstract)

    def read_latest(self, abstract: State) -> tuple[int, State, dict[str, Any]] | None:
        """As `restore_latest`, of a folder that others may be writing to: nothing in it is set aside."""
        whole = (kept for kept in saved(self._folder) if _whole(self._folder, kept))
        kept = next(whole, None)
        return None if kept is None else self._restore(kept, abstract)

    def _restore(self, kept: Saved, abstract: State) -> tuple[int, State, dict[str, Any]]:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(_plain(abstract)), meta=ocp.args.JsonRestore())
        manager = _manager(self._folder, kept.lease)
        found = manager.restore(kept.step, args=items)
        manager.close()
        leaves = jax.tree.leaves(found["state"])
        return kept.step, jax.tree.unflatten(jax.tree.structure(abstract), leaves), found["meta"]

    def close(self) -> None:
        """Wait until the last save is on disk, and seal it."""
        with together(), self._writing():
            self._settle()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make of a disk's troubles a `UserError`, whoever raises them: the system, or tensorstore below orbax."""
        try:
            yield
        except OSError as error:
            raise UserError(f"can't write a checkpoint to {self._folder}: {error.strerror or error}") from error
        except ValueError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) and "PERMISSION_DENIED" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise UserError(f"can't write a checkpoint to {self._folder}: {reason}") from error

    def _check_room(self, state: State) -> None:
        """Refuse a save that the disk has no room for, before orbax starts it: it fails loudly and late."""
        needed = written(state)
        free = shutil.disk_usage(self._folder).free
        if free < 1.1 * needed:
            raise UserError(
                f"can't write a checkpoint of {needed:,} bytes to {self._folder}: the disk has {free:,} bytes left"
            )

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._manager = _manager(self._folder, self._fence.number)
        return self._manager

    def _settle(self) -> None:
        """Wait for the save under way, and write its manifest."""
        if self._pending is None or self._manager is None:
            return
        self._manager.wait_until_finished()
        if jax.process_index() == 0:
            self._fence.check()
            made = Saved(self._pending, self._fence.number)
            write_json(self._folder / made.manifest, _hashes(self._folder / made.name))
            self._forget_old()
        self._pending = None

    def _forget_old(self) -> None:
        """Leave the two newest, and nothing that holders before this one began."""
        sealed = [kept for kept in saved(self._folder) if (self._folder / kept.manifest).exists()]
        wanted = {name for kept in sealed[:KEEP] for name in (kept.name, kept.manifest)}
        for path in self._folder.iterdir():
            found = _NAME.match(path.name.removeprefix("manifest-"))
            if found and path.name not in wanted and int(found["lease"] or 0) < self._fence.number:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
            elif path.name.startswith("manifest-") and not path.with_name(path.stem.removeprefix("manifest-")).exists():
                path.unlink()

    def _newest_whole(self) -> Saved | None:
        """The newest step that is whole, as the first process sees it."""
        with together():
            kept = self._set_aside_damaged() if jax.process_index() == 0 else None
        step, lease = as_first(np.array([-1, 0] if kept is None else [kept.step, kept.lease], np.int64))
        return None if step < 0 else Saved(int(step), int(lease))

    def _set_aside_damaged(self) -> Saved | None:
        for kept in saved(self._folder):
            if _whole(self._folder, kept):
                return kept
            self._fence.check()
            aside = self._folder / f"damaged-{kept.name}"
            while aside.exists():
                aside = aside.with_name(aside.name + "-again")
            (self._folder / kept.name).rename(aside)
            (self._folder / kept.manifest).unlink(missing_ok=True)
        return None


def saved(folder: Path) -> list[Saved]:
    """The checkpoints in a folder, whole or not, the newest first."""
    names = [path.name for path in folder.glob("*")] if folder.is_dir() else []
    found = [Saved(int(one["step"]), int(one["lease"] or 0)) for name in names if (one := _NAME.fullmatch(name))]
    return sorted(found, reverse=True)


def written(state: State) -> int:
    """Bytes that this process writes of a state: replicas write one copy together, each its part of it."""
    return sum(
        leaf.nbytes * len(leaf.addressable_shards) // leaf.sharding.num_devices for leaf in jax.tree.leaves(state)
    )


def _plain(state: State) -> list[Any]:
    """Leaves alone: a checkpoint holds arrays, not the classes that boxed them."""
    return jax.tree.leaves(state)


def _manager(folder: Path, lease: int) -> ocp.CheckpointManager:
    """Orbax's, of what one lease saves."""
    form = ocp.path.step.standard_name_format(step_prefix=f"lease{lease}" if lease else None)
    options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=False, step_name_format=form)
    return ocp.CheckpointManager(folder, options=options)


def _whole(folder: Path, kept: Saved) -> bool:
    try:
        return bool(read_json(folder / kept.manifest) == _hashes(folder / kept.name))
    except UserError:  # no manifest, or a damaged one
        return False


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
