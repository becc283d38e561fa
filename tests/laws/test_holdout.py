import json

import numpy as np
import pytest
from losses import CHINCHILLA, FEW, study

from encdec_jax.errors import UserError
from encdec_jax.laws.forms import FORMS
from encdec_jax.laws.holdout import hold_out
from encdec_jax.laws.joint import joint


def test_the_law_that_made_the_runs_extrapolates_best():
    columns, loss = study(0.002)
    budget = 6 * columns["n"] * columns["d"]
    found = {name: hold_out(FORMS[name], columns, loss, budget, 50) for name in ("kaplan_n", "kaplan", "chinchilla3")}
    best, *_, worst = sorted(found, key=lambda name: found[name].error)
    assert best == "chinchilla3"
    assert found[best].error < 0.01 < found[worst].error
    assert found[best].held.sum() == 8


def test_intervals_cover_new_runs_as_often_as_they_say():
    compute = np.repeat(np.geomspace(1e18, 1e21, 10), 4)
    covered = []
    for seed in range(40):
        noise = np.random.default_rng(seed).standard_normal(len(compute))
        loss = 80 * compute**-0.05 * np.exp(0.01 * noise)
        covered.append(hold_out(FORMS["power"], {"c": compute}, loss, compute, 200).coverage)
    # 160 runs; those of one study share their law, which takes their number down to about 100.
    assert 0.95 - 3 * np.sqrt(0.95 * 0.05 / 100) < np.mean(covered) <= 1.0


def test_laws_that_the_small_budgets_do_not_determine_are_named():
    columns, loss = study(budgets=2)
    budget = 6 * columns["n"] * columns["d"]
    hold_out(FORMS["kaplan_n"], columns, loss, budget, 10)
    with pytest.raises(UserError, match="one budget"):
        hold_out(FORMS["chinchilla3"], columns, loss, budget, 10)
    with pytest.raises(UserError, match="two budgets"):
        hold_out(FORMS["kaplan_n"], columns, loss, np.ones(len(loss)))


def test_runs_from_a_budget_on_are_held_out():
    columns, loss = study(0.002)
    budget = 6 * columns["n"] * columns["d"]
    weights = np.where(np.arange(len(loss)) % 8 == 0, 0.0, 1.0)
    found = hold_out(CHINCHILLA, columns, loss, budget, 50, start=1e20, weights=weights, starts=FEW)
    assert found.held.sum() == ((budget >= 1e20) & (weights > 0)).sum()
    assert found.fitted.n_points == ((budget < 1e20) & (weights > 0)).sum()
    assert 0.8 <= found.coverage <= 1
    shown = json.loads(json.dumps(found.json(), allow_nan=False))
    assert (shown["from"], shown["n_held_out"], len(shown["runs"])) == (1e20, found.held.sum(), found.held.sum())
    assert shown["runs"][0]["lo"] < shown["runs"][0]["predicted"] < shown["runs"][0]["hi"]
    with pytest.raises(UserError, match="is not accepted: a budget that runs reach"):
        hold_out(CHINCHILLA, columns, loss, budget, start=1e30)


def test_without_resamples_a_prediction_has_no_interval():
    columns, loss = study(0.002)
    found = hold_out(CHINCHILLA, columns, loss, 6 * columns["n"] * columns["d"], 0, starts=FEW)
    assert found.error < 0.01
    assert found.json()["coverage"] is None
    assert found.json()["runs"][0]["lo"] is None


def test_an_architecture_with_no_small_run_is_named():
    columns, loss = study(0.002)
    budget = 6 * columns["n"] * columns["d"]
    columns["arch"] = np.where(budget > 9e20, "enc_dec", "causal_lm")
    with pytest.raises(UserError, match="arch = 'enc_dec' is not accepted: architectures with runs below"):
        hold_out(joint(CHINCHILLA, ["causal_lm", "enc_dec"], ["E"]), columns, loss, budget, 10)
