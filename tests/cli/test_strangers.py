"""Tables that are broken somewhere: a result, or one line and exit code 2; no traceback, no warning of NumPy's."""

import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encdec_jax.cli.main import main

FIT = ("--law", "kaplan_n", "--n", "n", "--loss", "loss", "--resamples", "0", "--json")
COMPARE = ("--n", "n", "--d", "d", "--c", "c", "--loss", "loss", "--json")


def stranger() -> pl.DataFrame:
    nominal = np.repeat(np.geomspace(1e18, 1e20, 3), 4)
    n = (0.6 * (nominal / 6) ** 0.45 * np.tile([0.3, 0.7, 1.6, 3.5], 3)).round()
    d = (nominal / 6 / n).round()
    loss = 1.8 + 480 * n**-0.35 + 2000 * d**-0.37 + 0.01 * np.sin(n)
    return pl.DataFrame({"label": ["a"] * 12, "n": n, "d": d, "c": nominal, "loss": loss})


def outcome(capsys, *arguments: str) -> int:
    """The exit code, checked to come with one line if it is 2, and with none of NumPy's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        code = main(list(arguments))
    captured = capsys.readouterr()
    assert [one for one in caught if issubclass(one.category, RuntimeWarning)] == []
    assert code in (0, 1, 2)
    if code == 2:
        assert captured.err.startswith("encdec: ")
        assert captured.err.count("\n") == 1
        assert captured.out == ""
    return code


CELL = st.one_of(
    st.sampled_from(["", "nan", "inf", "-1", "0", "1e400", "1,5", "1_0", "7B", "1,000", "None", "é", '"', "a;b", "\t"]),
    st.text(max_size=4),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.integers(0, 12),
    column=st.integers(0, 4),
    cell=CELL,
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"]),
)
def test_one_broken_cell_is_a_result_or_a_line(tmp_path, capsys, row, column, cell, separator, encoding):
    rows = [list(stranger().columns), *([str(value) for value in values] for values in stranger().rows())]
    rows[row][column] = cell
    path = tmp_path / "t.csv"
    text = "\n".join(separator.join(cells) for cells in rows) + "\n"
    path.write_bytes(text.encode(encoding, errors="replace"))
    outcome(capsys, "fit", str(path), *FIT)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (pl.concat_list("n", "d").alias("x"), 0),
        (pl.struct("n").alias("x"), 0),
        (pl.lit(b"ab").alias("x"), 0),
        (pl.lit("x[/y]").alias("label"), 0),
        (pl.concat_list("n").alias("label"), 2),
        (pl.lit(None, pl.String).alias("label"), 2),
        (pl.duration(days=3).alias("n"), 2),
        (pl.lit(True).alias("n"), 2),
        (pl.col("n") * 1e290, 2),
        (pl.col("loss") * 1e290, 0),
        (pl.col("loss") * 1e-290, 0),
        (pl.lit(3.0).alias("loss"), 0),
        (pl.lit(None, pl.Float64).alias("c"), 2),
        (pl.lit("failed").alias("status"), 2),
        (pl.lit(1.5).alias("seed"), 2),
    ],
)
def test_a_strange_column_is_a_result_or_a_line(tmp_path, capsys, change, code):
    path = str(tmp_path / "t.parquet")
    stranger().with_columns(change).write_parquet(path)
    assert outcome(capsys, "compare", path, path, *COMPARE) == code
    if code == 0:
        assert outcome(capsys, "compare", path, path, *COMPARE[:-1]) == 0
    outcome(capsys, "fit", path, *FIT)
