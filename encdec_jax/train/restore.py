"""The parameters of a run, from its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flax import nnx

from encdec_jax.config import RunConfig, read_run
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.config import DataConfig
from encdec_jax.data.vocab import Vocab
from encdec_jax.data.vocab_file import vocab_of
from encdec_jax.errors import UserError
from encdec_jax.train.checkpoint import Checkpoints
from encdec_jax.train.config import MeshConfig
from encdec_jax.train.objects import fetch_run, run_folder
from encdec_jax.train.trainer import Trainer

VOCABULARIES = ("spiece.model", "tokenizer.model", "tokenizer.json")  # that a model's folder may hold, the surest first


def vocabulary(folder: Path, data: DataConfig) -> Vocab:
    """What a run's ids stand for: of a file in its folder, where it was converted with one, else that of its task.

    Raises:
      UserError: neither is there, or the file holds no vocabulary.
    """
    carried = [path for name in VOCABULARIES if (path := run_folder(folder) / name).exists()]
    if carried and data.vocab != "bytes":
        return vocab_of(data.vocab, carried[0].read_bytes())
    return TokenCache.open(data.task, data.vocab).vocab


def restore(folder: str | Path, update: int | None = None) -> tuple[RunConfig, nnx.State]:
    """The configuration of a run and its parameters at a checkpoint of it, on one device.

    Changes nothing in the folder, so a run that is still training may be looked at. Of one in a bucket, what is read is
    copied to this machine first.

    Args:
      folder: of the run, as `encdec train` prints it, or its path below ENCDEC_RUNS, `<experiment>/<run id>`.
      update: behind which the checkpoint was saved, as of those that `train.keep_at` keeps; None for the newest whole.

    Raises:
      UserError: the folder holds no run, or no checkpoint of it that is whole.
    """
    folder = fetch_run(folder, update)
    run = read_run(folder / "config.json")
    found = Checkpoints(folder / "checkpoints").read(Trainer(replace(run, mesh=MeshConfig())).abstract, update)
    if found is None:
        raise UserError(
            f"{folder} holds no whole checkpoint: `encdec train` writes one at the end, or when interrupted"
        )
    return run, found[1].params
