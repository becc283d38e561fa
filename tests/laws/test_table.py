import numpy as np
import pandas as pd
import polars as pl
import pytest

from encdec_jax.errors import UserError
from encdec_jax.laws.read import read
from encdec_jax.laws.table import TOLD, points
from encdec_jax.study.foreign import as_results
from encdec_jax.sweep.results import SCHEMA

RUNS = pl.DataFrame(
    {
        "params": [1e7, 3e7, 1e8, 3e8],
        "toks": [1e9, 2_000_000_000, 3e9, 4e9],
        "ce": [3.2, 3.0, 2.8, 2.7],
        "family": ["t5", "gpt", "t5", None],
        "note": ["x", "y", "z", "w"],
    }
)
ROLES = {"n": "params", "d": "toks"}


def test_a_table_is_the_same_whatever_it_comes_in(tmp_path):
    RUNS.write_csv(tmp_path / "runs.csv")
    RUNS.write_parquet(tmp_path / "runs.parquet")
    frames = [
        RUNS,
        RUNS.lazy(),
        pd.DataFrame(RUNS.to_dict(as_series=False)),
        tmp_path / "runs.csv",
        str(tmp_path / "runs.parquet"),
    ]
    for frame in frames:
        found = points(read(frame), ROLES, "ce", labels={"arch": "family"})
        np.testing.assert_array_equal(found.columns["n"], RUNS["params"])
        np.testing.assert_array_equal(found.loss, RUNS["ce"])
        assert found.labels["arch"].tolist() == ["t5", "gpt", "t5", None]


def test_what_is_left_out_is_listed_by_its_rule():
    runs = RUNS.with_columns(
        status=pl.Series(["done", "diverged", "done", "done"]), ce=pl.Series([3.2, None, 2.8, 2.7])
    )
    found = points(runs, ROLES, "ce", where=["family=t5", "params>=2e7"])
    assert found.rows.tolist() == [3]
    assert found.excluded == {"status is diverged": (2,), "not family=t5": (4,), "not params>=2e7": (1,)}
    assert found.n_excluded == 3


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("ce", [3.2, float("nan"), 2.8, 2.7], r"loss \(column 'ce'\), row 2 = nan is not accepted: finite, above 0"),
        ("ce", [3.2, 3.0, -2.8, -2.7], r"row 3 = -2.8 is not accepted: finite, above 0 \(2 such rows\)"),
        ("ce", [3.2, None, 2.8, 2.7], "row 2 = nothing is not accepted"),
        ("ce", ["3.2", "3.0", "diverged", "2.7"], "row 3 = 'diverged' is not accepted: a number"),
        ("toks", [1e9, float("inf"), 3e9, 4e9], r"d \(column 'toks'\), row 2 = inf"),
        ("params", [0, 3e7, 1e8, 3e8], r"n \(column 'params'\), row 1 = 0"),
    ],
)
def test_an_unsound_number_is_named_with_its_row(column, values, message):
    with pytest.raises(UserError, match=message):
        points(RUNS.with_columns(pl.Series(column, values, strict=False)), ROLES, "ce")


def test_numbers_that_a_csv_holds_as_text_count():
    """One 'nan' or blank makes a whole column of a CSV text: what is left out by a condition must not stop the rest."""
    runs = RUNS.with_columns(ce=pl.Series(["3.2", " 3.0", "nan", "2.7"]))
    assert points(runs, ROLES, "ce", where=["note!=z"]).loss.tolist() == [3.2, 3.0, 2.7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "loss"}, "loss = 'loss' is not accepted: a column of the table: params, toks, ce, family, note"),
        ({"weight": "w"}, "weight = 'w' is not accepted: a column of the table"),
        ({"where": ["family"]}, "where = 'family' is not accepted: COLUMN=VALUE"),
        ({"where": ["size=3"]}, "where = 'size=3' is not accepted: a condition on a column of the table"),
        ({"where": ["params=big"]}, "params holds numbers"),
        ({"where": ["family>t5"]}, "= or !=: family holds text"),
        ({"where": ["params<1"]}, "at least one row to fit"),
    ],
)
def test_a_wrong_name_or_condition_is_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        points(RUNS, ROLES, **{"loss": "ce", **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("runs.csv", "", "can't read table"),
        ("runs.csv", "N,D\n", "at least one row below the header"),
        ("runs.parquet", "N,D\n1,2\n", "can't read table"),
        ("runs.xlsx", "N", "a file that ends in .csv or .parquet"),
        ("absent/runs.csv", None, "can't read table"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_units_that_are_off_are_doubted():
    assert not points(RUNS, ROLES, "ce").warnings
    millions = RUNS.with_columns(pl.col("params") / 1e6)
    assert "are these parameters" in points(millions, ROLES, "ce").warnings[0]
    flops = RUNS.with_columns(c=6 * pl.col("params") * pl.col("toks") / 1e6)
    assert "C/(6ND) = 1e-06" in points(flops, {**ROLES, "c": "c"}, "ce").warnings[0]


def test_a_table_with_other_names_becomes_a_results_table():
    theirs = RUNS.drop_nulls().with_columns(flops=pl.lit(1e18))
    names = {"label": "family", "n_params": "params", "tokens": "toks", "budget_flops": "flops"}
    made = as_results(theirs, {**names, "suffix_bits_per_byte": "ce"}, "theirs")
    assert made.schema == SCHEMA
    assert made["status"].to_list() == ["done"] * 3
    assert made["run_id"].n_unique() == 3
    with pytest.raises(UserError, match="suffix_bits_per_byte of theirs = 'suffix_bits_per_byte' is not accepted"):
        as_results(theirs, names, "theirs")


@pytest.mark.parametrize("name", TOLD)
def test_losses_of_several_texts_windows_or_programs_are_said_to_be(name):
    mixed = RUNS.with_columns(pl.Series(name, ["one", "two"] * len(RUNS))[: len(RUNS)])
    assert points(mixed, ROLES, "ce").warnings == (f"the rows are of 2 {name}: one, two; --where {name}=... takes one",)
    assert not points(mixed, ROLES, "ce", where=[f"{name}=one"]).warnings
    assert not points(RUNS.with_columns(pl.lit(3).alias(name)), ROLES, "ce").warnings  # a column of another's own
