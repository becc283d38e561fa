"""Logical axes of parameters, and of whatever has their shape, read from the metadata that their declaration left."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx


def axes_of(tree: Any) -> Any:
    """The same tree with each array replaced by its parameter's logical axes, or None where it belongs to none."""
    return jax.tree.map(lambda leaf: _axes(leaf), tree, is_leaf=_is_variable)


def decay_mask(params: nnx.State) -> Any:
    """Booleans in the shape of the parameters: True for weight matrices and tables, False for the scales of norms."""
    return jax.tree.map(lambda leaf: leaf.replace("norm" not in leaf.axes), params, is_leaf=_is_variable)


def _axes(leaf: Any) -> Any:
    return leaf.replace(leaf.axes) if _is_variable(leaf) else None


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)
