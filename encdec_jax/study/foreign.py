"""Anybody's table of runs with the columns of our results table, so that what is found in ours is found in theirs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from encdec_jax.errors import UserError, require
from encdec_jax.laws.budgets import budgets
from encdec_jax.laws.cells import numbers, texts, typed
from encdec_jax.laws.table import UNFINISHED, numbers_of, repeats
from encdec_jax.sweep.identity import DIGITS
from encdec_jax.sweep.results import SCHEMA

NEEDED = (
    "label",
    "budget_flops",
    "n_params",
    "tokens",
    "suffix_bits_per_byte",
)  # of a results table, to find laws in it
MADE = "made of cells: "  # begins settings that the table did not name
_NAMES = {  # columns that, where they are there, no row may lack
    "run_id": "an id in every row",
    "status": f"done, {', '.join(UNFINISHED)}",
    "label": "a label in every row",
    "setting": "a setting in every row: what repeats what is not known without",
}
_WHOLE = 1e-3  # of a count: a fraction beyond says that it is in thousands, millions or billions
# Columns of ours that were set, and neither say which run a row is nor what it measured.
_SET = {
    "label",
    "objective",
    "prefix",
    "d_model",
    "enc_layers",
    "dec_layers",
    "n_params",
    "tokens",
    "batch_size",
    "lr",
}


def as_results(table: pl.DataFrame, names: Mapping[str, str], what: str) -> pl.DataFrame:
    """A table with the columns of `encdec_jax.sweep.results.SCHEMA`: those it lacks are null, and all runs done.

    Rows that repeat another in every column are left out, unless the table has ids, by which they are refused. A table
    that names no settings gets them from what varies: rows that agree in all `setting_columns` are repetitions.

    Args:
      table: a row a run.
      names: our name -> the table's, where it differs.
      what: the table, as an error names it.

    Raises:
      UserError: a column of `NEEDED`, or one that was named, is missing or holds something else; two runs have one id;
        a row lacks its id, status, label or setting in a column that is there; a run that is done lacks a number.
    """
    for ours in (*NEEDED, *names):
        name = names.get(ours, ours)
        require(name in table.columns, f"{ours} of {what}", name, f"a column of it: {', '.join(table.columns)}")
    named = names.get("run_id", "run_id") in table.columns
    rows = np.arange(len(table)) if named else np.flatnonzero(~repeats(table).to_numpy())
    table = table[rows]
    found = {}
    for ours, kind in SCHEMA.items():
        name = names.get(ours, ours)
        column = table[name] if name in table.columns else pl.Series([None] * len(table), dtype=kind)
        found[ours] = _cast(column, kind, f"{ours} of {what} (column {name!r})", rows + 1)
        if ours in _NAMES and name in table.columns and found[ours].null_count():
            row = rows[int(found[ours].is_null().to_numpy().argmax())] + 1
            raise UserError(f"{ours} of {what} (column {name!r}), row {row} = nothing is not accepted: {_NAMES[ours]}")
    made = pl.DataFrame(found, schema=SCHEMA)
    identity = pl.format("{}, row {}", pl.lit(what), pl.Series(rows + 1))
    made = made.with_columns(pl.col("run_id").fill_null(identity), pl.col("status").fill_null("done"))
    if names.get("setting", "setting") not in table.columns:
        made = made.with_columns(setting=_settings(table, names))
    _require_runs(made, names, rows + 1, what)
    return made


def with_near_budgets(*tables: pl.DataFrame) -> list[pl.DataFrame]:
    """The same tables; where budgets differ a little (measured FLOPs), all near to each other are the middle one.

    Raises:
      UserError: budgets run into each other.
    """
    column = pl.concat([table["budget_flops"] for table in tables])
    values = column.drop_nulls().unique()
    near = budgets(values.to_numpy(), "budget_flops") if len(values) else values.to_numpy()
    return [table.with_columns(pl.col("budget_flops").replace_strict(values, near, default=None)) for table in tables]


def sound(table: pl.DataFrame) -> pl.DataFrame:
    """A table with the columns of ours, checked, and its budgets told apart: what everything that is found starts from.

    Raises:
      UserError: as `as_results` and `with_near_budgets`.
    """
    return with_near_budgets(as_results(table, {}, "the table"))[0]


def _cast(column: pl.Series, kind: pl.DataType | type[pl.DataType], text: str, rows: np.ndarray) -> pl.Series:
    """A column as a type of the schema: texts without the spaces around, counts whole, NaN of a count as none."""
    if column.dtype == pl.Null:
        return column.cast(kind)
    if kind == pl.String:
        return pl.Series(column.name, texts(column, text), pl.String)
    if column.dtype == kind:
        return column
    if kind == pl.Boolean:
        cells = [None if cell is None else cell.lower() for cell in texts(column, text)]
        for row, cell in zip(rows, cells, strict=True):
            require(cell in (None, "true", "false"), f"{text}, row {row}", cell, "true or false")
        return pl.Series(column.name, [None if cell is None else cell == "true" for cell in cells], pl.Boolean)
    values = numbers(column, text, rows)
    if kind == pl.Int64:
        values = values.fill_nan(None)
        array = values.to_numpy()
        broken = values.is_not_null().to_numpy() & ~(
            np.isfinite(array) & (np.abs(array - np.round(array)) <= _WHOLE * np.abs(array)) & (np.abs(array) < 2**62)
        )
        if broken.any():
            first = int(broken.argmax())
            raise UserError(f"{text}, row {rows[first]} = {array[first]:g} is not accepted: a whole number")
        values = values.round()
    return values.cast(kind)


def _require_runs(table: pl.DataFrame, names: Mapping[str, str], rows: np.ndarray, what: str) -> None:
    """Refuse two runs of one id, a status that is none of ours, and runs that are done and lack a number."""
    twice = table.filter(pl.col("run_id").is_duplicated())["run_id"].to_list()
    require(not twice, f"run_id of {what}", twice[:1], "an id of its own for each run")
    strange = sorted(set(table["status"]) - {"done", *UNFINISHED})
    require(not strange, f"status of {what}", ", ".join(strange), _NAMES["status"])
    planned = table["budget_flops"].is_not_null().to_numpy()
    done = planned & (table["status"] == "done").to_numpy()
    for ours in NEEDED[1:]:
        read = planned if ours == "budget_flops" else done  # budgets of other runs are grouped with them
        if read.any():
            numbers_of(table[ours].alias(names.get(ours, ours)).filter(read), f"{ours} of {what}", rows[read])


def setting_columns(table: pl.DataFrame, names: Mapping[str, str]) -> dict[str, str]:
    """What tells settings apart in a table that does not name them: its column -> our name, or its own.

    Those of ours that were set (size, tokens, learning rate, ...), and of columns that are not ours, those that vary. A
    measurement in such a column, of which we can't know, makes every row a setting of its own.

    Args:
      table, names: as `as_results` takes them.
    """
    ours = {names.get(name, name): name for name in SCHEMA}
    named = {column: ours.get(column, column) for column in table.columns}
    return {
        column: name
        for column, name in named.items()
        if name in _SET or (name not in SCHEMA and table[column].n_unique() > 1)
    }


def _settings(table: pl.DataFrame, names: Mapping[str, str]) -> pl.Series:
    told = setting_columns(table, names)
    columns = {ours: _values(table[column]) for column, ours in told.items()}
    rows = (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
    texts = (json.dumps(row, sort_keys=True, default=str) for row in rows)
    return pl.Series([MADE + hashlib.sha256(text.encode()).hexdigest()[:DIGITS] for text in texts], dtype=pl.String)


def _values(column: pl.Series) -> list[Any]:
    """Cells as they are equal, whether a file of text or of types holds them: numbers as floats, NaN as none."""
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
        return column.to_list()
    cells = typed(column, f"column {column.name!r}")
    return (cells.cast(pl.Float64).fill_nan(None) if cells.dtype.is_numeric() else cells).to_list()
