"""A text, completed by a model."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import frame_of
from encdec_jax.errors import require
from encdec_jax.infer.kv_cache import greedy
from encdec_jax.model.model import graph
from encdec_jax.model.streams import stream


def complete(run: RunConfig, params: nnx.State, text: str, tokens: int = 64) -> str:
    """What the model most likely writes, token by token, given a text.

    After training on text that is how the text goes on; on pairs, the target of this source; on span corruption, what
    is missing at the end of the text. A model has not seen positions beyond the lengths that it was trained on.

    Args:
      run: the configuration; `encdec_jax.train.restore.restore` gives it, and the parameters.
      params: the model's parameters.
      text: to complete, of at least two tokens.
      tokens: that are written at most; fewer where the document, or the missing span, ends.

    Raises:
      UserError: the text is too short, `tokens` is not positive, or the task's vocabulary is not in the cache.
    """
    vocab = TokenCache.open(run.data.task, run.data.vocab).vocab
    ids = vocab.encode(text)
    require(len(ids) >= 2, "text", text, "at least two tokens")
    objective = objective_of(run.objective)
    source, first, end = objective.prompt(ids, frame_of(objective, vocab, run.data))
    read = stream(np.array([source]), 0, run.model.choices.source_open)
    decoder = jax.jit(greedy, static_argnums=(0, 4))
    written = decoder(graph(run.model), params, read, stream(np.array([[first]]), len(source)), tokens)[0].tolist()
    return vocab.decode(written[: written.index(end)] if end in written else written)
