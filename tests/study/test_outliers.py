import numpy as np
import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.evaluate import LOSS
from encdec_jax.study.curves import curves
from encdec_jax.study.findings import analyze
from encdec_jax.study.outliers import outlier

TRUTHS = {"causal_lm": Truth(), "enc_dec": Truth(scale=2.1)}


def spoilt(run: int, off: float = 0.3, **changes) -> tuple[pl.DataFrame, str]:
    table = study(TRUTHS, noise=0.03, **changes)
    here = pl.int_range(pl.len()) == run
    return table.with_columns(pl.when(here).then(pl.col(LOSS) + off).otherwise(LOSS).alias(LOSS)), table["run_id"][run]


@pytest.mark.parametrize("run", [5, 12, 14, 20])
def test_a_run_off_its_curve_is_named_and_its_noise_is_not_taken_for_that_of_all(run):
    table, name = spoilt(run)
    found = analyze(table, "causal_lm")
    (one,) = found.outliers
    assert one.run_id == name
    assert one.off == pytest.approx(0.3, abs=0.18)  # at the end of the sizes the others hardly bind it
    assert one.studentised > 5
    assert [e.rule.startswith("outlier: +0.") for e in found.exclusions if e.run_id == name] == [True]
    assert max(noise.sd for noise in found.noise.values()) < 0.06


def test_runs_without_an_outlier_are_all_kept():
    named = [analyze(study(TRUTHS, noise=0.03, draw=draw), "causal_lm").outliers for draw in range(10)]
    assert sum(map(len, named)) == 0
    exact, _ = curves(study(TRUTHS))
    assert outlier(exact) is None


def test_a_wild_label_is_no_outlier():
    wild = study({"prefix_lm": Truth()}, noise=0.3, ratios=(0.3, 0.6, 1.0, 1.8, 3.5))
    found, _ = curves(pl.concat([study(TRUTHS, noise=0.005, ratios=(0.3, 0.6, 1.0, 1.8, 3.5)), wild]))
    assert outlier(found) is None


def test_a_residual_that_could_be_any_run_of_its_curve_names_none():
    table, _ = spoilt(1, budgets=(1e11,))
    seeds = study({"prefix_lm": Truth()}, noise=0.03, seeds=tuple(range(8)), budgets=(1e11,))
    found, _ = curves(pl.concat([table, seeds]))
    assert outlier(found) is None


def test_one_of_several_seeds_is_named():
    table, name = spoilt(9, seeds=(0, 1))
    assert [one.run_id for one in analyze(table, "causal_lm").outliers] == [name]
    assert np.isfinite(analyze(table, "causal_lm").noise["enc_dec"].sd)
