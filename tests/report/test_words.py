import math

import pytest
from synthetic import Truth, study

from encdec_jax.laws.interval import Interval
from encdec_jax.report.words import flops, interval, multiplier, number, some
from encdec_jax.study.findings import analyze

BASE = Truth()
SLOW = Truth(scale=2.0 * 1.3**0.12)
RATIOS = (0.3, 0.6, 1.1, 1.8, 3.5)


@pytest.mark.parametrize(("value", "text"), [(1e12, "1e12"), (3e11, "3e11"), (3.16e11, "3.2e11")])
def test_flops(value, text):
    assert flops(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,300"),
        (0.05214, "0.0521"),
        (1.304, "1.30"),
        (0.0, "0"),
        (999_000, "999,000"),
        (18_600_000_000, "1.86e10"),
        (-1_234_567, "-1.23e6"),
        (0.00001234, "1.23e-5"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_intervals_show_the_digits_that_they_warrant():
    assert interval(Interval(0.05213, 0.0331, 0.0714), sign=True) == "+0.052 [+0.033, +0.071]"
    assert interval(Interval(52345.0, 47123.0, 58234.0)) == "52,000 [47,000, 58,000]"
    assert interval(Interval(2.1e8, 1.66e8, 3.04e8)) == "2.1e8 [1.7e8, 3.0e8]"
    assert interval(Interval(2.1e5, 1.6e5, 3.04e6)) == "2e5 [2e5, 3.0e6]"
    assert interval(Interval(2e-9, 1e-9, 3e-9), sign=True) == "+2.0e-9 [+1.0e-9, +3.0e-9]"
    assert interval(Interval(2.0)) == "2.00 (no interval)"
    assert interval(Interval(1.0, -math.inf, 2.0)) == "1.000 [-inf, 2.000]"
    assert interval(Interval(52345.0, 0.0, math.inf)) == "52,340 [0, inf]"
    assert interval(Interval(0.14, 0.004, 0.31), sign=True) == "+0.140 [+0.004, +0.310]"  # no end seems to be 0


def test_what_rounds_to_nothing_has_no_minus():
    assert interval(Interval(-0.1, -5.0, 5.0), sign=True) == "+0 [-5, +5]"


def test_a_multiplier_beyond_trust_is_a_bound():
    far = Truth(scale=2.0 * 100**0.12)
    findings = analyze(study({"causal_lm": BASE, "enc_dec": far}, noise=0.005), "causal_lm")
    assert multiplier(findings.comparison("enc_dec", 1e12)) == "more than 30.0x"


def test_of_many_names_a_sentence_says_how_many_more_there_are():
    assert [some("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert some("abcdef", "or") == "a, b, c, d, e or f"
    assert some("abcdefg", "or") == "a, b, c or 4 more"
