from __future__ import annotations

from collections import namedtuple
from dataclasses import replace

import jax
import numpy as np
import pytest
from train.cases import run_config

from encdec_jax.errors import UserError
from encdec_jax.train import checkpoint
from encdec_jax.train.checkpoint import Checkpoints, written
from encdec_jax.train.config import MeshConfig
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
    assert written(given) == size
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
