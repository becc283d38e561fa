"""Positions that a model has no weights for are refused before anything is spent: training ended as diverged there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import SMALL, model_config

from encdec_jax.compute.limits import check_places
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.errors import UserError
from encdec_jax.evaluate.config import EvalConfig

LEARNED = {"position": "learned"}
OFFSET = {**LEARNED, "position_offset": 2}
RESTART = {**OFFSET, "target_positions": "restart"}
MIXER = {"block": "mixer"}
SCORED = EvalConfig(prefix=8, suffix=8)


def run_of(rows: int, evaluate: EvalConfig, changes: dict) -> RunConfig:
    model = model_config("enc_dec", decoder=SMALL, encoder=SMALL, position_rows=rows, **changes)
    return RunConfig(model, DataConfig(length=32), ObjectiveConfig("prefix_lm"), evaluate=evaluate)


@pytest.mark.parametrize(
    ("changes", "evaluate", "needed"),
    [
        (LEARNED, SCORED, 32),
        (LEARNED, replace(SCORED, prefix=30), 38),
        (OFFSET, SCORED, 34),
        (RESTART, SCORED, 18),
        (MIXER, SCORED, 32),
    ],
)
def test_a_sequence_has_no_more_positions_than_the_model(changes, evaluate, needed):
    check_places(run_of(needed, evaluate, changes))
    with pytest.raises(UserError, match=f"model.position_rows = {needed - 1} is not accepted: at least {needed}, for"):
        check_places(run_of(needed - 1, evaluate, changes))


def test_positions_that_are_computed_have_no_end():
    check_places(run_of(1, SCORED, {}))
