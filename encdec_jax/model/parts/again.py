"""What a backward pass makes anew rather than keep: the float32 within a norm, and an MLP's activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.lazy import jax

if TYPE_CHECKING:
    from jax import Array


def lean(config: ModelConfig) -> bool:
    """Whether it does: in bfloat16, where what would be kept is larger than what it is made of, and without remat."""
    return config.dtype == "bfloat16" and config.remat == "none"


def again(config: ModelConfig, function: Callable[..., Array]) -> Callable[..., Array]:
    """The function, of which the backward pass keeps the arguments alone where that is `lean`."""
    return jax.checkpoint(function, prevent_cse=False) if lean(config) else function
