from __future__ import annotations

import logging
import threading
from collections import namedtuple
from dataclasses import replace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from train.stepping import run_config

from encdec_jax.errors import UserError
from encdec_jax.train import checkpoint
from encdec_jax.train.checkpoint import Checkpoints
from encdec_jax.train.config import MeshConfig
from encdec_jax.train.retention import Retention
from encdec_jax.train.trainer import Trainer

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def state():
    """Of a model of 300 kB, on one device."""
    run = run_config("causal_lm")
    return jax.device_get(Trainer(replace(run, model=replace(run.model, vocab_size=1024))).init())


def placed(state, mesh: MeshConfig):
    run = run_config("causal_lm", mesh)
    trainer = Trainer(replace(run, model=replace(run.model, vocab_size=1024)))
    return jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, trainer.abstract))


@pytest.mark.parametrize("mesh", [MeshConfig(8), MeshConfig(2, 2, 2), MeshConfig(1, 8, 1)], ids=str)
def test_a_checkpoint_needs_the_room_that_it_takes(tmp_path, monkeypatch, state, mesh):
    """Whatever the mesh it is the state once: replicas are not written again."""
    size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state))
    given = placed(state, mesh)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: Usage(2 * size, 0, size))
    with pytest.raises(
        UserError, match=f"can't write a checkpoint of {size:,} bytes to .*: the disk has {size:,} bytes"
    ):
        Checkpoints(tmp_path / "full").save(1, given, {})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: Usage(2 * size, 0, int(1.2 * size)))
    kept = Checkpoints(tmp_path / "room")
    kept.save(1, given, {})
    kept.close()
    files = sum(path.stat().st_size for path in (tmp_path / "room/1").rglob("*") if path.is_file())
    assert 0.5 * size < files < 1.5 * size


def abstract(state):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("encdec_jax"), "propagate", True)
    return caplog


def latest(folder, state) -> int | None:
    """The update of the checkpoint that is offered, to a run and to a reader alike."""
    read = Checkpoints(folder).read(abstract(state))
    found = Checkpoints(folder).restore_latest(abstract(state))
    assert (read and read[0]) == (found and found[0])
    return found and found[0]


def test_a_save_that_failed_in_the_background_is_offered_to_nobody_and_no_later_one_is_skipped(
    tmp_path, monkeypatch, state
):
    given = placed(state, MeshConfig())
    kept = Checkpoints(tmp_path)
    kept.save(1, given, {})
    kept.settle()
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(ocp.CompositeCheckpointHandler, "finalize", full)
        kept.save(2, given, {})
        with pytest.raises(UserError, match=r"can't write a checkpoint to .*: No space left on device"):
            kept.settle()
    assert not list(tmp_path.glob("manifest-2-*"))
    assert latest(tmp_path, given) == 1
    again = Checkpoints(tmp_path)
    for step in (2, 3):
        again.save(step, given, {"of": step})
    again.close()
    assert latest(tmp_path, given) == 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["2", "3"]


def test_a_folder_that_a_save_can_not_make_leaves_no_thread_that_waits_for_it(tmp_path, monkeypatch, state):
    """By a quota: the error was said at once, and the process went on for five minutes."""
    given, before = placed(state, MeshConfig()), set(threading.enumerate())
    kept = Checkpoints(tmp_path / "kept")

    def used_up(*_: object) -> None:
        (tmp_path / "kept").rmdir()
        (tmp_path / "kept").touch()

    def save() -> None:
        kept.save(1, given, {})
        kept.settle()

    monkeypatch.setattr(kept, "_check_room", used_up)
    monkeypatch.setattr(kept, "_remove", lambda made: None)
    with pytest.raises(UserError, match=r"can't write a checkpoint to .*: Not a directory"):
        save()
    assert not [thread.name for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio")]


def test_hashing_keeps_no_training_waiting(tmp_path, monkeypatch, state):
    """98 GB took 52 s on the training thread: a save returns before, and a look at it as long as hashes are missing."""
    go, hashes = threading.Event(), checkpoint._hashes
    on: list[threading.Thread] = []

    def slowly(*given):
        on.append(threading.current_thread())
        assert go.wait(60)
        return hashes(*given)

    monkeypatch.setattr(checkpoint, "_hashes", slowly)
    kept = Checkpoints(tmp_path)
    kept.save(1, placed(state, MeshConfig()), {})
    kept.settle(wait=False)
    assert not list(tmp_path.glob("manifest-*"))
    go.set()
    kept.close()
    assert list(tmp_path.glob("manifest-*"))
    assert on[0] is not threading.current_thread()


def test_what_was_saved_and_not_sealed_is_no_checkpoint(tmp_path, monkeypatch, state, said):
    """As after a kill between the two."""
    given = placed(state, MeshConfig())
    kept = Checkpoints(tmp_path)
    kept.save(1, given, {})
    kept.settle()
    monkeypatch.setattr(checkpoint, "write_json", lambda *_: None)
    kept.save(2, given, {})
    kept.close()
    assert (tmp_path / "2/_CHECKPOINT_METADATA").exists()
    assert latest(tmp_path, given) == 1
    assert not (tmp_path / "2").exists()
    assert "checkpoint 2 in" in said.text
    assert "was never sealed" in said.text
    assert "the run goes on from update 1" in said.text


def test_a_missing_seal_or_one_of_another_job_is_none(tmp_path, state):
    """Two processes' seals, one of which is not there yet; and those of a save before, by another number of them."""
    given = placed(state, MeshConfig())
    kept = Checkpoints(tmp_path)
    kept.save(1, given, {})
    kept.close()
    (seal,) = tmp_path.glob("manifest-1-*")
    assert seal.name == "manifest-1-0-of-1.json"
    seal.rename(tmp_path / "manifest-1-0-of-2.json")
    assert Checkpoints(tmp_path).read(abstract(given)) is None
    other = Checkpoints(tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/manifest-1-1-of-2.json").write_text("{}")
    other.save(1, given, {})
    other.close()
    assert latest(tmp_path / "other", given) == 1


def test_which_checkpoints_stay():
    plain = Retention(newest=2, update_tokens=10)
    assert plain.kept([]) == set()
    assert plain.kept([5, 10, 15]) == {10, 15}
    kept = Retention(newest=1, every=100, stamps=(120, 170), update_tokens=10)
    # 100 and 200 tokens are passed at updates 12 and 20, the stamps likewise
    assert kept.kept([4, 9, 12, 14, 20, 21, 25, 26]) == {12, 20, 26}
    steps: set[int] = set()
    for step in range(1, 30):  # what stays does not depend on what was removed before
        steps = kept.kept(sorted({*steps, step}))
    assert steps == kept.kept(range(1, 30)) == {10, 12, 17, 20, 29}


def test_checkpoints_are_due():
    due = Retention(spacing=20, every=70, stamps=(330,), update_tokens=10).due
    assert not due(0, 5)
    assert due(0, 20)
    assert due(5, 7)  # 70 tokens
    assert not due(7, 13)
    assert due(32, 33)
    assert not due(33, 34)
