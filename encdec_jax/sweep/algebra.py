"""A small algebra of sweeps: lists of points, each a set of config fields by dotted path.

    points = grid(
        zipped(axis("model.decoder.d_model", 32, 64), axis("train.batch_size", 4, 2)),
        axis("train.seed", 0, 1),
    )
    runs = [override(base, point) for point in points]

Every function takes and gives sweeps, so they compose in any depth. Order is kept: the last factor turns fastest.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from encdec_jax.config import RunConfig, from_dict, to_dict
from encdec_jax.errors import UserError, require

Point = dict[str, Any]  # dotted path of a config field -> its value
Sweep = list[Point]


def axis(field: str, *values: Any) -> Sweep:
    """One point for each value of one field."""
    return [{field: value} for value in values]


def grid(*sweeps: Sweep) -> Sweep:
    """Every combination of a point of each sweep.

    Raises:
      UserError: two of the sweeps set the same field.
    """
    return [_joined(points) for points in itertools.product(*sweeps)]


def zipped(*sweeps: Sweep) -> Sweep:
    """The sweeps' first points together, then their second ones, and so on.

    Raises:
      UserError: the sweeps have different lengths, or two of them set the same field.
    """
    lengths = [len(sweep) for sweep in sweeps]
    require(len(set(lengths)) <= 1, "zipped lengths", lengths, "sweeps of one length")
    return [_joined(points) for points in zip(*sweeps, strict=True)]


def chain(*sweeps: Sweep) -> Sweep:
    """The points of the first sweep, then those of the second, and so on."""
    return list(itertools.chain(*sweeps))


def override(base: RunConfig, point: Mapping[str, Any]) -> RunConfig:
    """`base` with the point's fields replaced, all at once, so that fields that hang together can change together.

    Raises:
      UserError: a field is unknown, or its value is not accepted.
    """
    return from_dict(assigned(to_dict(base), point))


def assigned(data: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as nested data with the point's fields replaced; their values are not looked at yet.

    Raises:
      UserError: a path leads through a field that is unknown, or has no fields.
    """
    made = copy.deepcopy(dict(data))
    for path, value in point.items():
        *parents, name = path.split(".")
        _inside(made, parents, path)[name] = to_dict(value) if dataclasses.is_dataclass(value) else value
    return made


def _inside(data: dict[str, Any], parents: list[str], path: str) -> dict[str, Any]:
    for depth, name in enumerate(parents):
        if name not in data:
            raise UserError(f"config field '{path}' is unknown: accepted for '{name}' are {', '.join(data)}")
        if not isinstance(data[name], dict):
            outer = ".".join(parents[: depth + 1])
            raise UserError(f"config field '{path}' can't be set: {outer} = {data[name]!r} has no fields")
        data = data[name]
    return data


def _joined(points: Iterable[Point]) -> Point:
    joined: Point = {}
    for point in points:
        for field, value in point.items():
            require(field not in joined, "sweep field", field, "a field that only one of the combined sweeps sets")
            joined[field] = value
    return joined
