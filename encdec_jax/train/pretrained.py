"""Where a run begins: at parameters drawn anew, or at those of a checkpoint (`train.init_from`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax

from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig, read_run
from encdec_jax.data.cache import cache_folder, manifest_of
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.data.vocab_file import vocab_in
from encdec_jax.errors import UserError, require
from encdec_jax.train.beginning import ACCEPTED, beginning, check_alike, unended
from encdec_jax.train.checkpoint import Checkpoints, saved
from encdec_jax.train.hosts import together
from encdec_jax.train.objects import copy_run
from encdec_jax.train.restore import VOCABULARIES, vocabulary
from encdec_jax.train.step import State
from encdec_jax.train.summary import read_summary
from encdec_jax.train.trainer import Trainer


def begun(run: RunConfig, trainer: Trainer) -> tuple[State, float]:
    """The state before a run's first update, and the training FLOPs that its parameters have cost before.

    Only parameters are taken over; the optimizer and the schedule begin anew. FLOPs are the ledger's ('mask'), of the
    checkpoint's updates and of what its run began at itself.

    Raises:
      UserError: `train.init_from` is no run that has ended, and no checkpoint; or its parameters or vocabulary are
        others than the run's.
    """
    if not run.train.init_from:
        return trainer.init(), 0.0
    with together():
        folder, update = _source(run.train.init_from)
        source = read_run(folder / "config.json")
        check_vocab(run, source, folder)
        check_alike(run, source)
        like = Trainer(replace(run, model=replace(source.model, attention=run.model.attention), optim=source.optim))
    state = trainer.init()
    found = Checkpoints(folder / "checkpoints").read(like.abstract, update)
    require(found is not None, "train.init_from", run.train.init_from, "a run with a whole checkpoint")
    assert found is not None
    step, restored, meta = found
    spent = step * count(source).train_flops.mask + float(meta.get("pretrain_flops", 0.0))
    leaves = jax.tree.leaves(restored.params)
    return state._replace(params=jax.tree.unflatten(jax.tree.structure(state.params), leaves)), spent


def _source(given: str) -> tuple[Path, int | None]:
    """The folder of the run that is named, and the update of its checkpoint; None for the end of the run."""
    folder, update = beginning(given)
    copy_run(folder, update, "train.init_from")
    require((folder / "config.json").exists(), "train.init_from", given, ACCEPTED)
    if update is None:
        ended = (folder / "summary.json").exists() and read_summary(folder / "summary.json")["status"] == "done"
        require(ended, "train.init_from", given, unended(given, folder))
    else:
        steps = {one.step for one in saved(folder / "checkpoints")}
        known = ", ".join(map(str, sorted(steps))) or "none"
        require(update in steps, "train.init_from", given, f"a checkpoint that is there: {known}")
    return folder, update


def check_vocab(run: RunConfig, source: RunConfig, folder: Path) -> None:
    """Refuse tokens that mean other text than they did: pieces that two texts trained have one name."""
    models = []
    for data, of in ((source.data, folder), (run.data, None)):
        if of is not None and any((of / name).exists() for name in VOCABULARIES):
            models.append(vocabulary(of, data).model)
        elif manifest_of(data.task, data.vocab) is not None:
            models.append(vocab_in(cache_folder(data.task, data.vocab), data.vocab).model)
        else:
            require(data.vocab == "bytes", "data.task", data.task, f"prepared, to compare its vocab {data.vocab!r}")
            models.append(ByteVocab.model)
    if models[0] != models[1]:
        carried = [folder / name for name in VOCABULARIES if (folder / name).exists()]
        file = carried[0] if carried else cache_folder(source.data.task, source.data.vocab) / "vocab.model"
        accepted = f"that of train.init_from: prepare the task with --vocab {file}" if models[0] else "'bytes'"
        raise UserError(f"data.vocab = {run.data.vocab!r} of task {run.data.task!r} is not accepted: {accepted}")
