"""What is wrong with an experiment is said before anything is spent on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import write_experiment

from encdec_jax.errors import UserError
from encdec_jax.sweep.check import check_costs
from encdec_jax.sweep.experiment import load


def test_runs_that_no_curve_could_pool_are_not_run(folders):
    experiment = load(write_experiment(folders / "study"))
    check_costs(experiment)
    first, *_, last = experiment.runs
    run = experiment.runs[last]
    other = replace(run, evaluate=replace(run.evaluate, windows=run.evaluate.windows - 1))
    mixed = replace(experiment, runs={**experiment.runs, last: other})
    with pytest.raises(UserError, match=f"run {last}: is scored on other held-out windows than run {first}"):
        check_costs(mixed)
    check_costs(replace(mixed, pooled={"scored": "for a test"}))
    text = replace(run, data=replace(run.data, task="another"))
    mixed = replace(experiment, runs={**experiment.runs, last: text})
    with pytest.raises(
        UserError, match=rf"run {last}: is scored on other held-out windows than run {first} \(data.task"
    ):
        check_costs(mixed)
    check_costs(replace(mixed, pooled={"cache_digest": "for a test"}))
