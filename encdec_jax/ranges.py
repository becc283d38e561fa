"""Which numbers are accepted: said once beside each number, checked in one place."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from encdec_jax.errors import UserError, require

MANY = 2**24  # rows, tokens of a window, devices: more than any machine has room for


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, both included unless said otherwise; NaN is in none.

    Attributes:
      low, high: the ends; infinite for none.
      above: `low` itself is left out.
      below: `high` itself is left out.
    """

    low: float = 0
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        inside = self.low < value if self.above else self.low <= value
        return finite(value) and inside and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:,}"
        high = f"{'below' if self.below else 'at most'} {self.high:,}"
        return f"{low} and finite" if self.high == math.inf else f"{low} and {high}"


POSITIVE = Range(0, above=True)
FRACTION = Range(0, 1)
COUNT = Range(1, MANY)


def finite(value: float) -> bool:
    """Whether a number is finite, as a float too."""
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def check_ranges(config: Any, path: str = "") -> None:
    """Check each field of a dataclass that is annotated with a `Range`: `Annotated[float, Range(0, 1)]`.

    A fractional number must be in its range as float32 too, which is what devices compute with: 1e-50 is 0 there.

    Args:
      config: the dataclass.
      path: of it in the configuration, with a dot behind, for messages.

    Raises:
      UserError: a number is not in its range.
    """
    cls: Any = type(config)
    for name, accepted in _ranges(cls).items():
        value = getattr(config, name)
        if value is None:
            continue
        if not _sound(value, accepted):
            kind = "" if not isinstance(value, str | bool) else "a number "
            require(False, path + name, value, f"{kind}{accepted}")


@lru_cache(maxsize=2**16, typed=True)  # sweeps give the same numbers thousands of times
def _sound(value: Any, accepted: Range) -> bool:
    whole = isinstance(value, int | np.integer)
    if not (whole or isinstance(value, float | np.floating)) or isinstance(value, bool) or value not in accepted:
        return False
    with np.errstate(over="ignore"):
        return whole or float(np.float32(value)) in accepted


def number(name: str, text: str, accepted: Range, kind: type[int] | type[float] = float) -> Any:
    """A number that a command line gives as text.

    Raises:
      UserError: the text is no number of the kind, or one that is not in the range.
    """
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    what = "a whole number of" if kind is int else "a number"
    if value not in accepted:
        raise UserError(f"{name} = {text!r} is not accepted: {what} {accepted}")
    return value


@cache
def _ranges(cls: Any) -> Mapping[str, Range]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):
        for hint in (hints[field.name], *typing.get_args(hints[field.name])):
            for extra in getattr(hint, "__metadata__", ()):
                if isinstance(extra, Range):
                    found[field.name] = extra
    return found
