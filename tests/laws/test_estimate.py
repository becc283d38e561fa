import dataclasses
import json

import numpy as np
import polars as pl
import pytest
from losses import study as runs

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


def families(first: slice, second: slice) -> pl.DataFrame:
    """Two families of one law's runs, each a part of a study."""
    columns, loss = runs(0.003)
    whole = pl.DataFrame({**columns, "loss": loss})
    return pl.concat([whole[first].with_columns(arch=pl.lit("one")), whole[second].with_columns(arch=pl.lit("two"))])


ALL = slice(0, None)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (slice(0, 1), "points = 1 is not accepted: more than the 5 parameters"),
        (slice(0, 8), "bound to each other"),  # one budget
        (slice(3, None, 8), "bound to each other"),  # one size a budget: tokens go along with parameters
    ],
)
def test_every_family_of_a_joint_law_must_determine_its_own(second, message):
    with pytest.raises(UserError, match=f"arch two: .*{message}"):
        estimate(families(ALL, second), "chinchilla3", n="n", d="d", arch="arch", shared=["E"], resamples=0)
    alone = families(ALL, second).filter(pl.col("arch") == "two")
    with pytest.raises(UserError, match=message):
        estimate(alone, "chinchilla3", n="n", d="d", resamples=0)


def test_weak_identification_is_told_by_the_width_of_the_intervals():
    tight = estimate(TABLE, "kaplan_n", n="params", where=["arch=enc_dec"], resamples=100)
    assert not any("hardly determined" in text for text in tight.warnings)
    # The same runs with so much noise that the exponent may be twice or half of it.
    loud = TABLE.with_columns(loss=pl.col("loss") * np.exp(0.4 * np.random.default_rng(0).standard_normal(60)))
    found = estimate(loud, "kaplan_n", n="params", resamples=100)
    alpha = found.params["alpha"]
    assert alpha.high - alpha.low > abs(alpha.value)
    assert any("hardly determined" in text and "alpha" in text for text in found.warnings)


def test_held_out_runs_outside_their_intervals_are_a_warning():
    columns, loss = runs(0.003)
    budget = 6 * columns["n"] * columns["d"]
    bent = pl.DataFrame({**columns, "loss": np.where(budget > 9e20, 1.05 * loss, loss)})
    made = estimate(bent, "chinchilla3", n="n", d="d", resamples=100, hold_out="largest")
    assert made.held_out is not None
    assert made.held_out.coverage < 0.75
    assert any("held out lie in their 95% intervals" in text for text in made.warnings)
    assert any("held out lie" in text for text in made.json()["warnings"])
    fair = estimate(pl.DataFrame({**columns, "loss": loss}), "chinchilla3", n="n", d="d", resamples=100, hold_out=5e20)
    assert not any("held out lie" in text for text in fair.warnings)
