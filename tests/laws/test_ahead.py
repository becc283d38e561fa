import numpy as np
import pytest

from encdec_jax.errors import UserError
from encdec_jax.laws.ahead import REACH, near
from encdec_jax.laws.forms import FORMS

COLUMNS = {"n": np.array([1e7, 1e9]), "d": np.array([1e9, 1e11])}


@pytest.mark.parametrize(
    ("at", "column"),
    [
        ({"n": 1.1 * REACH * 1e9, "d": 1e10}, "n"),
        ({"n": 1e7 / (1.1 * REACH), "d": 1e10}, "n"),
        ({"n": 1e8, "d": 1e9 / (1.1 * REACH)}, "d"),
        ({"n": 0.9 * REACH * 1e9, "d": 0.9 * REACH * 1e11}, "6 n d"),
        ({"n": 1e7 / (0.9 * REACH), "d": 1e9 / (0.9 * REACH)}, "6 n d"),
    ],
)
def test_a_run_too_far_above_or_below_in_a_column_or_in_compute_is_refused(at, column):
    with pytest.raises(UserError, match=f"predict: {column} = .* 3 times beyond the runs fitted"):
        near(FORMS["chinchilla3"], COLUMNS, at, False)
    near(FORMS["chinchilla3"], COLUMNS, at, True)


def test_a_run_within_reach_in_all_is_accepted():
    near(FORMS["chinchilla3"], COLUMNS, {"n": 0.9 * REACH * 1e9, "d": 1e10}, False)
    near(FORMS["chinchilla3"], COLUMNS, {"n": 1e7 / (0.9 * REACH), "d": 1e11}, False)
