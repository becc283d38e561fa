"""What a run demands of the tokens that it is to read, asked before anything is spent."""

from __future__ import annotations

import numpy as np

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.heldout import eval_batch
from encdec_jax.data.objectives import check_vocab_size
from encdec_jax.data.packing import Pairs
from encdec_jax.errors import UserError, require


def check_demands(run: RunConfig, cache: TokenCache) -> None:
    """Check that tokens have all that training on them and scoring on them takes.

    Raises:
      UserError: a split is not there or too small, the objective is of another kind than the task, or the model does
        not know every id.
    """
    check_vocab_size(run, cache.vocab)
    require(run.data.split in cache.splits, "data.split", run.data.split, "one of " + ", ".join(cache.splits))
    if run.objective.name == "seq2seq":
        Pairs(cache, run.data.split, run.data)
    else:
        text(cache, run.data, run.objective)
    eval_batch(cache, run.model.choices, run.data, run.evaluate)


def text(cache: TokenCache, data: DataConfig, objective: ObjectiveConfig) -> np.ndarray:
    """The tokens of `data.split`, documents end to end.

    Raises:
      UserError: the task is pairs, or the split has not one window of text.
    """
    if "inputs" in cache.features:
        raise UserError(f"objective.name = {objective.name!r} is not accepted: task {data.task!r} is pairs: 'seq2seq'")
    tokens = np.asarray(cache.tokens(data.split, "targets"))
    accepted = f"less than the {len(tokens)} tokens of task '{data.task}', split '{data.split}'"
    require(len(tokens) > data.length, "data.length", data.length, accepted)
    return tokens
