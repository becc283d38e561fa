"""What a run demands of the tokens that it is to read, asked before anything is spent."""

from __future__ import annotations

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.config import DataConfig
from encdec_jax.data.heldout import eval_batch, further_sets
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import required_vocab_size
from encdec_jax.data.rows import planned
from encdec_jax.data.windows import Windows
from encdec_jax.errors import UserError, require


def check_demands(run: RunConfig, cache: TokenCache) -> None:
    """Check that tokens have all that training on them and scoring on them takes.

    Raises:
      UserError: a split is not there or too small, the objective is of another kind than the task, or the model does
        not know every id.
    """
    needed = required_vocab_size(objective_of(run.objective), cache.vocab, run.data)
    what = f"at least {needed}, the ids of vocabulary {run.data.vocab!r} and of the objective"
    require(run.model.vocab_size >= needed, "model.vocab_size", run.model.vocab_size, what)
    require(run.data.split in cache.splits, "data.split", run.data.split, "one of " + ", ".join(cache.splits))
    if objective_of(run.objective).pairs:
        require(run.data.documents == "joined", "data.documents", run.data.documents, "'joined': pairs have no windows")
        planned(cache, run.data)
    else:
        text(cache, run.data, run.objective.name)
    eval_batch(cache, run.model.choices, run.data, run.evaluate)
    for _ in further_sets(cache, run.model.choices, run.data, run.evaluate):
        pass


def text(cache: TokenCache, data: DataConfig, name: str) -> Windows:
    """The windows of `data.split`, for the objective of a name.

    Raises:
      UserError: the task is pairs, a field is of pairs, or the split has not one window of text.
    """
    if "inputs" in cache.features:
        raise UserError(f"objective.name = {name!r} is not accepted: task {data.task!r} is pairs: 'seq2seq'")
    require(data.long == "drop", "data.long", data.long, f"'drop': objective {name!r} reads text, not pairs")
    require(data.packing == "apart", "data.packing", data.packing, f"'apart': objective {name!r} reads text, not pairs")
    tokens, windows = len(cache.tokens(data.split, "targets")), Windows(cache, data.split, data.length, data.documents)
    accepted = f"less than the {tokens} tokens of task '{data.task}', split '{data.split}'"
    accepted += "" if data.documents == "joined" else ", and than one of its documents"
    require(windows.count > 0, "data.length", data.length, accepted)
    return windows
