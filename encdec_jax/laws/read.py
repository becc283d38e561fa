"""Anybody's table, read as it is: a file or a frame. What its bytes don't say for sure is refused by name."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from encdec_jax.errors import UserError, require
from encdec_jax.files import expanded

SUFFIXES = (".csv", ".parquet")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_COMMA = re.compile(r"[+-]?\d+,(\d{1,2}|\d{4,})")  # a decimal comma for sure
_POINT = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")  # 1.500: beside decimal commas, 1500 or 1.5


def read(source: Any) -> pl.DataFrame:
    """A table: the path of a CSV (with a header) or Parquet file, or a polars or pandas frame.

    A path is that of one file, whatever signs it holds. A CSV is in UTF-8, or in what its byte order mark says, with
    cells set apart by commas, semicolons, tabs or bars: that by which all its rows are of one length. Its cells stay
    text until they are used (`encdec_jax.laws.cells`).

    Raises:
      UserError: the file is missing, or is not what its suffix says; two columns have one name; rows differ in length;
        another encoding; two separators that fit; a frame of another kind.
    """
    if isinstance(source, str | Path):
        return _file(expanded(str(source)))
    if isinstance(source, pl.LazyFrame):
        try:
            return source.collect()
        except pl.exceptions.PolarsError as error:
            raise UserError(f"can't read the table: {_first_line(error)}") from error
    if isinstance(source, pl.DataFrame):
        return source
    if type(source).__module__.partition(".")[0] == "pandas":
        _require_unlike([str(name) for name in source.columns], "the table")
        return pl.DataFrame([_series(str(name), source[name]) for name in source.columns])
    raise UserError(f"table of type {type(source).__name__} is not accepted: a path, or a polars or pandas frame")


def _file(path: Path) -> pl.DataFrame:
    suffix = path.suffix.lower()
    require(suffix in SUFFIXES or path.exists(), "table", str(path), "a file or folder that is there")
    require(suffix in SUFFIXES, "table", str(path), f"a file that ends in {' or '.join(SUFFIXES)}")
    try:
        data = path.read_bytes()
        table = pl.read_parquet(io.BytesIO(data)) if suffix == ".parquet" else _csv(data, path)
    except (OSError, csv.Error, pl.exceptions.PolarsError) as error:
        raise UserError(f"can't read table {path}: {_first_line(error)}") from error
    require(len(table) > 0, "table", str(path), "at least one row below the header")
    return table


def _csv(data: bytes, path: Path) -> pl.DataFrame:
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        accepted = "UTF-8, or UTF-16 or UTF-32 with a byte order mark"
        raise UserError(
            f"encoding of {path} is not accepted: byte {error.start} is not {encoding}; {accepted}"
        ) from None
    require("\0" not in text, "encoding", str(path), "a table of text; zero bytes are UTF-16 without its mark, or none")
    separator, (header, *rows) = _split(text, path)
    names = [name.strip() for name in header]
    _require_unlike(names, str(path))
    if separator == ";":
        _require_one_mark(names, rows, path)
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    cells = {name: [cell or None for cell in column] for name, column in zip(names, columns, strict=True)}
    return pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String))


def _split(text: str, path: Path) -> tuple[str, list[list[str]]]:
    """The separator, and the rows with the header first."""
    first = next((line for line in text.splitlines() if line.strip()), None)
    if first is None:
        raise UserError(f"can't read table {path}: it is empty")
    fitting = {}
    lengths: dict[str, tuple[int, int, int]] = {}
    for separator in (sign for sign in _SEPARATORS if sign in first):
        rows = _rows(text, separator)
        odd = next(((i, len(row)) for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
        if odd is not None:
            lengths[separator] = (*odd, len(rows[0]))
        elif len(rows[0]) > 1:
            fitting[separator] = rows
    if len(fitting) > 1:
        names = " or ".join(_SEPARATORS[sign] for sign in fitting)
        raise UserError(f"separator of {path} is not accepted: its cells can be set apart by {names}")
    if fitting:
        return fitting.popitem()
    if lengths:
        sign, (row, found, wanted) = max(lengths.items(), key=lambda item: item[1][2])
        problem = f"row {row} has {found} cells by {_SEPARATORS[sign]}, the header {wanted}"
        raise UserError(f"can't read table {path}: {problem}")
    rows = _rows(text, ",")
    odd = next(((i, len(row)) for i, row in enumerate(rows) if len(row) != 1), None)
    if odd is not None:
        problem = (
            f"row {odd[0]} has {odd[1]} cells by commas, the first line 1; it is to name the columns, and no comment"
        )
        raise UserError(f"can't read table {path}: {problem}")
    return ",", rows


def _rows(text: str, separator: str) -> list[list[str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    return [row for row in rows if any(cell.strip() for cell in row) or len(row) > 1]


def _require_unlike(names: Sequence[str], what: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    require(not twice, "columns", ", ".join(twice), f"names that differ: of {what}, each of these stands twice or more")


def _require_one_mark(names: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> None:
    """Refuse points that may be of thousands, where another column has decimal commas."""
    comma, point = (
        next(((name, row[i]) for i, name in enumerate(names) for row in rows if sign.fullmatch(row[i].strip())), None)
        for sign in (_COMMA, _POINT)
    )
    if comma and point:
        what = f"decimal comma of {path} (column {comma[0]!r}: {comma[1]})"
        raise UserError(f"{what} is not accepted beside the point of column {point[0]!r}: {point[1]}; one or the other")


def _series(name: str, column: Any) -> pl.Series:
    """A pandas column, with null for what it holds as missing."""
    values = [None if gone else value for value, gone in zip(column.tolist(), column.isna().tolist(), strict=True)]
    try:
        return pl.Series(name, values)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        raise UserError(f"column {name!r} is not accepted: values of one type in all its rows") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["?"])[0]
