import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from encdec_jax.errors import UserError
from encdec_jax.laws import estimate as module
from encdec_jax.laws.estimate import estimate

RANDOM = np.random.default_rng(2)
N = 10 ** RANDOM.uniform(6, 9, 60)
ARCH = np.where(np.arange(60) % 2, "enc_dec", "causal_lm")
TABLE = pl.DataFrame(
    {
        "params": N,
        "loss": np.where(ARCH == "enc_dec", 5.0, 4.0) * N**-0.08 * np.exp(0.01 * RANDOM.standard_normal(60)),
        "arch": ARCH,
        "seed": np.arange(60) % 12,
    }
)


def test_the_truth_lies_in_the_intervals_and_json_says_the_same():
    found = estimate(TABLE, "kaplan_n", n="params", where=["arch=causal_lm"], resamples=300)
    assert found.params["alpha"].low < 0.08 < found.params["alpha"].high
    assert found.params["A"].low < 4.0 < found.params["A"].high
    shown = json.loads(json.dumps(found.json(), allow_nan=False))
    assert shown["params"]["alpha"] == {
        "value": found.params["alpha"].value,
        "lo": found.params["alpha"].low,
        "hi": found.params["alpha"].high,
    }
    assert (shown["law"], shown["converged"], shown["n_points"], shown["n_excluded"]) == ("kaplan_n", True, 30, 30)
    assert set(shown["derived"]) == {"N_c"}


def test_architectures_have_laws_of_their_own_but_for_what_they_share():
    found = estimate(TABLE, "kaplan_n", n="params", arch="arch", shared=["alpha"], resamples=100)
    assert set(found.params) == {"alpha", "A[causal_lm]", "A[enc_dec]"}
    assert found.params["A[enc_dec]"].value / found.params["A[causal_lm]"].value == pytest.approx(1.25, abs=0.01)
    assert found.params["alpha"].low < found.params["alpha"].value < found.params["alpha"].high
    assert found.json()["law"] == "kaplan_n"


@pytest.mark.parametrize("kind", ["basic", "bca"])
def test_schemes_and_kinds_of_interval_differ(kind):
    usual = estimate(TABLE, "kaplan_n", n="params", resamples=200)
    other = estimate(TABLE, "kaplan_n", n="params", labels={"seed": "seed"}, scheme="seed", kind=kind, resamples=200)
    assert other.params["alpha"].value == usual.params["alpha"].value
    assert other.params["alpha"].low != usual.params["alpha"].low
    assert other.json()["bootstrap"] == "seed"


def test_without_resamples_there_are_no_intervals():
    found = estimate(TABLE, "kaplan_n", n="params", resamples=0)
    assert not found.params["alpha"].known
    assert np.isnan(found.curve({"n": N})[1]).all()


def test_a_fit_that_does_not_converge_has_no_numbers(monkeypatch):
    fit = module.fit
    monkeypatch.setattr(module, "fit", lambda *a, **k: dataclasses.replace(fit(*a, **k), converged=False))
    found = estimate(TABLE, "kaplan_n", n="params")
    assert (found.params, found.derived, len(found.draws)) == ({}, {}, 0)
    shown = found.json()
    assert shown["converged"] is False
    assert shown["objective"] is None
    assert shown["params"] == {name: {"value": None, "lo": None, "hi": None} for name in ("A", "alpha")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"law": "chinchilla"}, "law = 'chinchilla' is not accepted: one of chinchilla3"),
        ({"law": "chinchilla3"}, "columns = 'n' is not accepted: chinchilla3 reads n, d"),
        ({"shared": ["alpha"]}, "shared = 'alpha' is not accepted"),
        ({"arch": "arch", "shared": ["beta"]}, "shared = 'beta' is not accepted: parameters of kaplan_n"),
        ({"kind": "exact"}, "interval = 'exact' is not accepted: one of percentile"),
        ({"scheme": "seed"}, "seed"),
        ({"resamples": -1}, "resamples = -1 is not accepted"),
        ({"source": TABLE.head(2)}, "points = 2 is not accepted: more than the 2 parameters"),
    ],
)
def test_what_is_not_accepted_is_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        estimate(**{"source": TABLE, "law": "kaplan_n", "n": "params", **arguments})
    assert "\n" not in str(caught.value)
