import polars as pl
import pytest

from encdec_jax.errors import UserError
from encdec_jax.laws.where import holds

TABLE = pl.DataFrame(
    {
        "outlier": ["True", "False", "False", None],
        "flag": [True, False, None, False],
        "params": ["1.5B", "70M", "1e8", "2e8"],
        "single": pl.Series([0.1, 0.2, 0.3, 0.4], dtype=pl.Float32),
        "family": ["t5", " gpt", "t5 ", None],
        "a>b": [1, 2, 3, 4],
        "acc": [0.9, float("nan"), 0.01, 0.5],
        "read": ["0.9", "NaN", "0.01", "0.5"],
    }
)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("outlier!=True", [False, True, True, False]),
        ("outlier!=true", [False, True, True, False]),
        ("outlier=False", [False, True, True, False]),
        ("outlier = false", [False, True, True, False]),
        ("flag=TRUE", [True, False, False, False]),
        ("params>=1e8", [True, False, True, True]),
        ("params=1.5e9", [True, False, False, False]),
        ("params<0.1B", [False, True, False, False]),
        ("single=0.1", [True, False, False, False]),
        ("family=gpt", [False, True, False, False]),
        ("family!=t5", [False, True, False, False]),
        ("a>b>2", [False, False, True, True]),
        ("acc>0.05", [True, False, False, True]),
        ("acc!=0.9", [False, False, True, True]),
        ("acc<=inf", [True, False, True, True]),
        ("read>0.05", [True, False, False, True]),
    ],
)
def test_values_are_compared_as_what_the_column_holds(condition, expected):
    assert holds(TABLE, condition).to_list() == expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("outlier!=yes", "true or false: outlier holds nothing else"),
        ("outlier>true", "= or !=: outlier holds true and false"),
        ("params=1.4B", "params never has this value, but 1500000000, 70000000, 100000000, 200000000"),
        ("params!=3", "params never has this value"),
        ("params>big", "a number: params holds numbers"),
        ("acc<nan", "a number: acc holds numbers"),
        ("acc=NaN", "a number: acc holds numbers"),
        ("family!=T5", "family never has this value, but t5, gpt"),
        ("family<t5", "= or !=: family holds text"),
        ("size=3", "a condition on a column of the table"),
        ("params", "COLUMN=VALUE"),
    ],
)
def test_what_no_row_can_be_is_refused(condition, message):
    with pytest.raises(UserError, match=message):
        holds(TABLE, condition)
