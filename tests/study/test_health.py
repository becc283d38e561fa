import json
import re

import numpy as np
import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.errors import UserError
from encdec_jax.study.health import Health, check, spikes, unsettled

SMOOTH = 2 + 4 * np.exp(-np.linspace(0, 8, 400))


def spiked(places, height=1.0):
    loss = SMOOTH + 0.02 * np.random.default_rng(0).standard_normal(400)
    loss[places] += height
    return loss


@pytest.mark.parametrize(("places", "count"), [([], 0), ([300], 1), ([300, 301], 1), ([100, 300], 2)])
def test_spikes_are_counted_once_each(places, count):
    assert spikes(spiked(places), 40, 0.5) == count


def test_the_fall_of_the_warm_up_and_values_before_it_are_no_spikes():
    assert spikes(spiked([10, 300], 1.0), 40, 0.5) == 1
    assert spikes(SMOOTH[::-1], 40, 0.5) > 0  # a loss that rises for long is one


def test_unsettled_is_how_far_the_end_lies_above_the_best():
    assert unsettled(SMOOTH) == pytest.approx(0, abs=1e-12)
    up = np.concatenate([SMOOTH, np.full(40, 2.5)])
    assert unsettled(up) == pytest.approx(0.5, abs=0.01)


def write(root, table, loss):
    for run_id in table["run_id"]:
        (root / run_id).mkdir(parents=True)
        rows = [
            {"step": i + 1, "tokens": 512 * (i + 1), "loss": None if np.isnan(y) else float(y)}
            for i, y in enumerate(loss)
        ]
        (root / run_id / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("rules", "loss", "rule"),
    [
        (Health(), SMOOTH, None),
        (Health(), spiked([300]), "spikes: 1 of more than 0.5 nats, where 0 are allowed"),
        (Health(max_spikes=1), spiked([300]), None),
        (Health(spike=None), np.concatenate([SMOOTH, SMOOTH[:60]]), "not converged"),
        (Health(spike=None, unsettled=None, min_updates=10**9), SMOOTH, "under-trained: .* updates, fewer than"),
        (Health(min_tokens_per_parameter=1e6), SMOOTH, "under-trained: .* tokens per parameter"),
        (Health(), np.where(np.arange(400) == 300, np.nan, SMOOTH), "spikes: 1"),
    ],
)
def test_a_run_is_left_out_by_the_rule_that_it_breaks(tmp_path, rules, loss, rule):
    table = study({"causal_lm": Truth()}).head(2)
    write(tmp_path, table, loss)
    found = check(rules, table, tmp_path)
    if rule is None:
        assert found == []
        return
    assert [e.run_id for e in found] == table["run_id"].to_list()
    assert all(e.health for e in found)
    assert re.match(rule, found[0].rule)


def test_runs_without_a_loss_are_not_asked_for_their_curve(tmp_path):
    table = study({"causal_lm": Truth()}).head(1).with_columns(status=pl.lit("diverged"))
    assert check(Health(), table, tmp_path) == []


def test_rules_that_cannot_be_checked_are_an_error_not_a_pass(tmp_path):
    table = study({"causal_lm": Truth()}).head(1)
    with pytest.raises(UserError, match=r"metrics\.jsonl.*health rules on losses need it"):
        check(Health(), table, tmp_path)
    assert check(Health(spike=None, unsettled=None), table, tmp_path) == []
    with pytest.raises(UserError, match=r"HEALTH = .*a Health\(\.\.\.\)"):
        check({"spike": 1}, table, tmp_path)
    with pytest.raises(UserError, match="HEALTH: spike = -1"):
        Health(spike=-1)
