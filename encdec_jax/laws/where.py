"""Conditions on a table's rows: 'arch=enc_dec', 'C>=1e18', 'outlier!=True'."""

from __future__ import annotations

import math
import operator
import re
from typing import Any

import polars as pl

from encdec_jax.errors import UserError, require
from encdec_jax.laws.cells import number, typed

_SIGNS = re.compile(r"\s*(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_SHOWN = 8  # values of a column that an error lists


def holds(table: pl.DataFrame, text: str) -> pl.Series:
    """Where a condition holds, [rows]; a missing value and NaN fulfil none.

    Values are compared as what the column holds: numbers (1e9, 1.5B), true and false, or text.

    Raises:
      UserError: the condition can't be read, its column is missing, its value is NaN, or = and !=
        name a value that the column never has.
    """
    name, sign, value = _parts(table, text)
    column = typed(table[name], f"where = {text!r}: column {name!r}")
    given: Any = value
    if column.dtype == pl.Boolean:
        require(value.lower() in ("true", "false"), "where", text, f"true or false: {name} holds nothing else")
        given = value.lower() == "true"
    elif column.dtype.is_numeric():
        given = number(value)
        require(given is not None and not math.isnan(given), "where", text, f"a number: {name} holds numbers")
        column = column.fill_nan(None) if column.dtype.is_float() else column  # Polars orders NaN above all numbers
        if column.dtype == pl.Float32:
            given = pl.Series([given], dtype=pl.Float32)[0]
    require(sign in ("=", "!=") or column.dtype.is_numeric(), "where", text, f"= or !=: {name} holds {_kind(column)}")
    if sign in ("=", "!=") and not (column == given).any():
        values = column.drop_nulls().unique(maintain_order=True).to_list()
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        shown = ", ".join(f"{one:.10g}" if isinstance(one, float) else str(one) for one in values[:_SHOWN])
        raise UserError(f"where = {text!r} is not accepted: {name} never has this value, but {shown or 'none'}{more}")
    kept: pl.Series = _COMPARE[sign](column, given)
    return kept.fill_null(False)


def _parts(table: pl.DataFrame, text: str) -> tuple[str, str, str]:
    """Column, sign and value; a column's name may hold signs itself."""
    for name in sorted(table.columns, key=len, reverse=True):
        if name and text.strip().startswith(name) and (found := _SIGNS.fullmatch(text.strip()[len(name) :])):
            return name, found[1], found[2].strip()
    require(re.search("[=<>]", text) is not None, "where", text, "COLUMN=VALUE, or with !=, <, <=, >, >=")
    raise UserError(
        f"where = {text!r} is not accepted: a condition on a column of the table: {', '.join(table.columns)}"
    )


def _kind(column: pl.Series) -> str:
    return "true and false" if column.dtype == pl.Boolean else "text"
