from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.study.curves import curves
from encdec_jax.study.isoflop import minimum, parabola, tokens_at
from encdec_jax.study.noise import noises, resample

TRUTH = Truth()


def fitted(**changes):
    (curve,), _ = curves(study({"causal_lm": TRUTH}, budgets=(1e11,), **changes))
    return parabola(curve)


def test_the_minimum_of_a_parabola_is_found():
    found = fitted()
    assert found.converged
    assert found.n == pytest.approx(TRUTH.best(1e11), rel=1e-3)
    assert found.loss == pytest.approx(TRUTH.loss(1e11), rel=1e-4)
    assert found.d == pytest.approx(1e11 / 6 / TRUTH.best(1e11), rel=1e-3)
    assert found.reason == ""


def test_a_size_weighs_as_many_runs_as_it_had_seeds():
    (curve,), _ = curves(study({"causal_lm": TRUTH}, budgets=(1e11,)))
    seeds = np.where(np.arange(len(curve.n)) % 2, 1, 4)
    rough = replace(curve, seeds=seeds, loss=curve.loss + np.where(seeds > 1, 0.01, 0.0))
    x = np.log(np.repeat(curve.n, seeds)) - np.log(curve.n).mean()
    assert parabola(rough).coefficients[::-1] == pytest.approx(np.polyfit(x, np.repeat(rough.loss, seeds), 2))


@pytest.mark.parametrize(("ratios", "end"), [((1.5, 2, 3, 5), "smallest"), ((0.1, 0.2, 0.4, 0.8), "largest")])
def test_an_optimum_beyond_the_grid_is_flagged_and_the_best_run_stands_for_it(ratios, end):
    found = fitted(ratios=ratios)
    assert found.shape == "edge"
    assert not found.converged
    assert end in found.reason
    assert found.n == found.curve.n[0 if end == "smallest" else -1]
    assert found.loss == found.curve.loss.min()


def test_losses_that_curve_downwards_are_flagged():
    (curve,), _ = curves(study({"causal_lm": Truth(bend=-0.1)}, budgets=(1e11,)))
    found = parabola(curve)
    assert found.shape == "not convex"
    assert found.loss == curve.loss.min()


def test_two_sizes_give_no_parabola():
    found = fitted(ratios=(0.5, 2.5))
    assert found.shape == "too few sizes"
    assert found.coefficients is None


def test_three_sizes_are_enough_and_fitted_exactly():
    found = fitted(ratios=(0.5, 1.2, 2.5), noise=0.05)
    assert found.fitted(found.curve.n) == pytest.approx(found.curve.loss)


def test_a_resampled_minimum_stays_within_the_sizes():
    curve = fitted().curve
    steep = np.array([[2.0, 1.0, 1e-3], [2.0, -1.0, 1e-3], [2.0, 0.1, -1.0]])
    ln_n, loss, inside = minimum(curve, steep)
    assert not inside.any()
    ends = np.log(curve.n[[0, -1, 0]])
    assert ln_n == pytest.approx(ends)
    assert loss[2] < 2.0


def test_tokens_between_sizes_keep_the_budget():
    curve = fitted().curve
    n = np.sqrt(curve.n[0] * curve.n[1])
    assert float(tokens_at(curve, np.log(n))) == pytest.approx(1e11 / 6 / n, rel=1e-3)


def test_runs_of_one_trunk_share_their_noise_and_count_as_one():
    """Three budgets by one trajectory a size: a third of the residuals are its own, and what is drawn is drawn once."""
    table = study({"causal_lm": TRUTH}, noise=0.02)
    place = pl.int_range(pl.len()).over("budget_flops").cast(pl.String)
    branched = table.with_columns(trunk=pl.lit("size ") + place)
    alone, shared = ([parabola(curve) for curve in curves(one)[0]] for one in (table, branched))
    before, after = (noises(found)["causal_lm"] for found in (alone, shared))
    assert after.sd == pytest.approx(before.sd)
    assert after.dof == pytest.approx(before.dof / 3)

    def correlation(optima):
        first, *_, last = resample(optima, {"causal_lm": replace(before, dof=np.inf)})
        return np.corrcoef(first.loss, last.loss)[0, 1]

    assert abs(correlation(alone)) < 0.1
    assert correlation(shared) > 0.9
    none = resample([parabola(curve) for curve in curves(table.drop("trunk"))[0]], {"causal_lm": before})
    assert all(
        np.array_equal(a.loss, b.loss) for a, b in zip(none, resample(alone, {"causal_lm": before}), strict=True)
    )
