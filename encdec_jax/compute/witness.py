"""The second witness of the ledger: matmul FLOPs read off the jaxpr of a real function, loops multiplied out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def flops(function: Callable, *args: Any) -> int:
    """FLOPs of every `dot_general` and `ragged_dot_general` that `function(*args)` executes, 2 for each multiplication.

    The function is traced, not compiled or run, so `args` may be `jax.ShapeDtypeStruct`s. What XLA later removes or
    fuses is still counted, elementwise work is not.

    Raises:
      ValueError: a matmul stands in a loop whose length is not known before it runs.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * prod(equation.outvars[0].aval.shape) * prod(left[axis] for axis in contracted)
    if name == "ragged_dot_general":
        return _ragged(equation)
    inner = [_count(jaxpr) for jaxpr in _inner(equation.params)]
    if name == "scan":
        return equation.params["length"] * sum(inner)
    if name == "cond":
        return max(inner)
    if name == "while" and sum(inner):
        raise ValueError("a while loop holds matmuls, and its length is not known: count its body instead")
    return sum(inner)


def _ragged(equation: Any) -> int:
    """Every row meets the matrix of its own group; a platform without a kernel for it computes more."""
    numbers = equation.params["ragged_dot_dimension_numbers"]
    (contracted, _), _ = numbers.dot_dimension_numbers
    (ragged,) = numbers.lhs_ragged_dimensions
    left, found = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    # Rows that are contracted are so within their groups: the product of each has the shape that follows the groups.
    made = prod(found[1:]) if ragged in contracted else prod(found)
    return 2 * made * prod(left[axis] for axis in contracted)


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The jaxprs that an equation runs."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item
