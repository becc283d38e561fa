import subprocess
import sys

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
    """Two single runs of a study that had just begun decided a prediction, beside the words that nothing is claimed."""
    truths = {"causal_lm": Truth(), "enc_dec": Truth(scale=3.0)}
    single = analyze(study(truths, ratios=(1.0,), seeds=seeds, noise=0.005, window=0.01), "causal_lm")
    assert Prediction("text", check).score(single) == verdict


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
