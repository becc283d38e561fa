"""Frozen dataclasses from plain nested data (JSON, a ConfigDict), every field checked by name and type."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import operator
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from encdec_jax.errors import UserError, require
from encdec_jax.ranges import finite

_PLAIN = (int, float, str, bool, type(None))
_EXACT = (int, str, bool)  # no other type's values stand for theirs


def later(default: Any, execution: bool = False) -> Any:
    """A field that was added when runs existed already: at its default it does not enter `run_id`, so theirs stay."""
    return dataclasses.field(default=default, metadata={"later": True, "execution": execution})


def execution(default: Any) -> Any:
    """A field that says how a run is executed, not what it computes: whatever its value, it is the same run."""
    return dataclasses.field(default=default, metadata={"execution": True})


def build(cls: type, data: Any, path: str = "") -> Any:
    """A frozen dataclass from nested data.

    Args:
      cls: the dataclass. Its fields are dataclasses, numbers, strings, booleans, literals, or one of these or None; or
        tuples of any number of one of these.
      data: fields by name; those with defaults may be missing.
      path: of `data` in the whole, with a dot behind, for messages.

    Raises:
      UserError: a field is unknown, missing, of the wrong type, or its value is not accepted.
    """
    require(isinstance(data, Mapping), path or "config", data, "an object with named fields")
    known = fields(cls)
    for name in data:
        if name not in known:
            raise UserError(f"config field '{path}{name}' is unknown; accepted here: {', '.join(known)}")
    for name, field in known.items():
        if field.needed and name not in data:
            raise UserError(f"config field '{path}{name}' is missing")
    values = {name: typed(known[name], value, path + name) for name, value in data.items()}
    try:
        return cls(**values)
    except UserError as error:  # of a class that stands in several places, and can't know in which
        raise UserError(f"{path if str(error).partition(' = ')[0] in known else ''}{error}") from error


def as_data(value: Any) -> Any:
    """What `dataclasses.asdict` gives, without copying what can't change: sweeps ask it of thousands."""
    if type(value) in _PLAIN:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: as_data(getattr(value, name)) for name in fields(type(value))}
    if isinstance(value, list | tuple):
        return type(value)(map(as_data, value))
    return copy.deepcopy(value)


def plain(value: Any) -> Any:
    """A value of a configuration with Python's numbers in place of NumPy's, which overflow and are no JSON."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, tuple | list):
        made = tuple(map(plain, value))
        return value if kind is tuple and all(map(operator.is_, made, value)) else made
    if dataclasses.is_dataclass(kind):
        parts = {name: part for name in fields(kind) if type(part := getattr(value, name)) not in _PLAIN}
        changes = {name: made for name, part in parts.items() if (made := plain(part)) is not part}
        return dataclasses.replace(value, **changes) if changes else value
    return value.item() if isinstance(value, np.generic) else value


def parsed(cls: type, path: str, text: str) -> Any:
    """A value that a command line gives as text, as the field at a dotted path below a dataclass takes it.

    Text is read by the type of the field alone: '1e6' is a whole number for an int, 'null' is None where the field can
    be that, 'true' and 'false' are booleans, commas stand between the values of a list.

    Raises:
      UserError: there is no such field, or the text is none of its values.
    """
    hint: Any = cls
    for name in path.split("."):
        inner = typing.get_type_hints(hint) if dataclasses.is_dataclass(hint) else {}
        if name not in inner:
            accepted = ", ".join(inner) or "nothing below it"
            raise UserError(f"--config.{path}: field '{name}' is unknown; accepted there: {accepted}")
        hint, optional = _without_none(inner[name])
    if optional and text.lower() in ("null", "none"):
        return None
    if typing.get_origin(hint) is tuple:
        (inner, _) = typing.get_args(hint)
        require(not dataclasses.is_dataclass(inner), f"--config.{path}", text, "a list, set in CONFIG alone")
        return tuple(_parsed_text(inner, path, part) for part in text.split(",") if part)
    return _parsed_text(hint, path, text, optional)


def _parsed_text(hint: Any, path: str, text: str, optional: bool = False) -> Any:
    """A text as a field's type takes it: see `parsed`."""
    accepted = f"{_kind(hint)}{' or null' if optional else ''}"
    require(not dataclasses.is_dataclass(hint), f"--config.{path}", text, f"{accepted}; its fields are set one by one")
    try:
        return _from_text(hint, text)
    except ValueError:
        raise UserError(f"--config.{path} = {text!r} is not accepted: {accepted}") from None


def _from_text(hint: Any, text: str) -> Any:
    if typing.get_origin(hint) is Literal:
        return next((value for value in typing.get_args(hint) if str(value) == text), text)
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if hint is int:
        try:
            return int(text)
        except ValueError:
            return float(text)
    return hint(text)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """A field's type without None, and whether that is one of its values."""
    if not isinstance(hint, types.UnionType):
        return hint, False
    (inner,) = (h for h in typing.get_args(hint) if h is not type(None))
    return inner, True


def _kind(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(hint, f"a {getattr(hint, '__name__', hint)}")


@dataclasses.dataclass(frozen=True)
class Field:
    """What is asked of a field of a configuration, found out once a class: sweeps build thousands of each.

    Attributes:
      hint: its type, without None.
      optional: whether it may be None.
      choices: of a literal.
      nested: whether it is a dataclass.
      default: its value where none is given, if it is of no dataclass.
      needed: whether one must be given.
      execution, later: whether it was declared so.
      item: of a tuple, what is asked of each part.
    """

    hint: Any
    optional: bool
    choices: tuple[Any, ...]
    nested: bool
    default: Any = None
    needed: bool = False
    execution: bool = False
    later: bool = False
    item: Field | None = None


@functools.cache
def fields(cls: type) -> dict[str, Field]:
    """What is asked of each field of a dataclass, by name."""
    hints, found = typing.get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        kinds = {name: bool(field.metadata.get(name)) for name in ("execution", "later")}
        found[field.name] = _field(hints[field.name], default=field.default, needed=needed, **kinds)
    return found


def _field(hint: Any, **said: Any) -> Field:
    hint, optional = _without_none(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    return Field(
        hint,
        optional,
        inner if origin is Literal else (),
        dataclasses.is_dataclass(hint) and isinstance(hint, type),
        item=_field(inner[0]) if origin is tuple else None,
        **said,
    )


def typed(field: Field, value: Any, path: str) -> Any:
    """A value as a field takes it: 1 for a float is 1.0, data for a dataclass is one.

    Raises:
      UserError: it is of another type, not one of the choices, or not finite; `path` names it.
    """
    hint = field.hint
    if type(value) is hint and (hint in _EXACT or (hint is float and math.isfinite(value))):
        return value
    value = plain(value)
    if field.optional and value is None:
        return None
    if field.item is not None:
        require(isinstance(value, tuple), path, value, "a list")
        return tuple(typed(field.item, one, f"{path}[{i}]") for i, one in enumerate(value))
    if field.nested:
        return value if isinstance(value, hint) else build(hint, value, path + ".")
    if field.choices:
        if value not in field.choices:
            require(False, path, value, "one of " + ", ".join(map(str, field.choices)))
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        require(finite(value), path, value, "a finite number")
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is float and isinstance(value, float):
        require(math.isfinite(value), path, value, "a finite number")
    if type(value) is not hint:
        require(False, path, value, f"a value of type {hint.__name__}")
    return value
