import math

import pytest
from synthetic import Truth, study

from encdec_jax.laws.interval import Interval
from encdec_jax.report.words import answer, flops, frontiers, interval, multiplier, number
from encdec_jax.study.findings import analyze

BASE = Truth()
SLOW = Truth(scale=2.0 * 1.3**0.12)


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


def test_the_answer_begins_with_the_multiplier_and_its_interval():
    findings = analyze(study({"causal_lm": BASE, "enc_dec": SLOW}, noise=0.005), "causal_lm")
    found = findings.comparison("enc_dec", 1e12)
    assert answer(findings) == (
        "At 1e12 training FLOPs, causal_lm beats enc_dec: "
        f"enc_dec needs {multiplier(found)} the compute of causal_lm for the same loss."
    )
    assert frontiers(findings) == (
        "The fitted frontiers: no crossover of enc_dec with causal_lm in the measured range, 1e11 to 1e12 FLOPs."
    )


def test_the_answer_names_winners_losers_and_the_undecided():
    truths = {"causal_lm": BASE, "enc_dec": SLOW, "layerwise": Truth(scale=1.8), "prefix_lm": Truth(scale=1.96)}
    text = answer(analyze(study(truths, noise=0.02), "causal_lm"))
    verdict = "layerwise beats causal_lm; causal_lm beats enc_dec; prefix_lm can't be told apart from causal_lm: "
    assert f"FLOPs, {verdict}enc_dec needs 1." in text


def test_what_noise_hides_is_said_not_to_be_told_apart():
    findings = analyze(study({"causal_lm": BASE, "enc_dec": BASE}, noise=0.05), "causal_lm")
    assert "FLOPs, enc_dec can't be told apart from causal_lm: enc_dec needs" in answer(findings)
    assert "though the intervals allow one" in frontiers(findings) or "crosses" in frontiers(findings)


def test_a_crossover_is_said_with_its_interval():
    steep = Truth(scale=2.0 * 0.4**0.06, slope=0.18)
    text = frontiers(analyze(study({"causal_lm": BASE, "prefix_lm": steep}, noise=0.003), "causal_lm"))
    assert "prefix_lm crosses causal_lm at" in text
    assert "above which prefix_lm is better" in text


def test_a_multiplier_beyond_trust_is_a_bound():
    far = Truth(scale=2.0 * 100**0.12)
    findings = analyze(study({"causal_lm": BASE, "enc_dec": far}, noise=0.005), "causal_lm")
    assert multiplier(findings.comparison("enc_dec", 1e12)) == "more than 30.0x"


def test_one_budget_gives_a_gap_and_one_architecture_no_answer():
    one = analyze(study({"causal_lm": BASE, "enc_dec": SLOW}, noise=0.005, budgets=(1e11,)), "causal_lm")
    assert "causal_lm beats enc_dec: enc_dec's loss differs from causal_lm's by +0.0" in answer(one)
    assert answer(analyze(study({"causal_lm": BASE}), "causal_lm")).startswith("Not answered yet")
