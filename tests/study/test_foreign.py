"""One check for every table: whatever holds it, and whether it has all our columns or only those needed."""

from __future__ import annotations

import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.errors import UserError
from encdec_jax.laws.read import read
from encdec_jax.study.curves import curves
from encdec_jax.study.findings import analyze
from encdec_jax.study.foreign import as_results

TABLE = study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.1)}, noise=0.01, seeds=(0, 1)).with_columns(
    pl.lit(True).alias("model.scan"), code=pl.lit("a" * 12)
)
WAYS = pytest.mark.parametrize("way", [lambda table: analyze(table, "causal_lm"), curves], ids=["analyze", "curves"])


def third(column: str, value: object) -> pl.DataFrame:
    """The table with another value in its third row."""
    here = pl.int_range(pl.len()) == 2
    return TABLE.with_columns(pl.when(here).then(pl.lit(value)).otherwise(column).alias(column))


@WAYS
@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("run_id", None, "= nothing is not accepted: an id in every row"),
        ("status", None, "= nothing is not accepted: done, pending"),
        ("label", None, "= nothing is not accepted: a label in every row"),
        ("label", "  ", "= nothing is not accepted: a label in every row"),
        ("setting", None, "= nothing is not accepted: a setting in every row"),
        ("status", "DONE", "= 'DONE' is not accepted: done, pending"),
        ("n_params", None, "row 3 = nothing is not accepted: finite, above 0"),
        ("budget_flops", 0.0, "row 3 = 0 is not accepted: finite, above 0"),
        ("budget_flops", -1e11, "row 3 = -1e[+]11 is not accepted: finite, above 0"),
        ("budget_flops", float("nan"), "row 3 = nan is not accepted: finite, above 0"),
        ("seed", 0.5, "row 3 = 0.5 is not accepted: a whole number"),
        ("model.scan", "maybe", "row 3 = .maybe. is not accepted: true or false"),
    ],
)
def test_a_cell_that_is_unsound_is_one_line(way, column, value, says):
    with pytest.raises(UserError, match=f"{column} of the table .*{says}") as caught:
        way(third(column, value))
    assert "\n" not in str(caught.value)


def test_a_budget_of_a_run_that_failed_is_checked_too():
    with pytest.raises(UserError, match="budget_flops of the table"):
        curves(third("budget_flops", 0.0).with_columns(status=pl.lit("failed")))


@WAYS
def test_spaces_around_a_label_make_no_other_label(way):
    assert repr(way(third("label", " causal_lm "))) == repr(way(TABLE))


def test_budgets_that_differ_in_rounding_are_one():
    near = TABLE.with_columns(pl.col("budget_flops") * (1 + 1e-7 * pl.int_range(pl.len())))
    assert [len(curve.n) for curve in curves(near)[0]] == [len(curve.n) for curve in curves(TABLE)[0]]
    assert len(analyze(near, "causal_lm").budgets) == 3


def test_a_seed_that_is_no_number_is_none():
    table = third("seed", float("nan"))
    assert table["seed"].is_nan().any()
    assert as_results(table, {}, "it")["seed"].null_count() == 1


def test_a_csv_of_all_columns_is_the_table_it_was_written_of(tmp_path):
    TABLE.write_csv(tmp_path / "results.csv")
    assert as_results(read(tmp_path / "results.csv"), {}, "it").equals(TABLE)
    found, expected = (analyze(source, "causal_lm") for source in (tmp_path / "results.csv", TABLE))
    assert found.law("enc_dec").slope == expected.law("enc_dec").slope


def test_settings_are_the_same_whether_a_file_holds_text_or_types(tmp_path):
    """A number is one number: as text, as a float, or whole; NaN is none."""
    odd = pl.int_range(pl.len()) % 2 == 1
    table = TABLE.drop("setting", "run_id").with_columns(
        warmup=pl.when(odd).then(1000).otherwise(2000),
        decay=pl.when(odd).then(0.1).otherwise(float("nan")),
        tied=odd,
        note=pl.when(odd).then(pl.lit("a")).otherwise(None),
    )
    floats = table.with_columns(pl.col("warmup", "tokens", "batch_size").cast(pl.Float64))
    table.with_columns(pl.col("decay").fill_nan(None)).write_csv(tmp_path / "t.csv")
    expected = as_results(table, {}, "it")["setting"].to_list()
    assert len(set(expected)) == len(TABLE)
    for same in (floats, read(tmp_path / "t.csv")):
        assert as_results(same, {}, "it")["setting"].to_list() == expected
