"""Logical axes of parameters, and of whatever has their shape, read from the metadata that their declaration left."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from encdec_jax.model.param import Role

DECAYS: dict[Role, bool] = {"matrix": True, "table": True, "router": True, "vector": False, "bias": False}


def axes_of(tree: Any) -> Any:
    """The same tree with each array replaced by its parameter's logical axes, or None where it belongs to none."""
    return jax.tree.map(lambda leaf: _axes(leaf), tree, is_leaf=_is_variable)


def decay_mask(params: nnx.State) -> Any:
    """Booleans in the shape of the parameters: True for matrices, tables and routers, False for vectors and biases."""
    return jax.tree.map(lambda leaf: leaf.replace(DECAYS[leaf.role]), params, is_leaf=_is_variable)


def _axes(leaf: Any) -> Any:
    return leaf.replace(leaf.axes) if _is_variable(leaf) else None


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)
