"""Anybody's table of runs with the columns of our results table, so that what is found in ours is found in theirs."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from encdec_jax.errors import UserError, require
from encdec_jax.sweep.results import SCHEMA

NEEDED = (
    "arch",
    "budget_flops",
    "n_params",
    "tokens",
    "suffix_bits_per_byte",
)  # of a results table, to find laws in it


def as_results(table: pl.DataFrame, names: Mapping[str, str], what: str) -> pl.DataFrame:
    """A table with the columns of `encdec_jax.sweep.results.SCHEMA`: those it lacks are null, and all runs done.

    Args:
      table: a row a run.
      names: our name -> the table's, where it differs.
      what: the table, as an error names it.

    Raises:
      UserError: a column of `NEEDED`, or one that was named, is missing or holds something else.
    """
    for ours in (*NEEDED, *names):
        name = names.get(ours, ours)
        require(name in table.columns, f"{ours} of {what}", name, f"a column of it: {', '.join(table.columns)}")
    found = {}
    for ours, kind in SCHEMA.items():
        name = names.get(ours, ours)
        column = table[name] if name in table.columns else pl.Series([None] * len(table), dtype=kind)
        try:
            found[ours] = column.cast(kind)
        except pl.exceptions.PolarsError:
            raise UserError(f"{ours} of {what} (column {name!r}) holds {column.dtype}; accepted: {kind}") from None
    made = pl.DataFrame(found, schema=SCHEMA)
    identity = pl.format("{}, row {}", pl.lit(what), pl.int_range(1, len(table) + 1))
    return made.with_columns(pl.col("run_id").fill_null(identity), pl.col("status").fill_null("done"))
