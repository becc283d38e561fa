"""Checkpoints: orbax, and hashes that say which of them are whole."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp

from encdec_jax.errors import UserError, require
from encdec_jax.files import read_json, sha256_file, write_json
from encdec_jax.train.fence import Fence
from encdec_jax.train.hosts import as_first, check_same, most, together
from encdec_jax.train.retention import Retention
from encdec_jax.train.step import State

log = logging.getLogger(__name__)
_NAME = re.compile(r"(lease(?P<lease>\d+)_)?(?P<step>\d+)")
_READERS = 8  # files hashed at a time by a process

Condition = Literal["whole", "damaged", "unsealed"]
_CONDITIONS: tuple[Condition, ...] = ("whole", "damaged", "unsealed")


@dataclass(frozen=True, order=True)
class Saved:
    """A checkpoint by its update and the number of the lease under which it was saved, 0 for none."""

    step: int
    lease: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"lease{self.lease}_{self.step}" if self.lease else str(self.step)


class Checkpoints:
    """A run's checkpoints, by update. A step counts only if it was sealed and every file has its hash.

    Orbax restores a flipped byte without a word, and takes an empty folder for the latest step. So each process, when
    all have written, hashes what it wrote of a checkpoint into a seal, manifest-<name>-<process>-of-<processes>.json. A
    checkpoint is sealed when all processes have sealed it. It is written and hashed in the background: whatever dies on
    the way leaves a checkpoint that lacks a seal, which is offered to nobody.

    The lease's number stands in the name of what is saved: what a process that has lost the run may still be writing
    in the background never meets what its successor writes.
    """

    def __init__(self, folder: Path, retention: Retention | None = None, fence: Fence | None = None) -> None:
        """Checkpoints in `folder`, which is made on the first save; the newest two are kept if nothing else is said."""
        self._folder = folder.absolute()
        self._retention, self._fence = retention or Retention(), fence or Fence()
        # A folder that can't be made in the background keeps orbax's threads, and so the process, waiting for minutes.
        way = ocp.AsyncOptions(create_directories_asynchronously=jax.process_count() > 1)
        handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(async_options=way))
        self._saver = ocp.AsyncCheckpointer(handler, async_options=way)
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: tuple[Saved, Future[dict[str, str]]] | None = None

    def save(self, step: int, state: State, meta: dict[str, Any]) -> None:
        """Save the state after update `step`, and what goes with it (plain data); returns when that is copied.

        Raises:
          UserError: the disk is full or the folder can't be written to, now or by the save before.
        """
        items = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), meta=ocp.args.JsonSave(meta))
        made = Saved(step, self._fence.number)
        with together(), self._writing():
            self.settle()
            self._fence.check()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._check_room(state)
            if jax.process_index() == 0:
                self._remove(made)
        with self._writing():
            self._saver.save(self._folder / made.name, args=items)
        self._pending = made, self._thread.submit(self._written, made)

    def settle(self, wait: bool = True) -> None:
        """Seal what this process wrote of the last save, if that is on disk, or with `wait` when it is.

        Raises:
          UserError: the disk is full or the folder can't be written to: that save is none.
        """
        if self._pending is None or not (wait or self._pending[1].done()):
            return
        made, hashing = self._pending
        self._pending = None
        with self._writing():
            hashes = hashing.result()
            self._fence.check()
            name = f"manifest-{made.name}-{jax.process_index()}-of-{jax.process_count()}.json"
            write_json(self._folder / name, hashes)
        if jax.process_index() == 0:
            self._thread.submit(self._prune)

    def restore_latest(self, abstract: State) -> tuple[int, State, dict[str, Any]] | None:
        """The newest checkpoint that is whole: its update, the state, and what was saved with it; None if none is.

        Newer ones are said to be passed over: damaged ones are set aside, as `damaged-<name>`; those that were not
        sealed, which a killed process leaves, are removed. Each process checks its share of the files.

        Args:
          abstract: shapes, types and shardings to restore onto; the mesh may differ from the one saved on.
        """
        kept, passed = self._below(None), False
        while kept is not None and (condition := self._agreed(kept)) != "whole":
            with together(), self._writing():
                if jax.process_index() == 0:
                    self._fence.check()
                    log.warning("checkpoint %s in %s %s", kept.name, self._folder, self._pass_over(kept, condition))
            kept, passed = self._below(kept), True
        if passed and jax.process_index() == 0:
            log.warning("the run goes on from %s", f"update {kept.step}" if kept else "its beginning")
        return None if kept is None else self._restore(kept, abstract)

    def read(self, abstract: State, update: int | None = None) -> tuple[int, State, dict[str, Any]] | None:
        """As `restore_latest`, of a folder that others may be writing to: nothing in it is changed.

        Args:
          abstract: as there.
          update: of the checkpoint to read; None for the newest that is whole.

        Raises:
          UserError: there is no whole checkpoint of this update, or processes of a job see different ones.
        """
        with together():
            found = [one for one in saved(self._folder) if update in (None, one.step)]
            kept = next((one for one in found if self._condition(one) == "whole"), None)
            if update is not None:
                there = ", ".join(str(one.step) for one in reversed(saved(self._folder))) or "none"
                require(kept is not None, "update", update, f"one with a whole checkpoint in {self._folder}: {there}")
        check_same({f"the newest whole checkpoint in {self._folder}": str(kept)})
        return None if kept is None else self._restore(kept, abstract)

    def close(self) -> None:
        """Wait until the last save is on disk, and sealed by all processes."""
        with together(), self._writing():
            self.settle()
        if jax.process_index() == 0:  # all have sealed only now
            self._thread.submit(self._prune)
        self._thread.shutdown()
        self._saver.close()

    def _written(self, made: Saved) -> dict[str, str]:
        """On a thread of its own: the hashes of what this process wrote of a checkpoint, when all have written."""
        self._saver.wait_until_finished()
        folder = self._folder / made.name
        return _hashes(folder, [p for p in _files(folder) if _writer(p.relative_to(folder)) == jax.process_index()])

    def _prune(self) -> None:
        """On a thread of its own: leave what is to stay and what is newer, but nothing that earlier holders began."""
        sealed = {one.step: one for one in reversed(saved(self._folder)) if self._seals(one) is not None}
        wanted = {sealed[step] for step in self._retention.kept(list(sealed))}
        for one in saved(self._folder):
            old = bool(sealed) and one < sealed[max(sealed)]
            if one not in wanted and (old or one.lease < self._fence.number):
                try:
                    self._remove(one)
                except OSError as error:
                    log.warning("can't remove the old checkpoint %s in %s: %s", one.name, self._folder, error.strerror)
        for path in self._folder.glob("*.orbax-checkpoint-tmp*"):
            if (found := _NAME.match(path.name)) and int(found["lease"] or 0) < self._fence.number:
                shutil.rmtree(path, ignore_errors=True)

    def _remove(self, one: Saved) -> None:
        """The seals first: what a kill leaves of the rest is then offered to nobody."""
        for path in self._folder.glob(f"manifest-{one.name}-*"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._folder / one.name, ignore_errors=True)

    def _restore(self, kept: Saved, abstract: State) -> tuple[int, State, dict[str, Any]]:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(_plain(abstract)), meta=ocp.args.JsonRestore())
        found = self._saver.restore(self._folder / kept.name, args=items)
        leaves = jax.tree.leaves(found["state"])
        return kept.step, jax.tree.unflatten(jax.tree.structure(abstract), leaves), found["meta"]

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
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))  # of all processes: they share the folder
        free = shutil.disk_usage(self._folder).free
        if free < 1.1 * needed:
            raise UserError(
                f"can't write a checkpoint of {needed:,} bytes to {self._folder}: the disk has {free:,} bytes left"
            )

    def _below(self, bound: Saved | None) -> Saved | None:
        """The newest checkpoint older than another, as the first process sees it."""
        kept = next((one for one in saved(self._folder) if bound is None or one < bound), None)
        step, lease = as_first(np.array([-1, 0] if kept is None else [kept.step, kept.lease], np.int64))
        return None if step < 0 else Saved(int(step), int(lease))

    def _seals(self, one: Saved) -> dict[str, str] | None:
        """The hashes of a checkpoint's files, by all its seals; None if one is missing, or is damaged."""
        seals = sorted(self._folder.glob(f"manifest-{one.name}-*-of-*.json"))
        try:
            whole = len(seals) == int(seals[0].stem.rpartition("-")[2]) if seals else False
            return {name: digest for seal in seals for name, digest in read_json(seal).items()} if whole else None
        except (UserError, AttributeError):
            return None

    def _agreed(self, one: Saved) -> Condition:
        """The condition of a checkpoint, of whose files each process hashes its share."""
        with together():
            found = self._condition(one, jax.process_index(), jax.process_count())
        return _CONDITIONS[most(_CONDITIONS.index(found))]

    def _condition(self, one: Saved, share: int = 0, of: int = 1) -> Condition:
        folder = self._folder / one.name
        wanted, files = self._seals(one), _files(folder)
        if wanted is None:
            return "unsealed"
        same = {str(path.relative_to(folder)) for path in files} == set(wanted)
        return "whole" if same and _hashes(folder, files[share::of]).items() <= wanted.items() else "damaged"

    def _pass_over(self, one: Saved, condition: Condition) -> str:
        """What was done with a checkpoint that is not whole."""
        if condition == "unsealed":
            self._remove(one)
            return "was never sealed, as where a process was killed while it saved: removed"
        aside = self._folder / f"damaged-{one.name}"
        while aside.exists():
            aside = aside.with_name(aside.name + "-again")
        (self._folder / one.name).rename(aside)
        self._remove(one)
        return f"is damaged: set aside as {aside.name}"


def saved(folder: Path) -> list[Saved]:
    """The checkpoints in a folder, whole or not, the newest first."""
    names = [path.name for path in folder.glob("*") if not path.is_symlink()] if folder.is_dir() else []
    found = [Saved(int(one["step"]), int(one["lease"] or 0)) for name in names if (one := _NAME.fullmatch(name))]
    return sorted(found, reverse=True)


def _plain(state: State) -> list[Any]:
    """Leaves alone: a checkpoint holds arrays, not the classes that boxed them."""
    return jax.tree.leaves(state)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _writer(path: Path) -> int:
    """The process that wrote a file of a checkpoint: orbax names folders by it; the first one wrote all else."""
    names = (re.fullmatch(r"(?:.*\.)?process_(\d+)", part) for part in path.parts)
    return next((int(name[1]) for name in names if name), 0)


def _hashes(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    with ThreadPoolExecutor(_READERS) as readers:
        paths = list(paths)
        digests = readers.map(sha256_file, paths)
        return {str(path.relative_to(folder)): digest for path, digest in zip(paths, digests, strict=True)}
