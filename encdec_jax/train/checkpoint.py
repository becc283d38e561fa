"""Checkpoints: orbax, and a manifest of hashes a step that says which of them are whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from encdec_jax.errors import UserError
from encdec_jax.files import read_json, sha256_file, write_json
from encdec_jax.train.hosts import together
from encdec_jax.train.step import State


class Checkpoints:
    """A run's checkpoints, by update. A step counts only if its manifest exists and every file has its hash.

    Orbax restores a flipped byte without a word, and takes an empty folder for the latest step; the manifest, written
    last, rules out both. Saves run in the background; `seal` writes the manifest of one that has reached the disk.
    """

    def __init__(self, folder: Path) -> None:
        """Checkpoints in `folder`, which is made on the first save; the newest two are kept."""
        self._folder = folder.absolute()
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
        step = self._newest_whole()
        return None if step is None else self._restore(step, abstract)

    def read_latest(self, abstract: State) -> tuple[int, State, dict[str, Any]] | None:
        """As `restore_latest`, of a folder that others may be writing to: nothing in it is set aside."""
        steps = (step for step in self._steps() if _whole(self._folder / str(step), self._manifest(step)))
        step = next(steps, None)
        return None if step is None else self._restore(step, abstract)

    def _restore(self, step: int, abstract: State) -> tuple[int, State, dict[str, Any]]:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(_plain(abstract)), meta=ocp.args.JsonRestore())
        found = self._open().restore(step, args=items)
        leaves = jax.tree.leaves(found["state"])
        return step, jax.tree.unflatten(jax.tree.structure(abstract), leaves), found["meta"]

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
            options = ocp.CheckpointManagerOptions(max_to_keep=2, create=False)
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        return self._manager

    def _settle(self) -> None:
        """Wait for the save under way, and write its manifest."""
        if self._pending is None or self._manager is None:
            return
        self._manager.wait_until_finished()
        if jax.process_index() == 0:
            write_json(self._manifest(self._pending), _hashes(self._folder / str(self._pending)))
            kept = {self._manifest(step) for step in self._manager.all_steps()}
            for manifest in self._folder.glob("manifest-*.json"):
                if manifest not in kept:
                    manifest.unlink()
        self._pending = None

    def _newest_whole(self) -> int | None:
        """The newest step that is whole, as the first process sees it."""
        with together():
            step = self._set_aside_damaged() if jax.process_index() == 0 else -1
        if jax.process_count() > 1:
            step = int(multihost_utils.broadcast_one_to_all(np.int64(step)))
        return None if step < 0 else step

    def _steps(self) -> list[int]:
        """All steps that have a folder, the newest first."""
        return sorted((int(path.name) for path in self._folder.glob("*") if path.name.isdigit()), reverse=True)

    def _set_aside_damaged(self) -> int:
        for step in self._steps():
            folder, manifest = self._folder / str(step), self._manifest(step)
            if _whole(folder, manifest):
                return step
            aside = folder.with_name(f"damaged-{folder.name}")
            while aside.exists():
                aside = aside.with_name(aside.name + "-again")
            folder.rename(aside)
            manifest.unlink(missing_ok=True)
        return -1

    def _manifest(self, step: int) -> Path:
        return self._folder / f"manifest-{step}.json"


def written(state: State) -> int:
    """Bytes that this process writes of a state: replicas write one copy together, each its part of it."""
    return sum(
        leaf.nbytes * len(leaf.addressable_shards) // leaf.sharding.num_devices for leaf in jax.tree.leaves(state)
    )


def _plain(state: State) -> list[Any]:
    """Leaves alone: a checkpoint holds arrays, not the classes that boxed them."""
    return jax.tree.leaves(state)


def _whole(folder: Path, manifest: Path) -> bool:
    try:
        return bool(read_json(manifest) == _hashes(folder))
    except UserError:  # no manifest, or a damaged one
        return False


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
