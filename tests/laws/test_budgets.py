import numpy as np
import pytest

from encdec_jax.errors import UserError
from encdec_jax.laws.budgets import budgets


def test_values_near_to_each_other_are_one_budget():
    random = np.random.default_rng(0)
    nominal = np.repeat([3e18, 1e19, 3e19, 1e20, 3e20], 7)
    found = budgets(nominal * (1 + 1e-6 * random.random(35)), "budget")
    assert len(np.unique(found)) == 5
    assert found == pytest.approx(nominal, rel=1e-5)
    assert (budgets(nominal, "budget") == nominal).all()
    assert set(budgets(np.array([1.80000200e20, 1.80000326e20]), "budget")) == {1.80000200e20}


def test_values_that_run_into_each_other_are_refused():
    with pytest.raises(UserError, match=r"flops: 40 values from 1e.18 to 1.47.* run into each other"):
        budgets(1e18 * 1.01 ** np.arange(40), "flops")
