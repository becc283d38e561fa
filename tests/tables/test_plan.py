from __future__ import annotations

from collections import Counter

import pytest
from tiny import SUMMARY, write_experiment, write_noise

from encdec_jax import files
from encdec_jax.data.cache import TokenCache
from encdec_jax.errors import UserError
from encdec_jax.sweep import cost, experiment
from encdec_jax.sweep.experiment import load
from encdec_jax.tables.plan import print_plan
from encdec_jax.tables.status import print_status
from encdec_jax.train import summary

SWEEP = """
from tiny import tiny_run

QUESTION, BASELINE, CONFOUNDERS, PREDICTIONS = "Is it cheap?", "causal_lm", {}, []


def runs():
    for d_model in (8, 16):
        for lr in (0.01, 0.02):
            for seed in range(3):
                yield tiny_run(d_model=d_model, lr=lr, seed=seed)
"""


@pytest.fixture
def asked(folders, monkeypatch):
    """A study of which every run but one has ended, and how often each question was asked of it."""
    write_noise()
    folder = write_experiment(folders / "study", SWEEP)
    digest = TokenCache.open("noise", "bytes").digest
    made = load(folder)
    for identity in list(made.runs)[1:]:
        files.write_json(made.run_folder(identity) / "summary.json", {**SUMMARY, "cache_digest": digest})
    counts: Counter[str] = Counter()

    def counted(module, name):
        real = getattr(module, name)

        def call(*arguments):
            counts[name] += 1
            return real(*arguments)

        monkeypatch.setattr(module, name, call)

    monkeypatch.setattr(cost, "_known", {})
    counted(experiment, "run_id")
    counted(summary, "read_json")
    counted(cost, "_cost")
    return folder, counts


def test_a_look_asks_each_run_once_and_each_size_once(asked):
    folder, counts = asked
    print_status(folder)
    assert counts == {"run_id": 12, "read_json": 11}
    counts.clear()
    print_plan(folder)
    assert counts == {"run_id": 12, "read_json": 11, "_cost": 2}


def test_a_plan_refuses_what_ended_on_other_tokens(asked):
    folder, _ = asked
    made = load(folder)
    *_, last = made.runs
    files.write_json(made.run_folder(last) / "summary.json", {**SUMMARY, "cache_digest": "another"})
    with pytest.raises(UserError, match=f"run {last}: .* was made of other tokens"):
        print_plan(folder)
