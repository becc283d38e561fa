import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.study.curves import curves
from encdec_jax.study.isoflop import parabola


def only(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("budget_flops") == 1e11)


def test_seeds_are_averaged_and_their_spread_is_kept():
    table = only(study({"causal_lm": Truth()}, seeds=(0, 1, 2), noise=0.1))
    (curve,), excluded = curves(table)
    by_size = (
        table.group_by("n_params").agg(pl.col("suffix_bits_per_byte").mean().alias("mean"), pl.len()).sort("n_params")
    )
    assert curve.loss == pytest.approx(by_size["mean"].to_numpy())
    assert curve.seeds.tolist() == [3, 3, 3, 3]
    inside = table.select(
        ((pl.col("suffix_bits_per_byte") - pl.col("suffix_bits_per_byte").mean().over("n_params")) ** 2).sum()
    ).item()
    assert curve.seed_squares == pytest.approx(inside)
    assert excluded == []


@pytest.mark.parametrize("lr", [0.001, 0.1])
def test_the_best_learning_rate_stands_for_a_size_and_the_others_are_listed(lr):
    good = only(study({"causal_lm": Truth()}))
    bad = good.with_columns(
        pl.col("suffix_bits_per_byte") + 0.3, setting=pl.col("setting") + f"-{lr}", run_id=pl.col("run_id") + "-other"
    )
    (curve,), excluded = curves(pl.concat([bad, good]))
    assert curve.loss == pytest.approx(good.sort("n_params")["suffix_bits_per_byte"].to_numpy())
    assert sorted(e.run_id for e in excluded) == sorted(bad["run_id"])
    assert all("lower loss" in e.rule for e in excluded)


def test_settings_that_tie_are_not_taken_for_seeds():
    one = only(study({"causal_lm": Truth()}))
    (curve,), excluded = curves(pl.concat([one, one.with_columns(pl.col("setting", "run_id") + "-other")]))
    assert curve.seeds.tolist() == [1, 1, 1, 1]
    assert len(excluded) == 4


def test_runs_that_did_not_end_well_or_have_no_budget_are_listed_with_the_reason():
    table = only(study({"causal_lm": Truth()}))
    n = pl.int_range(pl.len())
    table = table.with_columns(
        status=pl.when(n == 0).then(pl.lit("diverged")).when(n == 1).then(pl.lit("failed")).otherwise("status"),
        error=pl.when(n == 1).then(pl.lit("MemoryError: too large")).otherwise("error"),
        budget_flops=pl.when(n == 2).then(None).otherwise("budget_flops"),
        suffix_bits_per_byte=pl.when(n == 0).then(None).otherwise("suffix_bits_per_byte"),
    )
    (curve,), excluded = curves(table)
    assert len(curve.n) == 1
    assert [e.rule for e in excluded] == ["diverged", "failed: MemoryError: too large", "matched to no budget"]


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf"), -1.0, 0.0])
def test_a_done_run_without_a_sound_loss_is_refused_by_its_row(loss):
    table = study({"causal_lm": Truth()}).with_columns(
        suffix_bits_per_byte=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(loss)).otherwise("suffix_bits_per_byte")
    )
    with pytest.raises(UserError, match=r"suffix_bits_per_byte of the table .*, row 4 = \S+ is not accepted"):
        curves(table)


def test_an_empty_table_has_no_curves():
    assert curves(study({})) == ([], [])


def depths(settings="best", wider=(1.0, 25.8 / 25.2, 29.4 / 25.2)):
    """Depths 1, 2 and 4 of nearly one size, at one budget."""
    made = []
    for layers, times, worse in zip((1, 2, 4), wider, (0.02, 0.0, 0.03), strict=True):
        truth = Truth(n=25_200 * times)
        table = study({"causal_lm": truth}, ratios=(1.0,), budgets=(1e12,), seeds=(0, 1), noise=0.01)
        changed = {
            "dec_layers": layers,
            "setting": pl.lit(f"depth-{layers}"),
            "run_id": pl.col("run_id") + f"-{layers}",
        }
        made.append(table.with_columns(pl.col(LOSS) + worse, **changed))
    return curves(pl.concat(made), settings=settings)


def test_models_nearer_in_size_than_a_curve_can_tell_are_settings_of_one_size():
    (curve,), left_out = depths()
    assert curve.n == [25_800]
    assert parabola(curve).shape == "too few sizes"
    assert len(curve.settings[0]) == 3
    assert {exclusion.rule for exclusion in left_out} == {
        "another setting of the same size and budget has a lower loss"
    }
    (mean,), none = depths("mean")
    assert mean.n == pytest.approx([26_800])
    assert mean.seeds == [6]
    assert none == []
    assert mean.loss[0] > curve.loss[0]
    with pytest.raises(UserError, match="SETTINGS = 'all' is not accepted: 'best' or 'mean'"):
        depths("all")


def test_widths_of_one_depth_are_sizes_of_their_own_however_fine_the_grid():
    (curve,), _ = curves(study({"causal_lm": Truth()}, ratios=tuple(1.1**i for i in range(12)), budgets=(1e12,)))
    assert len(curve.n) == 12
    assert parabola(curve).coefficients is not None


def test_sizes_too_close_to_one_another_give_no_parabola():
    (curve,), _ = curves(study({"causal_lm": Truth()}, ratios=(0.8, 1.0, 1.2, 1.4), budgets=(1e12,)))
    assert parabola(curve).shape == "too close"
    assert "within a factor of 2" in parabola(curve).reason
    assert parabola(curve, spread=1.0).converged
