import numpy as np
import pytest

from encdec_jax.laws.frontier import assess, fit_loss, fit_power, fit_saturating

THREE = np.array([1e11, 3e11, 1e12])
FIVE = np.array([1e11, 3e11, 1e12, 3e12, 1e13])


def test_a_power_law_is_recovered():
    law = fit_power(THREE, 2.0 * (THREE / 1e12) ** -0.12, 1e12)
    assert law.slope == pytest.approx(-0.12)
    assert law.scale == pytest.approx(2.0)
    fit = assess(law, THREE, law.at(THREE))
    assert fit.objective == pytest.approx(0, abs=1e-20)
    assert fit.converged
    assert fit.n_points == 3


@pytest.mark.parametrize(("floor", "slope"), [(1.2, 0.3), (0.5, 0.08), (0.0, 0.12)])
def test_a_saturating_law_is_recovered(floor, slope):
    law = fit_saturating(FIVE, floor + 1.5 * (FIVE / 1e12) ** -slope, 1e12)
    assert law.slope == pytest.approx(-slope, rel=5e-3)
    assert law.floor == pytest.approx(floor, abs=0.02)
    assert assess(law, FIVE, floor + 1.5 * (FIVE / 1e12) ** -slope).objective < 1e-9


def test_the_floor_is_never_negative():
    y = 3.0 - 0.2 * np.log(FIVE / 1e11)  # falls faster than any power law with a floor above 0
    assert fit_saturating(FIVE, y, 1e12).floor == 0


def test_three_budgets_get_a_power_law_and_four_a_saturating_one():
    y = 1.0 + (FIVE / 1e12) ** -0.2
    assert fit_loss(FIVE[:3], y[:3], 1e12).kind == "power"
    assert fit_loss(FIVE[:4], y[:4], 1e12).kind == "saturating"


@pytest.mark.parametrize("fitter", [fit_power, fit_saturating])
def test_many_laws_at_once_are_the_same_as_one_by_one(fitter):
    random = np.random.default_rng(0)
    y = 1.0 + (FIVE / 1e12) ** -0.2 * np.exp(0.01 * random.standard_normal((7, 5)))
    many = fitter(FIVE, y, 1e12)
    for i in range(7):
        one = fitter(FIVE, y[i], 1e12)
        assert [many.floor[i], many.scale[i], many.slope[i]] == pytest.approx(
            [float(v) for v in (one.floor, one.scale, one.slope)]
        )
    assert many.at(FIVE).shape == (7, 5)
    assert many.at(1e12).shape == (7,)


def test_the_inverse_finds_the_compute_and_knows_the_floor():
    law = fit_saturating(FIVE, 1.2 + 1.5 * (FIVE / 1e12) ** -0.3, 1e12)
    assert law.compute_for(law.at(5e11)) == pytest.approx(5e11)
    assert law.compute_for(np.array(1.0)) == np.inf


def test_a_loss_that_does_not_fall_has_no_inverse_and_is_not_converged():
    rising = fit_power(THREE, np.array([2.0, 2.1, 2.2]), 1e12)
    assert np.isnan(rising.compute_for(np.array(2.1)))
    flat = fit_saturating(FIVE, np.array([2.0, 2.1, 2.0, 2.1, 2.2]), 1e12)
    assert not assess(flat, FIVE, np.array([2.0, 2.1, 2.0, 2.1, 2.2])).converged
