import numpy as np
import pytest

from encdec_jax.errors import UserError
from encdec_jax.laws.bootstrap import leave_out, units, weights

BUDGET = np.repeat(np.arange(6), 4)  # six budgets of four runs
SEED = np.tile(np.arange(4), 6)


def test_runs_are_drawn_as_often_as_there_are_runs():
    drawn = weights({"run": np.arange(24)}, "run", 500)
    assert drawn.shape == (500, 24)
    assert drawn.dtype == np.int64
    assert (drawn.sum(1) == 24).all()
    assert drawn.mean(0) == pytest.approx(1, abs=0.2)
    assert drawn.var() == pytest.approx(1 - 1 / 24, rel=0.05)  # of a multinomial


@pytest.mark.parametrize(("scheme", "column"), [("budget", BUDGET), ("seed", np.repeat(np.arange(8), 3))])
def test_all_runs_of_a_group_are_drawn_together(scheme, column):
    drawn = weights({scheme: column}, scheme, 200)
    for group in np.unique(column):
        assert (drawn[:, column == group] == drawn[:, column == group][:, :1]).all()
    assert drawn.var() > 0.5


def test_hierarchical_draws_budgets_and_then_runs_within_them():
    drawn = weights({"budget": BUDGET}, "hierarchical", 4000)
    assert (drawn.sum(1) == 24).all()
    by_budget = drawn.reshape(4000, 6, 4).sum(2)
    assert (by_budget % 4 == 0).all()  # every budget drawn gives as many runs as it has
    assert (by_budget == 0).any()
    assert drawn.var() > weights({"run": BUDGET}, "run", 4000).var() * 1.3


@pytest.mark.parametrize("scheme", ["run", "hierarchical"])
def test_runs_of_one_trunk_are_drawn_together(scheme):
    trunk = np.where(SEED < 2, np.char.add("trunk ", BUDGET.astype(str)), None)  # the first two runs of each budget
    drawn = weights({"budget": BUDGET, "trunk": trunk}, scheme, 300)
    pairs = drawn.reshape(300, 6, 4)
    assert (pairs[..., 0] == pairs[..., 1]).all()
    assert (pairs[..., 2] != pairs[..., 3]).any()
    assert units({"trunk": trunk}, "run") == 18


def test_leaving_out_takes_each_unit_away_once():
    assert leave_out({"run": BUDGET}, "run").tolist() == (1 - np.eye(24, dtype=int)).tolist()
    by_budget = leave_out({"budget": BUDGET}, "hierarchical")
    assert by_budget.shape == (6, 24)
    assert (by_budget.sum(1) == 20).all()
    assert units({"budget": BUDGET}, "hierarchical") == 6


@pytest.mark.parametrize(
    ("groups", "scheme", "line"),
    [
        ({"run": np.arange(9)}, "residual", "one of run, seed, budget, hierarchical"),
        ({"run": np.arange(9)}, "seed", "no column 'seed'"),
        ({"seed": SEED}, "seed", "of 4, intervals are far too short"),
        ({"budget": BUDGET, "trunk": SEED}, "budget", "a trunk has runs in more than one budget"),
    ],
)
def test_what_cannot_be_resampled_is_refused_in_a_line(groups, scheme, line):
    with pytest.raises(UserError, match=line):
        weights(groups, scheme)
