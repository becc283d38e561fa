"""How queries see keys of several streams side by side in one softmax."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from encdec_jax.model.kernels import Pattern, Told, join_patterns
from encdec_jax.model.parts.positions import CosSin
from encdec_jax.model.streams import Stream


def join_masks(masks: list[Array | Pattern | Told]) -> Array | Pattern | Told:
    """Which of the joined keys each query may see."""
    if len(masks) == 1:
        return masks[0]
    patterns = [one for one in masks if isinstance(one, Pattern)]
    if patterns:
        return join_patterns(*patterns)
    return jnp.concatenate([one for one in masks if not isinstance(one, Pattern | Told)], axis=2)


def join_turns(parts: list[tuple[CosSin | None, Stream]]) -> CosSin | None:
    """What the joined keys are rotated by; those without positions by nothing: cosine 1, sine 0."""
    known = next((turn for turn, _ in parts if turn is not None), None)
    if known is None or len(parts) < 2:
        return known

    def still(one: Array, key: Stream, value: float) -> Array:
        return jnp.full((*key.position.shape, *one.shape[2:]), value, one.dtype)

    every = [turn or (still(known[0], key, 1), still(known[1], key, 0)) for turn, key in parts]
    cos, sin = (jnp.concatenate(both, axis=1) for both in zip(*every, strict=True))
    return cos, sin


def join_biases(parts: list[Array | None], keys: list[Stream]) -> Array | None:
    """What is added to the scores of the joined keys: 0 to those without positions."""
    known = next((part for part in parts if part is not None), None)
    if known is None or len(parts) < 2:
        return known
    still = [jnp.zeros((*known.shape[:3], key.position.shape[1]), known.dtype) for key in keys]
    every = [none if part is None else part for part, none in zip(parts, still, strict=True)]
    return jnp.concatenate(every, axis=3)
