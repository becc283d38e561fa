"""jax where the same file also declares parameters, which planning reads without loading jax."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax as jax
    import jax.numpy as jnp
else:

    class _Module:
        """A module that is imported when something of it is first asked for."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(import_module(self._name), attribute)

    jax, jnp = _Module("jax"), _Module("jax.numpy")

__all__ = ["jax", "jax_version", "jnp", "tanh_keeps"]
TANH_SINCE = (0, 11, 2)  # of tanh, and so of GELU, JAX keeps only the derivative for the backward pass


@cache
def jax_version() -> tuple[int, ...]:
    """The version of JAX that is installed, which need not be loaded for it."""
    return tuple(map(int, re.findall(r"\d+", version("jax"))[:3]))


def tanh_keeps() -> int:
    """Arrays that the installed JAX keeps of a tanh for the backward pass."""
    return 1 if jax_version() >= TANH_SINCE else 2
