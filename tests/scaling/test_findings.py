from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from synthetic import BUDGETS, Truth, study

from encdec_jax.scaling.compare import compare, crossover
from encdec_jax.scaling.findings import find
from encdec_jax.scaling.laws import Law
from encdec_jax.scaling.predictions import Undecided

BASE = Truth()
# Needs 1.3 times the compute for the same loss, everywhere.
SLOW = replace(BASE, scale=BASE.scale * 1.3**BASE.slope)
# Crosses the baseline at 4e11.
LOSS = pl.col("suffix_bits_per_byte").abs() + 0.01
STEEP = replace(BASE, scale=BASE.scale * (4e11 / 1e12) ** 0.05, slope=BASE.slope + 0.05, n=80_000.0, n_slope=0.5)
TRUTHS = {"causal_lm": BASE, "enc_dec": SLOW, "prefix_lm": STEEP}


def test_exponents_are_recovered_exactly_without_noise():
    findings = find(study(TRUTHS), "causal_lm")
    for arch, truth in TRUTHS.items():
        assert findings.law(arch).slope.value == pytest.approx(-truth.slope, rel=1e-4)
        assert findings.law(arch, "n").slope.value == pytest.approx(truth.n_slope, rel=1e-3)
        assert findings.law(arch, "d").slope.value == pytest.approx(1 - truth.n_slope, rel=1e-2)
        assert findings.optimum(arch, 3e11).n.value == pytest.approx(truth.best(3e11), rel=1e-3)


def test_the_compute_multiplier_of_a_shifted_frontier_is_the_shift():
    findings = find(study(TRUTHS), "causal_lm")
    for budget in BUDGETS:
        assert findings.comparison("enc_dec", budget).multiplier.value == pytest.approx(1.3, rel=1e-4)
        assert findings.comparison("enc_dec", budget).gap.value == pytest.approx(SLOW.loss(budget) - BASE.loss(budget))


def test_the_crossover_is_found_where_it_is():
    findings = find(study(TRUTHS, noise=0.01), "causal_lm")
    found = findings.crossover("prefix_lm")
    assert found.compute.low < 4e11 < found.compute.high
    assert found.beyond
    assert find(study(TRUTHS), "causal_lm").crossover("prefix_lm").compute.value == pytest.approx(4e11, rel=1e-3)


def test_no_crossover_in_the_range_is_an_answer():
    found = find(study(TRUTHS, noise=0.005), "causal_lm").crossover("enc_dec")
    assert found.compute is None
    assert not found.beyond
    assert found.share < 0.05


def test_resamples_that_cross_outside_the_range_open_the_interval_there():
    def laws(crossings: list[float]) -> Law:  # that cross a flatter one at `crossings`, and are better above
        zero = np.zeros(len(crossings))
        return Law("power", 1e12, zero, (np.array(crossings) / 1e12) ** 0.1, zero - 0.1)

    flat = Law("power", 1e12, np.zeros(()), np.ones(()), np.zeros(()))
    one = Law("power", 1e12, np.zeros(()), np.array(0.5**0.1), np.array(-0.1))

    def ends(crossings: list[float]) -> tuple[float, float]:
        many = laws(crossings)
        flats = replace(flat, floor=0 * many.slope, scale=1 + 0 * many.slope, slope=0 * many.slope)
        found = crossover("prefix_lm", (one, flat), (many, flats), (1e11, 1e12))
        assert found.compute.value == pytest.approx(5e11, rel=1e-3)
        return found.compute.low, found.compute.high

    assert ends([5e11] * 20) == pytest.approx((5e11, 5e11), rel=1e-3)
    assert ends([5e11] * 10 + [5e10] * 10) == pytest.approx((0.0, 5e11), rel=1e-3)
    assert ends([5e11] * 10 + [5e12] * 10) == pytest.approx((5e11, np.inf), rel=1e-3)


def test_a_multiplier_beyond_trust_is_cut_at_its_bound():
    far = {"causal_lm": BASE, "enc_dec": replace(BASE, scale=BASE.scale * 100**BASE.slope)}
    found = find(study(far, noise=0.005), "causal_lm").comparison("enc_dec", 1e12)
    assert found.multiplier_most == pytest.approx(30)  # 1e12 over a third of 1e11
    assert found.multiplier.value == found.multiplier.high == found.multiplier_most


def test_95_percent_intervals_cover_the_truth():
    hits: dict[str, list[bool]] = {}
    pair = {"causal_lm": BASE, "enc_dec": SLOW}
    for draw in range(40):
        findings = find(study(pair, noise=0.015, window=0.011, draw=draw), "causal_lm")
        gap = findings.comparison("enc_dec", 1e12).gap
        truths = [("gap", gap, SLOW.loss(1e12) - BASE.loss(1e12))]
        truths.append(("multiplier", findings.comparison("enc_dec", 1e12).multiplier, 1.3))
        for arch, truth in pair.items():
            truths.append(("slope", findings.law(arch).slope, -truth.slope))
            truths.append(("n slope", findings.law(arch, "n").slope, truth.n_slope))
            truths.append(("loss", findings.optimum(arch, 1e12).loss, truth.loss(1e12)))
        for name, found, true in truths:
            hits.setdefault(name, []).append(found.low <= true <= found.high)
    for name, covered in hits.items():
        # At most 3 standard errors of 40 draws below 95 %.
        assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 40), name


def test_intervals_are_no_wider_than_the_noise_warrants():
    findings = find(study(TRUTHS, noise=0.015, seeds=(0, 1, 2, 3)), "causal_lm")
    gap = findings.comparison("enc_dec", 1e12).gap
    assert 0 < gap.high - gap.low < 0.05  # four seeds at four sizes: about 2 x 2 x 1.4 x 0.015 / sqrt(4 x 2)


def test_a_shift_of_the_windows_widens_levels_but_not_gaps():
    still, shifted = (find(study(TRUTHS, noise=0.005, window=w), "causal_lm") for w in (0.0, 0.05))
    width = [
        [f.high - f.low for f in (s.optimum("causal_lm", 1e12).loss, s.comparison("enc_dec", 1e12).gap)]
        for s in (still, shifted)
    ]
    assert width[1][0] > 5 * width[0][0]
    assert width[1][1] == pytest.approx(width[0][1], rel=1e-6)


def test_seeds_alone_give_the_noise_where_three_sizes_leave_no_residual():
    findings = find(study(TRUTHS, noise=0.02, ratios=(0.4, 1.1, 3), seeds=(0, 1)), "causal_lm")
    assert 0.01 < findings.noise["causal_lm"].sd < 0.04
    assert "of its own" in findings.noise["causal_lm"].source


def test_without_seeds_or_residuals_the_noise_is_said_not_to_be_estimated():
    findings = find(study(TRUTHS, ratios=(0.4, 1.1, 3), window=0.011), "causal_lm")
    assert findings.noise["causal_lm"].sd == pytest.approx(0.011)
    assert "not estimated" in findings.noise["causal_lm"].source


def test_an_optimum_at_the_edge_has_no_interval_of_sizes_and_enters_no_law_of_sizes():
    table = pl.concat(
        [study({"causal_lm": BASE}, noise=0.005, ratios=(2, 3, 5, 8)), study({"enc_dec": SLOW}, noise=0.005)]
    )
    findings = find(table, "causal_lm")
    optimum = findings.optimum("causal_lm", 1e12)
    assert optimum.isoflop.shape == "edge"
    assert not optimum.n.known
    assert optimum.loss.known
    with pytest.raises(Undecided):
        findings.law("causal_lm", "n")
    assert findings.law("causal_lm").fit.n_points == 3


def test_the_same_table_in_any_order_gives_the_same_findings():
    table = study(TRUTHS, noise=0.02, seeds=(0, 1))
    one, two = find(table, "causal_lm"), find(table.reverse(), "causal_lm")
    assert one.comparisons == two.comparisons
    assert one.crossovers == two.crossovers
    assert [o.n for o in one.optima] == [o.n for o in two.optima]


def test_few_runs_leave_questions_undecided_but_raise_nothing_else():
    table = study(TRUTHS, noise=0.01)
    one_budget = find(table.filter(pl.col("budget_flops") == 1e11), "causal_lm")
    assert one_budget.laws == ()
    assert one_budget.comparison("enc_dec", 1e11).multiplier is None
    assert one_budget.comparison("enc_dec", 1e11).gap.known
    with pytest.raises(Undecided):
        one_budget.crossover("enc_dec")
    with pytest.raises(Undecided):
        find(table.filter(pl.col("arch") == "enc_dec"), "causal_lm").comparison("enc_dec", 1e11)
    assert find(table.clear(), "causal_lm").archs == ()
    assert find(table.head(1), "causal_lm").optima[0].isoflop.shape == "too few sizes"


def test_the_noise_of_a_wild_architecture_does_not_widen_the_others():
    calm = study({"causal_lm": BASE, "enc_dec": SLOW}, noise=0.005, ratios=(0.3, 0.6, 1.0, 1.8, 3.5))
    wild = study({"prefix_lm": STEEP}, noise=0.3, ratios=(0.3, 0.6, 1.0, 1.8, 3.5))
    alone, beside = (find(table, "causal_lm") for table in (calm, pl.concat([calm, wild])))
    assert beside.noise["causal_lm"] == alone.noise["causal_lm"]
    assert beside.noise["prefix_lm"].sd > 10 * beside.noise["causal_lm"].sd


@pytest.mark.parametrize(("gap", "end"), [(1.05, "multiplier_most"), (0.95, "multiplier_least")])
def test_resamples_whose_law_does_not_fall_open_the_multiplier(gap, end):
    slopes = np.repeat([-0.12, 0.01], 10)
    draws = Law("power", 1e12, 0 * slopes, 2 + 0 * slopes, slopes)
    point = Law("power", 1e12, np.zeros(()), np.array(2.0), np.array(-0.12))
    losses = (2 * gap + 0 * slopes, 2 + 0 * slopes)
    found = compare("enc_dec", 1e12, (2 * gap, 2.0), losses, (point, draws), (1e11, 1e12))
    assert found.multiplier.value == pytest.approx(gap ** (1 / 0.12))
    assert getattr(found, end) in (found.multiplier.low, found.multiplier.high)
    assert found.multiplier.known


def test_noise_that_would_take_losses_below_0_leaves_intervals():
    findings = find(study(TRUTHS, noise=1.0, budgets=(1e11, 3e11)).with_columns(LOSS), "causal_lm")
    assert all(law.slope.known for law in findings.laws if law.quantity == "loss")
