"""Any table of runs: its columns given roles by their names, checked, and turned into the points of a fit."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from encdec_jax.errors import UserError, require

SUFFIXES = {".csv": pl.read_csv, ".parquet": pl.read_parquet}
UNFINISHED = ("pending", "running", "stale", "diverged", "failed")  # statuses of `encdec_jax.sweep.store`, not done
_LEAST_N = 100.0  # parameters: fewer are counted in thousands, millions or billions
_COUNTING = 100.0  # times that C may differ from 6ND: no convention does by more
_CONDITION = re.compile(r"(.+?)(!=|<=|>=|=|<|>)(.*)")
_COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, eq=False)
class Points:
    """The runs that a law is fitted to; every array is [points].

    Attributes:
      columns: by role (such as n, d, c), finite and above 0.
      loss: finite and above 0.
      weights: at least 0, not all 0; None if all count alike.
      labels: by role (such as arch, seed, budget, trunk), as text; None where the table has nothing.
      rows: place of each point in the table, from 1 below the header.
      excluded: rule -> rows that it left out.
      warnings: what is odd, but not wrong; a line each.
    """

    columns: dict[str, np.ndarray]
    loss: np.ndarray
    weights: np.ndarray | None
    labels: dict[str, np.ndarray]
    rows: np.ndarray
    excluded: dict[str, tuple[int, ...]]
    warnings: tuple[str, ...]

    @property
    def n_excluded(self) -> int:
        """Rows that no point stands for."""
        return sum(map(len, self.excluded.values()))


def read(source: Any) -> pl.DataFrame:
    """A table: the path of a CSV (with a header) or Parquet file, or a polars or pandas frame.

    Raises:
      UserError: the file is missing, or is not what its suffix says; a frame of another kind.
    """
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    if isinstance(source, str | Path):
        return _file(Path(source))
    if type(source).__module__.partition(".")[0] == "pandas":
        return pl.DataFrame({str(name): pl.Series(_values(source[name])) for name in source.columns})
    raise UserError(f"table of type {type(source).__name__} is not accepted: a path, or a polars or pandas frame")


def points(
    table: pl.DataFrame,
    numbers: Mapping[str, str],
    loss: str,
    *,
    weight: str | None = None,
    labels: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
) -> Points:
    """The points of a table.

    Left out are rows that a condition of `where` does not hold for, and runs that our own tables say did not finish
    (`UNFINISHED` in a column `status`). A number that is missing or unsound in any other row is an error: nothing is
    left out silently.

    Args:
      table: a row a run.
      numbers: role -> name of its column; n are parameters, d training tokens, c training FLOPs.
      loss: name of the loss's column.
      weight: name of the column of the points' weights.
      labels: role -> name of its column.
      where: conditions such as 'arch=enc_dec' or 'C>=1e18' (=, !=, <, <=, >, >=), all of which hold for a point.

    Raises:
      UserError: a column is missing or holds no numbers; a number is missing, not finite, or not above 0; a condition
        can't be read.
    """
    labels = dict(labels or {})
    numeric = {**numbers, "loss": loss, **({} if weight is None else {"weight": weight})}
    for role, name in (numeric | labels).items():
        require(name in table.columns, role, name, f"a column of the table: {', '.join(table.columns)}")
    kept = table.with_row_index("row of the table", offset=1)
    excluded: dict[str, tuple[int, ...]] = {}
    for rule, holds in [*_unfinished(table), *((f"not {text}", _condition(table, text)) for text in where)]:
        already = {row for rows in excluded.values() for row in rows}
        left = tuple(row for row in kept.filter(~holds)["row of the table"].to_list() if row not in already)
        if left:
            excluded[rule] = left
    gone = [row for rows in excluded.values() for row in rows]
    kept = kept.filter(~pl.col("row of the table").is_in(gone))
    require(len(kept) > 0, "table", f"{len(table)} rows, {len(gone)} left out", "at least one row to fit")
    rows = kept["row of the table"].to_numpy()
    found = {role: _numbers(kept[name], role, rows) for role, name in numeric.items()}
    weights, losses = found.pop("weight", None), found.pop("loss")
    return Points(
        columns=found,
        loss=losses,
        weights=weights,
        labels={role: kept[name].cast(pl.String).to_numpy() for role, name in labels.items()},
        rows=rows,
        excluded=excluded,
        warnings=tuple(_warnings(found)),
    )


def _file(path: Path) -> pl.DataFrame:
    reader: Any = SUFFIXES.get(path.suffix.lower())
    require(reader is not None, "table", str(path), f"a file that ends in {' or '.join(SUFFIXES)}")
    options = {"infer_schema_length": None} if path.suffix.lower() == ".csv" else {}
    try:
        table: pl.DataFrame = reader(path, **options)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"can't read table {path}: {(str(error).splitlines() or ['?'])[0]}") from error
    require(len(table) > 0, "table", str(path), "at least one row below the header")
    return table


def _values(series: Any) -> list[Any]:
    """A pandas column as Python values, what it holds as missing as None."""
    return [None if gone else value for value, gone in zip(series.tolist(), series.isna().tolist(), strict=True)]


def _unfinished(table: pl.DataFrame) -> list[tuple[str, pl.Series]]:
    if table.schema.get("status") != pl.String:
        return []
    status = table["status"]
    return [(f"status is {name}", (status != name).fill_null(True)) for name in UNFINISHED]


def _condition(table: pl.DataFrame, text: str) -> pl.Series:
    """Where a condition holds; a missing value fulfils none."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UserError(f"where = {text!r} is not accepted: COLUMN=VALUE, or with !=, <, <=, >, >=")
    name, sign, value = (part.strip() for part in match.groups())
    require(name in table.columns, "where", text, f"a condition on a column of the table: {', '.join(table.columns)}")
    column = table[name]
    given: Any = value
    if column.dtype.is_numeric():
        try:
            given = float(value)
        except ValueError:
            raise UserError(f"where = {text!r} is not accepted: {name} holds numbers") from None
    else:
        column = column.cast(pl.String)
        require(sign in ("=", "!="), "where", text, f"= or !=: {name} holds text")
    holds: pl.Series = _COMPARE[sign](column, given)
    return holds.fill_null(False)


def _numbers(column: pl.Series, role: str, rows: np.ndarray) -> np.ndarray:
    """A column as finite numbers above 0 (weights: at least 0)."""
    text = f"{role} (column {column.name!r})"
    if not column.dtype.is_numeric():
        cast = column.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
        broken = (cast.is_null() & column.is_not_null()).to_numpy()
        if broken.any():
            place = int(broken.argmax())
            raise UserError(f"{text}, row {rows[place]} = {column[place]!r} is not accepted: a number")
        column = cast
    values = column.cast(pl.Float64).to_numpy()
    least = values >= 0 if role == "weight" else values > 0
    broken = column.is_null().to_numpy() | ~(np.isfinite(values) & least)
    if broken.any():
        place = int(broken.argmax())
        shown = "nothing" if column[place] is None else f"{values[place]:g}"
        others = f" ({broken.sum()} such rows)" if broken.sum() > 1 else ""
        accepted = "finite, at least 0" if role == "weight" else "finite, above 0"
        raise UserError(f"{text}, row {rows[place]} = {shown} is not accepted: {accepted}{others}")
    require(bool(values.any()), text, 0, "at least one weight above 0")
    return values


def _warnings(columns: dict[str, np.ndarray]) -> list[str]:
    found = []
    n, d, c = (columns.get(role) for role in ("n", "d", "c"))
    if n is not None and n.min() < _LEAST_N:
        found.append(f"n from {n.min():.3g} to {n.max():.3g}: are these parameters, or thousands or millions of them?")
    if n is not None and d is not None and c is not None:
        ratio = float(np.median(c / (6 * n * d)))
        if not 1 / _COUNTING <= ratio <= _COUNTING:
            found.append(f"C/(6ND) = {ratio:.3g} in the median run: is c in FLOPs, n in parameters, d in tokens?")
    return found
