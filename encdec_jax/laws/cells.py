"""What the cells of a column are: numbers, booleans or text, however a table writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from encdec_jax.errors import UserError

_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_SCALED = re.compile(r"(.*[\d.,])\s*([kmbgt])", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")  # 50,000,000: commas set thousands apart
_DECIMAL = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")  # 3,14: a comma for the decimal point
_BOOLEAN = {"true": True, "false": False}


def number(text: str) -> float | None:
    """The number that a text is: 3.1e9, 1.5B (k, M, B or G, T), 50,000,000; None if it is none."""
    body, scale = text.strip(), ""
    if match := _SCALED.fullmatch(body):
        body, scale = match[1], match[2].lower()
    if _GROUPED.fullmatch(body):
        body = body.replace(",", "")
    try:
        return None if "_" in body else float(body) * _SCALES[scale]
    except ValueError:
        return None


def numbers(column: pl.Series, what: str, rows: Sequence[int] | np.ndarray | None = None) -> pl.Series:
    """A column as Float64, null where a cell is empty.

    Text counts as `number` reads it, and with decimal commas where all its commas can be nothing else.

    Args:
      column: of any type.
      what: the column, as an error names it.
      rows: their numbers in the table; counted from 1 unless given.

    Raises:
      UserError: a cell is no number, or is one of two ('3,140' alone is 3.14 or 3140); the type holds none.
    """
    if column.dtype.is_numeric():
        return column.cast(pl.Float64)
    cells = texts(column, what)
    found = _read(cells, what)
    for place, (cell, value) in enumerate(zip(cells, found, strict=True)):
        if cell is not None and value is None:
            row = place + 1 if rows is None else rows[place]
            raise UserError(f"{what}, row {row} = {cell!r} is not accepted: a number")
    return pl.Series(column.name, found, pl.Float64)


def typed(column: pl.Series, what: str) -> pl.Series:
    """A column as numbers or booleans if all its cells are such, else as text without the spaces around.

    Raises:
      UserError: its type is nested, or holds numbers that can be read in two ways.
    """
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return column
    cells = texts(column, what)
    lower = [None if cell is None else cell.lower() for cell in cells]
    if set(lower) - {None} <= set(_BOOLEAN) and any(lower):
        return pl.Series(column.name, [None if cell is None else _BOOLEAN[cell] for cell in lower], pl.Boolean)
    found = _read(cells, what)
    if all((cell is None) == (value is None) for cell, value in zip(cells, found, strict=True)):
        return pl.Series(column.name, found, pl.Float64)
    return pl.Series(column.name, cells, pl.String)


def texts(column: pl.Series, what: str) -> list[str | None]:
    """Cells without the spaces around, None where nothing is left.

    Raises:
      UserError: the column's type has no text of a cell.
    """
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
        raise UserError(f"{what} holds {column.dtype}; accepted: a number or a text in each row")
    try:
        cells = column.cast(pl.String).to_list()
    except pl.exceptions.InvalidOperationError:
        raise UserError(f"{what} holds {column.dtype}; accepted: a number or a text in each row") from None
    return [None if cell is None else cell.strip() or None for cell in cells]


def _read(cells: Sequence[str | None], what: str) -> list[float | None]:
    commas = [cell for cell in cells if cell and "," in cell]
    decimal = bool(commas) and all(map(_DECIMAL.fullmatch, commas)) and not any("." in cell for cell in cells if cell)
    if decimal and all(map(_GROUPED.fullmatch, commas)):
        either = commas[0].replace(",", "."), commas[0].replace(",", "")
        raise UserError(f"{what} = {commas[0]!r} is not accepted: {either[0]} or {either[1]}, whichever it is")
    return [None if cell is None else number(cell.replace(",", ".") if decimal else cell) for cell in cells]
