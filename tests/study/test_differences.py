import numpy as np
import polars as pl
import pytest
from synthetic import BUDGETS, Truth, study

from encdec_jax.laws.interval import Interval
from encdec_jax.laws.read import read
from encdec_jax.study.differences import compare, minus, over
from encdec_jax.study.findings import analyze
from encdec_jax.study.foreign import as_results

A = study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.1)}, noise=0.01, draw=1)
B = study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.3)}, noise=0.01, draw=2)


def compared(a: pl.DataFrame, b: pl.DataFrame):
    return compare((a, b), (analyze(a, "causal_lm"), analyze(b, "causal_lm")))


def test_a_difference_of_normal_estimates_has_their_quadrature():
    found = minus(Interval(5.0, 5.0 - 3.0, 5.0 + 3.0), Interval(1.0, 1.0 - 4.0, 1.0 + 4.0))
    assert (found.value, found.low, found.high) == (4.0, -1.0, 9.0)


def test_a_difference_of_skewed_estimates_covers_as_often_as_it_says():
    """Of two log-normal estimates, 95 % intervals of their ratio hold the true one in 95 % of repetitions."""
    random = np.random.default_rng(0)
    b, a = np.exp(0.5 + 0.2 * random.standard_normal(4000)), np.exp(0.1 * random.standard_normal(4000))
    hits = 0
    for x, y in zip(b, a, strict=True):
        wide, slim = np.exp(1.96 * 0.2), np.exp(1.96 * 0.1)
        found = over(Interval(x, x / wide, x * wide), Interval(y, y / slim, y * slim))
        hits += found.low <= np.exp(0.5) <= found.high
    assert 0.94 < hits / 4000 < 0.96


def test_what_has_no_interval_has_no_interval_of_its_difference():
    assert not minus(Interval(2.0), Interval(1.0, 0.5, 1.5)).known
    assert not over(Interval(2.0, -1.0, 3.0), Interval(1.0, 0.5, 1.5)).known


def test_a_table_beside_itself_differs_in_nothing():
    found = compared(A, A)
    assert (len(found.shared), len(found.only_a), len(found.only_b)) == (24, 0, 0)
    assert found.by == "run_id"
    assert found.mean == Interval(0.0, 0.0, 0.0)
    assert not found.absent
    assert {one.change.value for one in found.differences if one.ratio} == {1.0}
    assert not any(one.told_apart for one in found.differences)


def test_a_worse_architecture_is_told_apart():
    found = {(one.what, one.label, one.budget): one for one in compared(A, B).differences}
    gap = found["gap", "enc_dec", 1e12]
    assert gap.change.value == pytest.approx(gap.b.value - gap.a.value)
    assert gap.told_apart
    assert gap.change.low < 0.2 < gap.change.high
    assert not found["loss", "causal_lm", 1e12].told_apart


def test_runs_without_common_ids_are_matched_by_what_they_are():
    later = B.filter(pl.col("budget_flops") > 2e11).with_columns(run_id=pl.format("later-{}", "run_id"))
    found = compared(A.filter(pl.col("arch") == "causal_lm"), later)
    assert found.by == "setting and seed"
    assert (len(found.shared), len(found.only_a), len(found.only_b)) == (8, 4, 8)
    assert found.shared["difference"].to_list() == (found.shared["loss_b"] - found.shared["loss_a"]).to_list()
    assert "only A: causal_lm's loss, n, d at 1e+11 FLOPs" in found.absent
    assert any(line.startswith("only B: enc_dec's gap") or "enc_dec's loss" in line for line in found.absent)


def test_ids_that_run_from_1_in_each_table_match_nothing_but_equal_runs():
    """Of another label, size, budget, setting or seed, run 7 is another run."""
    numbers = pl.int_range(pl.len()).cast(pl.String).alias("run_id")
    a = A.with_columns(numbers)
    assert (compared(a, a).by, len(compared(a, a).shared)) == ("run_id", 24)
    for other in (B.reverse(), B.with_columns(pl.col("setting") + "-x"), B.with_columns(pl.col("seed") + 1)):
        found = compared(a, other.with_columns(numbers))
        assert found.by == "setting and seed"
    assert (len(found.shared), len(found.only_a), len(found.only_b)) == (0, 24, 24)


def test_a_setting_of_one_name_is_not_one_setting_of_another_label_or_size():
    """Settings that a stranger numbers are matched no more than ids are."""
    a, b = (table.with_columns(setting=pl.int_range(pl.len()).cast(pl.String)) for table in (A, B.reverse()))
    found = compared(a, b.with_columns(pl.col("run_id") + "-b"))
    assert (len(found.shared), len(found.only_a), len(found.only_b)) == (0, 24, 24)


def test_runs_of_one_id_are_matched_where_a_table_names_no_settings():
    bare = as_results(B.drop("setting", "lr", "d_model"), {}, "bare")
    assert (compared(A, bare).by, len(compared(A, bare).shared)) == ("run_id", 24)


def test_a_table_as_text_beside_itself_shares_all_runs(tmp_path):
    table = A.drop("run_id", "setting").with_columns(warmup=pl.int_range(pl.len()) * 1000)
    table.write_csv(tmp_path / "t.csv")
    text, types = (as_results(one, {}, name) for one, name in ((read(tmp_path / "t.csv"), "text"), (table, "types")))
    found = compared(text, types)
    assert (found.by, len(found.shared), len(found.only_a)) == ("setting and seed", 24, 0)
    assert set(found.shared["difference"]) == {0.0}


def test_exponents_of_laws_of_two_forms_are_no_difference():
    longer = study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.1)}, noise=0.01, draw=1, budgets=(*BUDGETS, 3e12))
    found = compared(A, longer)
    assert not [one for one in found.differences if one.what.startswith("loss exponent")]
    assert any("causal_lm's loss exponent above a floor" in line for line in found.absent)
    assert any(line.startswith("only A: causal_lm's loss exponent") for line in found.absent)
    assert [one for one in found.differences if one.what == "n exponent"]
