"""One vector for each text: final states of what reads a source, pooled. For retrieval and classification."""

from __future__ import annotations

from typing import Literal, get_args

import jax.numpy as jnp
from flax import nnx
from jax import Array

from encdec_jax.errors import require
from encdec_jax.model.model import Model
from encdec_jax.model.streams import Stream

Pool = Literal["mean", "first", "last"]


def embed(graph: nnx.GraphDef, params: nnx.State, texts: Stream, pool: Pool = "mean", segments: int = 1) -> Array:
    """The pooled states of each segment, float32 [batch, segments, d_model]; a packed text gives what it gives alone.

    The encoder's, where the source has a stream of its own; else those of the only stack, without any target.

    Args:
      graph: `encdec_jax.model.model.graph(config)`.
      params: the model's parameters.
      texts: [batch, length], as the architecture takes a source (`encdec_jax.model.streams.stream`); 0 is padding.
      pool: the mean over tokens, or the first or the last token's state.
      segments: the largest number of a segment, static. One that a row does not hold gives zeros.

    Raises:
      UserError: `pool` is unknown, or the first token of a causal source, which sees itself alone; no segment is asked.
    """
    model: Model = nnx.merge(graph, params)
    known = get_args(Pool) if model.config.choices.source_open else ("mean", "last")
    why = "" if model.config.choices.source_open else ": the first token of a causal source sees itself alone"
    require(pool in known, "pool", pool, "one of " + ", ".join(known) + why)
    require(segments >= 1, "segments", segments, "at least 1")
    states, texts = model.read(texts)
    member = texts.segment[:, None, :] == jnp.arange(1, segments + 1)[:, None]
    if pool != "mean":
        order = texts.position if pool == "last" else -texts.position
        place = jnp.where(member, order[:, None, :], jnp.iinfo(jnp.int32).min)
        member = member & (place == place.max(axis=2, keepdims=True))
    share = member / jnp.maximum(member.sum(axis=2, keepdims=True), 1)
    return jnp.einsum("bsl,bld->bsd", share, states.astype(jnp.float32))
