"""What a model writes for many sources, and how likely it finds their targets."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from encdec_jax.config import RunConfig
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import Layout, Prompt, Segments
from encdec_jax.data.packing import assemble
from encdec_jax.infer.kv_cache import greedy
from encdec_jax.model.model import graph
from encdec_jax.model.streams import Stream
from encdec_jax.train.trainer import Trainer

SHORTEST = 16  # tokens; sources are padded to this, or to a power of two above: a few compilations serve all


def predict(run: RunConfig, params: nnx.State, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The most likely tokens behind each prompt, without what ends them.

    Args:
      run: the configuration; as many tokens are written as its targets have room for, at most.
      params: the model's parameters.
      prompts: of its objective.
    """
    steps = objective_of(run.objective).sequence(run.data)[1]
    decoder = jax.jit(greedy, static_argnums=(0, 4))
    model, size = graph(run.model), run.evaluate.batch_size
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].source))
    written: list[list[int]] = [[] for _ in prompts]
    for at in range(0, len(order), size):
        some = order[at : at + size]
        full = [prompts[i] for i in some + some[-1:] * (size - len(some))]
        source, first = _streams(full, run.model.choices.source_open)
        for i, row in zip(some, np.asarray(decoder(model, params, source, first, steps)).tolist(), strict=False):
            end = prompts[i].end
            written[i] = row[: row.index(end)] if end in row else row
    return written


def log_likelihoods(
    run: RunConfig, params: nnx.State, prompts: Sequence[Prompt], targets: Sequence[list[int]]
) -> np.ndarray:
    """Log-likelihood in nats of each target and its end behind its prompt: float64 [examples]."""
    labels = [[*target, prompt.end] for prompt, target in zip(prompts, targets, strict=True)]
    inputs = [[prompt.first, *label[:-1]] for prompt, label in zip(prompts, labels, strict=True)]
    sources, lengths = [len(prompt.source) for prompt in prompts], [len(label) for label in labels]
    segments = Segments(
        np.array([i for prompt in prompts for i in prompt.source], np.int32),
        np.array(sources, np.int64),
        np.array([i for row in inputs for i in row], np.int32),
        np.array([i for row in labels for i in row], np.int32),
        np.array(lengths, np.int64),
    )
    source, target = _padded(max(sources)), _padded(max(lengths))
    own = run.model.choices.own_stream
    shape = (source, target, target) if own else (0, source + target, source + target)
    rows = assemble(run.model.choices, Layout(1, *shape, ()), np.arange(len(prompts)), len(prompts), segments)
    return -Trainer(run).held_out_bits(params, rows) * np.log(2)


def _streams(prompts: Sequence[Prompt], source_open: bool) -> tuple[Stream, Stream]:
    """Sources [prompts, longest], padded behind, and the first inputs of their targets [prompts, 1]."""
    lengths = np.array([len(prompt.source) for prompt in prompts], np.int32)
    width = _padded(int(lengths.max()))
    position = np.broadcast_to(np.arange(width, dtype=np.int32), (len(prompts), width))
    there = position < lengths[:, None]
    tokens = np.zeros((len(prompts), width), np.int32)
    tokens[there] = [i for prompt in prompts for i in prompt.source]
    source = Stream(tokens, position, there.astype(np.int32), there & source_open)
    first = np.array([[prompt.first] for prompt in prompts], np.int32)
    one = np.ones_like(first)
    return source, Stream(first, lengths[:, None], one, np.zeros_like(one, bool))


def _padded(length: int) -> int:
    return max(SHORTEST, 1 << max(length - 1, 0).bit_length())
