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
