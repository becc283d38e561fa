"""What makes two runs the same run, and two runs repetitions of each other: their resolved configurations."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cache
from types import NoneType
from typing import Any

from encdec_jax.config import RunConfig, from_dict, to_dict
from encdec_jax.errors import UserError

DIGITS = 12  # 48 bits: a clash among a million runs has a chance of 1 in 500


def run_id(run: RunConfig) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the configuration as canonical JSON.

    The configuration is first brought to its fields' types, so that 1 and 1.0 in a float field are one run. Fields of
    execution (`encdec_jax.resolve.execution`: mesh, scan, remat, kernel, ...) enter at their defaults, whatever their
    values; a field that was added later enters only where it differs from its default.

    Raises:
      UserError: a field holds a value of another type than declared, or a number that is not finite.
    """
    return _hash(_resolved(run))


def setting(run: RunConfig) -> str:
    """The same hash without the seed: runs of one setting are repetitions of each other, and no others are.

    Raises:
      UserError: as `run_id`.
    """
    resolved = _resolved(run)
    del resolved["train"]["seed"]
    return _hash(resolved)


def scored(run: RunConfig) -> str:
    """A hash of what the fair loss is taken of: losses of runs that differ in it are of different texts.

    Raises:
      UserError: as `run_id`.
    """
    resolved = _resolved(run)
    return _hash({"evaluate": resolved["evaluate"], "split": run.data.eval_split})


def _resolved(run: RunConfig) -> dict[str, Any]:
    resolved: dict[str, Any] = _entering(from_dict(to_dict(run)))
    return resolved


def _entering(config: Any) -> Any:
    """The fields of a configuration that make it another run, as plain nested data."""
    if isinstance(config, tuple):
        return [_entering(part) for part in config]
    if isinstance(config, (int, float, str, NoneType)) or not dataclasses.is_dataclass(config):
        return config
    entering = {}
    for name, default, execution, later in _fields(config.__class__):
        value = default if execution else getattr(config, name)
        if not later or value != default:
            entering[name] = _entering(value)
    return entering


@cache
def _fields(cls: type[Any]) -> list[tuple[str, Any, bool, bool]]:
    """Of each field of a configuration: its name and default, and whether it is of execution, or was added later."""
    return [
        (field.name, field.default, bool(field.metadata.get("execution")), bool(field.metadata.get("later")))
        for field in dataclasses.fields(cls)
    ]


def _hash(resolved: dict[str, Any]) -> str:
    try:
        text = json.dumps(resolved, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise UserError(f"the configuration of a run holds a number that is not finite: {resolved}") from error
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
