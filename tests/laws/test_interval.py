import numpy as np
import pytest
from scipy.stats import norm, t

from encdec_jax.laws.interval import Interval, acceleration

DRAWS = np.linspace(0, 1, 10_001)


def test_percentile_and_basic_reflect_each_other():
    assert Interval.of(0.4, DRAWS) == Interval(0.4, pytest.approx(0.025, abs=1e-4), pytest.approx(0.975, abs=1e-4))
    basic = Interval.of(0.4, DRAWS, "basic")
    assert (basic.low, basic.high) == pytest.approx((0.8 - 0.975, 0.8 - 0.025), abs=1e-4)


def test_bca_is_efrons_formula():
    skewed = np.array([1.0, 1.2, 1.1, 3.0, 1.3])
    found = Interval.of(0.4, DRAWS, "bca", skewed)
    z0, a = norm.ppf(0.4), acceleration(skewed)
    for z, end in ((norm.ppf(0.025), found.low), (norm.ppf(0.975), found.high)):
        assert end == pytest.approx(norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))), abs=3e-4)
    assert a != 0
    # Without bias and acceleration it is the percentile interval.
    assert Interval.of(0.5, DRAWS, "bca") == Interval.of(0.5, DRAWS)


def test_acceleration_is_a_sixth_of_the_skewness_over_the_root_of_the_units():
    left_out = np.array([0.0, 0.0, 0.0, 4.0])  # deviations 1, 1, 1, -3
    assert acceleration(left_out) == pytest.approx((3 - 27) / (6 * 12**1.5))
    assert acceleration(np.ones(4)) == 0


def test_few_units_take_the_quantiles_further_out_and_many_do_not():
    ends = [Interval.of(0.5, DRAWS, units=units).low for units in (7, 10_000)]
    assert ends == pytest.approx([norm.cdf(t.ppf(0.025, 6) * (7 / 6) ** 0.5), 0.025], abs=1e-4)


def test_an_unknown_draw_leaves_no_interval_and_infinite_draws_an_open_one():
    assert not Interval.of(1.0, np.array([1.0, np.nan])).known
    assert Interval.of(1.0, np.array([1.0] * 90 + [np.inf] * 10)).high == np.inf


def test_draws_that_all_lie_on_one_side_keep_a_bca_interval_within_them():
    found = Interval.of(-1.0, DRAWS, "bca")
    assert 0 <= found.low <= found.high <= 1


def test_an_interval_of_no_width_is_refused():
    assert not Interval(3.0, 3.0, 3.0).unless_flat().known
    assert Interval(3.0, 2.9, 3.0).unless_flat() == Interval(3.0, 2.9, 3.0)
    assert Interval(3.0, 2.9, np.inf).unless_flat().known


def test_an_interval_lies_within_a_width_outside_or_over_its_end():
    assert Interval(0.0, -0.2, 0.2).within(0.3) is True
    assert Interval(0.5, 0.4, 0.6).within(0.3) is False
    assert Interval(-0.5, -0.6, -0.4).within(0.3) is False
    for over in (Interval(0.2, 0.1, 0.4), Interval(-0.2, -0.4, 0.1), Interval(0.0, -0.4, 0.4), Interval(0.1)):
        assert over.within(0.3) is None
