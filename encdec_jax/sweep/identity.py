"""What makes two runs the same run, and two runs repetitions of each other: their resolved configurations."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from encdec_jax.config import RunConfig
from encdec_jax.errors import UserError
from encdec_jax.resolve import fields, typed
from encdec_jax.train.beginning import canonical

_SIMPLE = (int, float, str, bool, type(None))
DIGITS = 12  # 48 bits: a clash among a million runs has a chance of 1 in 500


def run_id(run: RunConfig) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the configuration as canonical JSON.

    The configuration is first brought to its fields' types, so that 1 and 1.0 in a float field are one run. Fields of
    execution (`encdec_jax.resolve.execution`: mesh, scan, remat, kernel, ...) enter at their defaults, whatever their
    values; a field that was added later enters only where it differs from its default. `train.init_from` enters
    as one text, however its path is written (`encdec_jax.train.beginning.canonical`).

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
    resolved: dict[str, Any] = _entering(run, "")
    return resolved


def _entering(value: Any, path: str) -> Any:
    """What of a configuration makes it another run, each value as its field takes it, as plain nested data."""
    if isinstance(value, tuple):
        return [_entering(part, f"{path}[{i}]") for i, part in enumerate(value)]
    if not dataclasses.is_dataclass(value):
        return value
    entering = {}
    for name, field in fields(value.__class__).items():
        here = f"{path}.{name}" if path else name
        part = typed(field, getattr(value, name), here)
        if field.execution:
            part = field.default
        elif here == "train.init_from":
            part = canonical(part)
        if not field.later or part != field.default:
            entering[name] = part if type(part) in _SIMPLE else _entering(part, here)
    return entering


def _hash(resolved: dict[str, Any]) -> str:
    try:
        text = json.dumps(resolved, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise UserError(f"the configuration of a run holds a number that is not finite: {resolved}") from error
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
