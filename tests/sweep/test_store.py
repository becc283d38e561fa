from __future__ import annotations

import json

from tiny import SUMMARY

from encdec_jax.errors import UserError
from encdec_jax.sweep.claim import claim
from encdec_jax.sweep.store import forgive, run_state, write_error


def test_states(tmp_path):
    assert run_state(tmp_path / "absent").status == "pending"
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "tokens": 10}\n{"step": 2, "tokens": 20}\n{"step": 3, "tok')
    assert (run_state(tmp_path).status, run_state(tmp_path).tokens) == ("pending", 20)
    with claim(tmp_path, lambda: None):
        assert run_state(tmp_path).status == "running"
    write_error(tmp_path, UserError("the disk is full"))
    failed = run_state(tmp_path)
    assert (failed.status, failed.reason, failed.ended) == ("failed", "the disk is full", True)
    assert forgive(tmp_path)
    assert not forgive(tmp_path)
    assert run_state(tmp_path).status == "pending"
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    assert (run_state(tmp_path).status, run_state(tmp_path).tokens) == ("diverged", 15)


def test_other_errors_keep_their_traceback(tmp_path):
    try:
        raise ValueError("surprise")
    except ValueError as error:
        write_error(tmp_path, error)
    state = run_state(tmp_path)
    assert state.reason == "ValueError: surprise"
    assert "Traceback" in state.error
