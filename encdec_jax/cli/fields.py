"""What --help says of a configuration: every field with its type, default, accepted values and unit."""

from __future__ import annotations

import inspect
import re
import textwrap
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from encdec_jax.config import RunConfig
from encdec_jax.model.arch import ARCHS

WIDTH = 110
_TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def described() -> str:
    """How a configuration is given, and every field of it: types and defaults of the classes, text of their docs."""
    parts = [
        "CONFIG                  FILE.py[:ARG], whose get_config(ARG) gives an ml_collections ConfigDict;",
        "                        or FILE.json, as a run's folder holds it. --config=FILE.py[:ARG] says the same.",
        "--config.FIELD=VALUE    any field of it, as in --config.optim.lr=1e-3",
        "",
        "fields of a configuration:",
    ]
    return "\n".join([*parts, *_class(RunConfig, [])])


def documented(cls: type) -> dict[str, str]:
    """What the section `Attributes:` of a class's docstring says of each field."""
    _, _, section = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    found = {}
    for entry in re.split(r"\n(?=  \S)", section):
        names, _, text = entry.strip().partition(": ")
        for name in names.split(", "):
            found[name] = " ".join(text.split())
    return found


def _class(cls: type, paths: list[str], above: tuple[type, ...] = ()) -> Iterator[str]:
    """A class at one or several dotted paths: its plain fields, then the classes below it that are not above it too."""
    hints, said = get_type_hints(cls), documented(cls)
    inner: dict[type, list[str]] = {}
    yield ""
    if paths:
        yield f"{' and '.join(paths)}: {(inspect.getdoc(cls) or '').splitlines()[0]}"
    for one in fields(cls):
        below = next((hint for hint in (hints[one.name], *get_args(hints[one.name])) if is_dataclass(hint)), None)
        listed = get_origin(hints[one.name]) is tuple
        if isinstance(below, type) and below not in (cls, *above):
            inner.setdefault(below, []).append(".".join([*paths, one.name]))
        elif isinstance(below, type):
            yield f"  {'.'.join([*paths[:1], one.name])}: as the fields of {one.name} above"
        if isinstance(below, type) and not listed:
            continue
        kind = f"list, {'set in CONFIG alone' if below else 'as A,B'}; default empty" if listed else _kind(one, hints)
        yield f"  {'.'.join([*paths[:1], one.name])}: {kind}"
        text = said[one.name].replace("a name of `encdec_jax.model.arch.ARCHS`", ", ".join(ARCHS))
        yield textwrap.fill(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    for below, where in inner.items():
        yield from _class(below, where, (*above, cls))


def _kind(one: Field[Any], hints: dict[str, Any]) -> str:
    """Type and default of a field: 'number, default 0.001', 'adamw (default) or adafactor', 'text, required'."""
    hint = hints[one.name]
    if isinstance(hint, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        words = [f"{value} (default)" if value == one.default else str(value) for value in get_args(hint)]
        return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
    default = one.default if one.default_factory is MISSING else one.default_factory()
    if default is MISSING:
        return f"{_TYPES[hint]}, required"
    shown = str(default).lower() if default in (None, True, False) else default
    return f"{_TYPES[hint]}, default {'empty' if default == '' else shown}"
