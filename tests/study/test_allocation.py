import numpy as np
import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.errors import UserError
from encdec_jax.study.allocation import allocate, depths, encoder_shares
from encdec_jax.study.findings import analyze

TRUTH = Truth()


def shapes(choose, values, noise=0.0):
    """Runs at one size whose loss has its least value where `choose` is 0: a parabola over pairs of layers."""
    random = np.random.default_rng(0)
    one = study({"enc_dec": TRUTH}, budgets=(1e12,), ratios=(1,))
    rows = [
        one.with_columns(
            enc_layers=pl.lit(enc, pl.Int64),
            dec_layers=pl.lit(dec, pl.Int64),
            run_id=pl.lit(f"{enc}+{dec}-{seed}"),
            setting=pl.lit(f"{enc}+{dec}"),
            seed=pl.lit(seed, pl.Int64),
            n_params=pl.col("n_params") + enc,  # no two shapes have exactly as many
            suffix_bits_per_byte=pl.lit(2 + 0.5 * choose(enc, dec) ** 2 + noise * random.standard_normal()),
        )
        for enc, dec in values
        for seed in range(3 if noise else 1)
    ]
    return pl.concat(rows)


def test_the_allocation_follows_the_laws():
    findings = analyze(study({"causal_lm": TRUTH}), "causal_lm")
    found = allocate(findings, "causal_lm", 2e12)
    assert found.n.value == pytest.approx(TRUTH.best(2e12), rel=1e-3)
    assert found.d.value == pytest.approx(2e12 / 6 / TRUTH.best(2e12), rel=1e-2)
    assert not found.extrapolated
    assert found.warning == ""
    with pytest.raises(UserError, match="3x beyond"):
        allocate(findings, "causal_lm", 4e12)
    assert allocate(findings, "causal_lm", 4e12, extrapolate=True).extrapolated


def test_an_allocation_says_which_budgets_have_their_optimum_at_the_edge():
    table = pl.concat(
        [study({"a": TRUTH}, budgets=(1e11, 3e11)), study({"a": TRUTH}, budgets=(1e12,), ratios=(2, 3, 5))]
    )
    found = allocate(analyze(table, "a"), "a", 3e11)
    assert found.warning == "no optimum inside the sizes tried at 1e12 FLOPs, which the laws leave out"


def test_the_best_share_of_the_encoder_is_the_parabola_s():
    (found,) = encoder_shares(
        shapes(lambda enc, dec: enc / (enc + dec) - 0.4, [(1, 5), (2, 4), (3, 3), (4, 2)], noise=0.001)
    )
    assert found.tried == pytest.approx((1 / 6, 2 / 6, 3 / 6, 4 / 6))
    assert found.best.low < 0.4 < found.best.high
    assert found.best.high - found.best.low < 0.1
    assert found.warning == ""


def test_a_best_share_at_the_end_of_those_tried_is_a_bound():
    (found,) = encoder_shares(shapes(lambda enc, dec: enc / (enc + dec) - 0.9, [(1, 5), (2, 4), (3, 3)]))
    assert found.best.value == pytest.approx(0.5)
    assert not found.best.known
    assert "the largest value stands for it" in found.warning


def test_depths_are_compared_at_one_size_only():
    table = shapes(lambda enc, dec: np.log((enc + dec) / 6), [(1, 1), (2, 2), (4, 4), (8, 8)], noise=0.001)
    (found,) = depths(table)
    assert found.tried == pytest.approx((2, 4, 8, 16))
    assert found.best.low < 6 < found.best.high
    apart = table.with_columns(n_params=pl.col("n_params") * 2 ** pl.col("enc_layers"))
    assert depths(apart) == ()


def test_two_values_are_no_choice():
    assert encoder_shares(shapes(lambda enc, dec: 0.0, [(1, 5), (2, 4)])) == ()
    assert encoder_shares(study({"causal_lm": TRUTH})) == ()


def test_shares_are_compared_whatever_their_labels():
    """A study of splits gives each a label of its own: the best share is still one of the architecture."""
    values = ((1, 5), (2, 4), (3, 3), (4, 2))
    table = shapes(lambda enc, dec: enc / (enc + dec) - 0.4, values)
    split = table.with_columns(
        label=pl.format("enc_dec {}", pl.col("enc_layers") / pl.sum_horizontal("enc_layers", "dec_layers"))
    )
    assert encoder_shares(split) == encoder_shares(table)
    worse = split.with_columns(
        pl.col("suffix_bits_per_byte") + 1,
        label=pl.col("label") + " worse",
        setting="x" + pl.col("setting"),
        run_id="x" + pl.col("run_id"),
    )
    assert encoder_shares(pl.concat([split, worse])) == encoder_shares(table)


def test_labels_of_one_architecture_that_have_depths_each_share_no_curve():
    """One parabola took 2, 4 and 8 layers of one recipe and 16 of another."""
    adam = shapes(lambda enc, dec: np.log((enc + dec) / 4), [(1, 1), (2, 2), (4, 4)]).with_columns(label=pl.lit("adam"))
    sgd = shapes(lambda enc, dec: np.log((enc + dec) / 8) + 0.1, [(1, 1), (2, 2), (4, 4), (8, 8)]).with_columns(
        pl.col("suffix_bits_per_byte") + 0.2,
        label=pl.lit("sgd"),
        setting="s" + pl.col("setting"),
        run_id="s" + pl.col("run_id"),
    )
    both = depths(pl.concat([adam, sgd]))
    assert [found.tried for found in both] == [pytest.approx((2, 4, 8)), pytest.approx((2, 4, 8, 16))]
    assert [found.line for found in both] == ["adam", "sgd"]
    assert both[0].best.value == pytest.approx(depths(adam)[0].best.value)
    assert both[1].best.value == pytest.approx(depths(sgd)[0].best.value)


@pytest.mark.parametrize("find", [encoder_shares, depths])
def test_the_choice_of_settings_is_that_of_the_curves(find):
    """Curves took the mean of two rates, and the best split and depth the better of them."""
    values = [(1, 5), (2, 4), (3, 3), (4, 2)] if find is encoder_shares else [(1, 1), (2, 2), (4, 4), (8, 8)]
    table = shapes(lambda enc, dec: np.log((enc + dec) / 4) if find is depths else enc / (enc + dec) - 0.4, values)
    lucky = table.with_columns(
        pl.col("suffix_bits_per_byte") - 0.8,
        run_id="x" + pl.col("run_id"),
        setting="x" + pl.col("setting"),
        lr=pl.lit(0.02),
    )
    both = pl.concat([table, lucky])
    (alone,), (best,), (mean,) = find(table), find(both), find(both, settings="mean")
    assert best.loss.value == pytest.approx(alone.loss.value - 0.8)
    assert mean.loss.value == pytest.approx(alone.loss.value - 0.4)
