"""Any table of runs: its columns given roles by their names, checked, and turned into the points of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from encdec_jax.errors import UserError, require
from encdec_jax.laws.budgets import budgets
from encdec_jax.laws.cells import numbers as numbers_in
from encdec_jax.laws.cells import typed
from encdec_jax.laws.units import doubts
from encdec_jax.laws.where import holds

# Columns of our results tables that say which text, windows and program a loss is of: a law mixes them unawares.
TOLD = ("cache_digest", "scored", "code")
# Statuses of `encdec_jax.sweep.store` that are not done.
UNFINISHED = ("pending", "running", "stale", "diverged", "failed", "damaged")


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


def points(
    table: pl.DataFrame,
    numbers: Mapping[str, str],
    loss: str,
    *,
    weight: str | None = None,
    labels: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    signed: bool = False,
) -> Points:
    """The points of a table.

    Left out are rows that a condition of `where` does not hold for, runs that our own tables say did not finish
    (`UNFINISHED` in a column `status`), and rows that repeat another in every column. A number that is missing or
    unsound in any other row is an error: nothing is left out silently.

    Args:
      table: a row a run.
      numbers: role -> name of its column; n are parameters, d training tokens, c training FLOPs.
      loss: name of the loss's column.
      weight: name of the column of the points' weights.
      labels: role -> name of its column.
      signed: whether losses of 0 and below are sound.
      where: conditions such as 'arch=enc_dec' or 'C>=1e18' (=, !=, <, <=, >, >=), all of which hold for a point.

    Raises:
      UserError: a column is missing or holds no numbers; a number is missing, not finite, or not above 0; a condition
        can't be read, or names a value that its column never has.
    """
    labels = dict(labels or {})
    numeric = {**numbers, "loss": loss, **({} if weight is None else {"weight": weight})}
    for role, name in (numeric | labels).items():
        require(name in table.columns, role, name, f"a column of the table: {', '.join(table.columns)}")
    left, kept = np.arange(len(table)), table
    excluded: dict[str, tuple[int, ...]] = {}
    for rule, holding in [*_unfinished(table), *((f"not {text}", holds(table, text)) for text in where)]:
        left = _leave(left, left[~holding.to_numpy()[left]], rule, excluded)
    left = _leave(left, left[repeats(table[left]).to_numpy()], "exact repeats of other rows", excluded)
    gone = len(table) - len(left)
    require(len(left) > 0, "table", f"{len(table)} rows, {gone} left out", "at least one row to fit")
    kept, rows = table[left], left + 1
    found = {role: numbers_of(kept[name], role, rows, signed and role == "loss") for role, name in numeric.items()}
    weights, losses = found.pop("weight", None), found.pop("loss")
    return Points(
        columns=found,
        loss=losses,
        weights=weights,
        labels={role: _label(kept[name], role, rows) for role, name in labels.items()},
        rows=rows,
        excluded=excluded,
        warnings=(*doubts(found, numbers, losses, loss), *_mixed(kept)),
    )


def _mixed(table: pl.DataFrame) -> list[str]:
    """What a table of ours says its rows differ in, and that no law tells apart; a line each."""
    named = [name for name in TOLD if table.schema.get(name) == pl.String]
    found = {name: table[name].drop_nulls().unique().sort().to_list() for name in named}
    return [
        f"the rows are of {len(values)} {name}: {', '.join(value[:12] for value in values)}; "
        f"--where {name}=... takes one"
        for name, values in found.items()
        if len(values) > 1
    ]


def _leave(left: np.ndarray, out: np.ndarray, rule: str, excluded: dict[str, tuple[int, ...]]) -> np.ndarray:
    """The places that are left without those that are out, which are listed under their rule, counted from 1."""
    if len(out):
        excluded[rule] = tuple((out + 1).tolist())
    return np.setdiff1d(left, out)


def _unfinished(table: pl.DataFrame) -> list[tuple[str, pl.Series]]:
    if table.schema.get("status") != pl.String:
        return []
    status = table["status"].str.strip_chars()
    return [(f"status is {name}", (status != name).fill_null(True)) for name in UNFINISHED]


def repeats(table: pl.DataFrame) -> pl.Series:
    """Which rows repeat one before them in every column, [rows]."""
    seen: set[str] = set()
    found = []
    for cells in map(repr, table.iter_rows()):
        found.append(cells in seen)
        seen.add(cells)
    return pl.Series(found, dtype=pl.Boolean)


def _label(column: pl.Series, role: str, rows: np.ndarray) -> np.ndarray:
    """A column as text; budgets that are numbers as the middle one of those near to each other."""
    text = f"{role} (column {column.name!r})"
    cells = typed(column, text)
    if role in ("seed", "budget") and cells.null_count():
        raise UserError(
            f"{text}, row {rows[int(cells.is_null().to_numpy().argmax())]} = nothing is not accepted: a {role}"
        )
    if role == "budget" and cells.dtype.is_numeric():
        return budgets(numbers_of(column, role, rows), text).astype(str)
    found: np.ndarray = column.cast(pl.String).str.strip_chars().to_numpy()
    return found


def numbers_of(column: pl.Series, role: str, rows: np.ndarray, signed: bool = False) -> np.ndarray:
    """A column as finite numbers above 0 (weights: at least 0).

    Args:
      column: of any type.
      role: of the column, as an error names it.
      rows: of the table, [points].
      signed: whether numbers of 0 and below are sound.

    Raises:
      UserError: a cell is missing or is no such number.
    """
    text = f"{role} (column {column.name!r})"
    read = numbers_in(column, text, rows)
    values = read.to_numpy()
    least = signed | (values >= 0 if role == "weight" else values > 0)
    broken = read.is_null().to_numpy() | ~(np.isfinite(values) & least)
    if broken.any():
        place = int(broken.argmax())
        shown = "nothing" if read[place] is None else f"{values[place]:g}"
        others = f" ({broken.sum()} such rows)" if broken.sum() > 1 else ""
        accepted = "finite" if signed else "finite, at least 0" if role == "weight" else "finite, above 0"
        raise UserError(f"{text}, row {rows[place]} = {shown} is not accepted: {accepted}{others}")
    require(signed or bool(values.any()), text, 0, "at least one weight above 0")
    return values
