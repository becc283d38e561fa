"""Small models and streams of every architecture."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _pytest.mark import ParameterSet
from flax import nnx

from encdec_jax.compute.families import ONE_STREAM
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.model import graph, initial
from encdec_jax.model.streams import Stream

TWO_STREAMS = [name for name, arch in ARCHS.items() if arch.own_stream]
SMALL = StackConfig(n_layers=2, d_model=16, n_heads=4, n_kv_heads=2, head_dim=6, d_ff=24)


def mostly_slow(rows: Iterable, fast: Collection[str], names: Iterable[str] | None = None) -> list[ParameterSet]:
    """A test's rows, of which those of the names in `fast` are fast tests, and the others slow ones."""
    named = [(row, name) for row, name in zip(rows, rows if names is None else names, strict=True)]
    return [pytest.param(row, id=name, marks=() if name in fast else pytest.mark.slow) for row, name in named]


def covering(configs: Mapping[str, ModelConfig]) -> list[str]:
    """Names of a few that have between them what all have: each value of a choice, each number that is not 0."""
    left = {name: set(_choices(config)) for name, config in configs.items()}
    wanted, chosen = set().union(*left.values()), []
    while wanted:
        chosen.append(max(left, key=lambda name: len(left[name] & wanted)))
        wanted -= left[chosen[-1]]
    return chosen


def _choices(config: object, at: str = "") -> Iterator[tuple[str, object]]:
    for field in fields(config):
        value, name = getattr(config, field.name), at + field.name
        if is_dataclass(value):
            yield from _choices(value, f"{name}.")
        elif value is None or isinstance(value, (bool, str)):
            yield name, value
        elif field.default is not MISSING and not field.default:
            yield name, bool(value)


def model_config(arch: str, **changes: object) -> ModelConfig:
    """A small model; what only other architectures have is left out."""
    encoder = SMALL if ARCHS[arch].own_encoder else None
    if not ARCHS[arch].own_stream and changes.get("tie") in ONE_STREAM:
        changes["tie"] = ONE_STREAM[changes["tie"]]
    if not ARCHS[arch].context:
        changes.pop("block_length", None)
    return replace(ModelConfig(arch, vocab_size=64, decoder=SMALL, encoder=encoder), **changes)


@partial(jax.jit, static_argnums=0)
def parameters(config: ModelConfig, seed: int = 0) -> nnx.State:
    return initial(config, jax.random.key(seed))


@partial(jax.jit, static_argnums=(0, 4))
def logits(config: ModelConfig, params: nnx.State, source: Stream | None, target: Stream, scored: int) -> jax.Array:
    return nnx.merge(graph(config), params)(source, target, scored)


def stream(tokens: np.ndarray, first: int = 0, opened: bool = False, segment: int = 1) -> Stream:
    """Rows of one segment each, from position `first`."""
    shape = tokens.shape
    position = np.broadcast_to(first + np.arange(shape[1]), shape).astype(np.int32)
    return Stream(
        jnp.asarray(tokens, jnp.int32),
        jnp.asarray(position),
        jnp.full(shape, segment, jnp.int32),
        jnp.full(shape, opened),
    )


def concat(*streams: Stream) -> Stream:
    return Stream(*(jnp.concatenate(parts, axis=1) for parts in zip(*streams, strict=True)))


def example(arch: str, source: np.ndarray, target: np.ndarray, segment: int = 1) -> tuple[Stream | None, Stream]:
    """Source and target streams as the architecture takes them; the target's positions follow the source's."""
    choices = ARCHS[arch]
    first = stream(source, 0, choices.source_open, segment)
    second = stream(target, source.shape[1], False, segment)
    return (first, second) if choices.own_stream else (None, concat(first, second))


def tokens(seed: int, rows: int, length: int, vocab: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, vocab, (rows, length))
