import subprocess
import sys

import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.errors import UserError
from encdec_jax.laws.interval import Interval
from encdec_jax.study.findings import analyze
from encdec_jax.study.predictions import Prediction

FINDINGS = analyze(study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.2)}, noise=0.005), "causal_lm")


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (lambda f: f.comparison("enc_dec", 1e12).gap.above(0), "held"),
        (lambda f: f.comparison("enc_dec", 1e12).gap.below(0), "failed"),
        (lambda f: f.comparison("enc_dec", 1e13).gap.above(0), "undecided"),
        (lambda f: f.law("prefix_lm").slope.below(0), "undecided"),
        (lambda f: f.comparison("enc_dec", 1e12).better < 0.5, "held"),
        (lambda f: None, "undecided"),
    ],
)
def test_predictions_are_scored(check, verdict):
    assert Prediction("text", check).score(FINDINGS) == verdict


@pytest.mark.parametrize(("seeds", "verdict"), [((0,), "undecided"), ((0, 1), "held")])
@pytest.mark.parametrize(
    "check",
    [
        lambda f: f.comparison("enc_dec", 1e12).gap.above(0),
        lambda f: f.optimum("causal_lm", 1e11).loss.above(1),
        lambda f: f.law("enc_dec").slope.below(1),
        lambda f: not f.crossover("enc_dec").beyond,
    ],
)
def test_nothing_is_decided_by_a_noise_that_nobody_estimated(seeds, verdict, check):
    """Single runs of a study that had just begun decided a prediction, beside the words that nothing is claimed."""
    truths = {"causal_lm": Truth(), "enc_dec": Truth(scale=3.0)}
    three = analyze(study(truths, ratios=(0.3, 1.1, 3.5), seeds=seeds, noise=0.005, window=0.01), "causal_lm")
    assert Prediction("text", check).score(three) == verdict


def outside(ratios=(2, 3.5, 6, 10), noise=0.003):
    """The baseline's sizes at 1e12 FLOPs are all too large."""
    off = study({"causal_lm": Truth()}, noise=noise, ratios=ratios, budgets=(1e12,))
    inside = study({"causal_lm": Truth()}, noise=noise, budgets=(1e10, 1e11, 3e11))
    other = study({"enc_dec": Truth(scale=2.2)}, noise=noise, budgets=(1e10, 1e11, 3e11, 1e12), draw=1)
    return analyze(pl.concat([off, inside, other]), "causal_lm")


@pytest.mark.parametrize(
    "check",
    [
        lambda f: f.comparison("enc_dec", 1e12).gap.above(-0.5),
        lambda f: f.comparison("enc_dec", 1e12).multiplier.above(0),
        lambda f: f.gap("enc_dec", "causal_lm", 1e12, 1e11).below(9),
        lambda f: f.optimum("causal_lm", 1e12).loss.above(0),
        lambda f: not f.crossover("enc_dec").beyond,
        lambda f: not f.crossover("enc_dec", 2e12).beyond,
    ],
)
def test_nothing_is_decided_by_a_best_size_that_may_lie_outside_those_tried(check):
    """A study's first prediction read 'failed' at a budget at which its page said that nothing is claimed."""
    found = outside()
    assert found.comparison("enc_dec", 1e12).gap.above(-0.5) is True
    assert not found.optimum("causal_lm", 1e12).may_be_inside
    verdict, why = Prediction("text", check).judge(found)
    assert (verdict, why) == ("undecided", "the best size of causal_lm at 1e+12 FLOPs may lie outside the sizes tried")


@pytest.mark.parametrize(
    "check",
    [
        lambda f: f.comparison("enc_dec", 3e11).gap.above(0),
        lambda f: f.optimum("enc_dec", 1e12).loss.above(0),
        lambda f: f.law("causal_lm").slope.below(0),
        lambda f: f.law("causal_lm").fit.n_points == 3,
        lambda f: f.comparison("enc_dec", 3e11).multiplier.above(1),
    ],
)
def test_other_budgets_decide_as_before(check):
    assert Prediction("text", check).judge(outside()) == ("held", "")


def test_where_a_best_size_is_in_doubt_the_intervals_of_predictions_allow_for_it_outside():
    """As the headline's do: those of the page's tables keep optima inside the sizes."""
    found = outside(ratios=(0.75, 1.5, 3, 6), noise=0.03)
    doubtful = found.optimum("causal_lm", 1e12)
    assert doubtful.may_be_inside
    assert not doubtful.inside
    plain, judged = (one.comparison("enc_dec", 1e12).gap for one in (found, found.claimed))
    assert judged.value == plain.value
    assert judged.high - judged.low > 1.02 * (plain.high - plain.low)
    law = found.claimed.law("causal_lm", "n").slope
    assert law.high - law.low > found.law("causal_lm", "n").slope.high - found.law("causal_lm", "n").slope.low


@pytest.mark.parametrize("check", [lambda f: f.nothing, lambda f: "yes", lambda f: 1 / 0])
def test_a_check_at_fault_is_named(check):
    with pytest.raises(UserError, match="prediction 'enc_dec wins'"):
        Prediction("enc_dec wins", check).score(FINDINGS)


def test_an_interval_that_holds_the_bound_decides_nothing():
    assert Interval(1.0, 0.5, 1.5).above(1.2) is None
    assert Interval(1.0, 0.5, 1.5).above(0.4) is True
    assert Interval(1.0, 0.5, 1.5).above(1.6) is False
    assert Interval(1.0, 0.5, 1.5).below(1.6) is True
    assert Interval(1.0).above(0.0) is None


def test_a_sweep_that_states_predictions_imports_nothing_heavy():
    script = (
        "import sys, encdec_jax.study.predictions\n"
        "assert not {'jax', 'numpy', 'polars', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
