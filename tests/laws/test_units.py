from itertools import product

import numpy as np
import pytest
from losses import CHINCHILLA, TRUTH

from encdec_jax.laws.units import doubts, tokens_per_parameter

NAMES = {"n": "params", "d": "tokens", "c": "flops"}
C = np.repeat(np.geomspace(3e18, 3e20, 5), 5)
N = 0.6 * (C / 6) ** 0.45 * np.tile(np.geomspace(0.25, 4, 5), 5)
COLUMNS = {"n": N, "d": C / 6 / N, "c": C}
LOSS = CHINCHILLA.predict(np.array(list(TRUTH.values())), COLUMNS)
FACTORS = (1.0, 1e3, 1e6, 1e9)


def odd(columns, names=NAMES, loss=LOSS, of_loss="loss") -> list[str]:
    apart = tokens_per_parameter(columns)
    return [*doubts(columns, names, loss, of_loss), *([apart] if apart else [])]


@pytest.mark.parametrize("factors", product(FACTORS, FACTORS), ids=str)
def test_sizes_and_tokens_in_other_units_are_doubted(factors):
    off = {"n": N / factors[0], "d": COLUMNS["d"] / factors[1]}
    assert bool(odd(off)) == (factors != (1.0, 1.0))


@pytest.mark.parametrize("factor", FACTORS[1:])
def test_units_that_cancel_in_every_ratio_are_doubted(factor):
    assert odd({"n": N / factor, "d": COLUMNS["d"] / factor, "c": C / factor**2})
    assert odd({"n": N / factor, "d": COLUMNS["d"] / factor, "c": C})
    assert odd({**COLUMNS, "c": C / factor})


def test_both_of_two_columns_are_named():
    lines = odd({"n": N / 1e6, "d": COLUMNS["d"] / 1e9})
    assert any(line.startswith("n from") for line in lines)
    assert any(line.startswith("d from") for line in lines)


@pytest.mark.parametrize("name", ["params_m", "N (B)", "n_millions", "params/1e6", "N [k]", "size in billions"])
def test_a_name_that_states_a_unit_is_taken_up(name):
    assert "is the column" in doubts(COLUMNS, {**NAMES, "n": name}, LOSS, "loss")[0]


@pytest.mark.parametrize(
    "name", ["params", "n_params", "N", "num_params", "model_size", "b", "n_params_total", "tokens"]
)
def test_a_name_that_states_none_is_not(name):
    assert not doubts(COLUMNS, {**NAMES, "n": name}, LOSS, "loss")


def test_small_models_are_not_doubted_where_the_loss_is_theirs():
    small = {"n": N / 1e3, "d": COLUMNS["d"] / 1e3}
    assert not odd(small, loss=CHINCHILLA.predict(np.array(list(TRUTH.values())), small))
    assert not odd(small, of_loss="suffix_bits_per_byte")
