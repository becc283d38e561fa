from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import tiny_run

from encdec_jax.config import from_dict, to_dict
from encdec_jax.errors import UserError
from encdec_jax.sweep.identity import run_id
from encdec_jax.train.config import OptimConfig


def test_it_is_of_the_resolved_configuration():
    run = tiny_run()
    assert run_id(run) == run_id(from_dict(to_dict(run)))
    assert run_id(replace(run, optim=OptimConfig(lr=1))) == run_id(replace(run, optim=OptimConfig(lr=1.0)))
    assert len(run_id(run)) == 12


def test_every_field_enters():
    run = tiny_run()
    others = [
        replace(run, train=replace(run.train, seed=1)),
        replace(run, model=replace(run.model, qk_norm=True)),
        replace(run, budget_flops=1e9),
    ]
    assert len({run_id(one) for one in [run, *others]}) == 4


def test_it_is_the_same_on_every_machine():
    """A change here orphans every run that was ever made: only with a reason in LOG.md."""
    assert run_id(tiny_run()) == "8987938c15cb"


def test_a_field_added_later_enters_only_where_it_differs():
    run = tiny_run()
    same, other = (replace(run, model=replace(run.model, attention=kind)) for kind in ("auto", "plain"))
    assert run_id(same) == run_id(run) != run_id(other)


def test_numbers_that_json_lacks_are_refused():
    run = tiny_run()
    with pytest.raises(UserError, match="budget_flops = inf is not accepted: a finite number"):
        run_id(replace(run, budget_flops=float("inf")))
