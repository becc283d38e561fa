"""Frozen dataclasses from plain nested data (JSON, a ConfigDict), every field checked by name and type."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from encdec_jax.errors import UserError, require


def later(default: Any) -> Any:
    """A field that was added when runs existed already: at its default it does not enter `run_id`, so theirs stay."""
    return dataclasses.field(default=default, metadata={"later": True})


def build(cls: type, data: Any, path: str = "") -> Any:
    """A frozen dataclass from nested data.

    Args:
      cls: the dataclass. Its fields are dataclasses, numbers, strings, booleans, literals, or one of these or None.
      data: fields by name; those with defaults may be missing.
      path: of `data` in the whole, with a dot behind, for messages.

    Raises:
      UserError: a field is unknown, missing, of the wrong type, or its value is not accepted.
    """
    require(isinstance(data, Mapping), path or "config", data, "an object with named fields")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    for name in data:
        if name not in known:
            raise UserError(f"config field '{path}{name}' is unknown; accepted here: {', '.join(known)}")
    for name, f in known.items():
        if name not in data and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise UserError(f"config field '{path}{name}' is missing")
    return cls(**{name: _value(hints[name], value, path + name) for name, value in data.items()})


def _value(hint: Any, value: Any, path: str) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        (hint,) = (h for h in typing.get_args(hint) if h is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, path + ".")
    if typing.get_origin(hint) is Literal:
        require(value in typing.get_args(hint), path, value, "one of " + ", ".join(map(str, typing.get_args(hint))))
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    require(type(value) is hint, path, value, f"a value of type {hint.__name__}")
    return value
