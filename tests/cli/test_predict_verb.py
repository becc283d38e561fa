"""encdec predict: what is registered, and when it stands."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from synthetic import Truth, study
from tiny import SUMMARY, SWEEP, write_experiment

from encdec_jax.cli.main import main
from encdec_jax.evaluate import LOSS
from encdec_jax.files import write_json
from encdec_jax.laws import estimate
from encdec_jax.study.predictions import registered
from encdec_jax.sweep.experiment import load

TABLE = study({"causal_lm": Truth(n=200.0), "enc_dec 1/2": Truth(n=300.0)}, noise=0.01).with_columns(
    pl.col("train_flops") / 1e3
)
SMALL = SWEEP.replace("(8, 16)", "(8, 10)")


@pytest.fixture
def experiment(folders):
    TABLE.write_parquet(folders / "table.parquet")
    return write_experiment(folders / "study", SMALL)


def predict(experiment: Path, *arguments: str) -> int:
    table = str(experiment.parent / "table.parquet")
    return main(["predict", str(experiment), "--from", table, "--law", "power", *arguments])


def test_runs_are_predicted_with_the_hashes_of_fit_and_inputs(experiment, capsys):
    assert predict(experiment, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    root = load(experiment).root
    assert shown == json.loads((root / "predictions.json").read_text())
    found = registered(root)
    assert found.keys() == load(experiment).runs.keys()
    for one in found.values():
        assert one.low < one.value < one.high
        assert shown["fits"][one.fit]["inputs"] == one.inputs
        assert shown["fits"][one.fit]["law"] == "power"
        assert re.fullmatch(r"[0-9a-f]{64}", one.fit)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", one.at)


def test_a_forecast_stands_once_its_run_has_begun_and_follows_its_inputs_before(experiment, capsys):
    assert predict(experiment) == 0
    root = load(experiment).root
    file = root / "predictions.json"
    first, before = registered(root), file.read_bytes()
    assert predict(experiment) == 0
    assert "(as before)" in capsys.readouterr().out
    assert file.read_bytes() == before

    begun, *others = first
    write_json(root / begun / "summary.json", SUMMARY)
    TABLE.with_columns(pl.col(LOSS) * 1.01).write_parquet(experiment.parent / "table.parquet")
    assert predict(experiment) == 0
    second = registered(root)
    assert second[begun] == first[begun]
    assert all(second[other].fit != first[other].fit for other in others)
    assert {one.fit for one in second.values()} == set(json.loads(file.read_text())["fits"])


def test_a_run_that_began_without_a_forecast_gets_none(experiment, capsys):
    loaded = load(experiment)
    begun = next(iter(loaded.runs))
    write_json(loaded.root / begun / "summary.json", SUMMARY)
    assert predict(experiment) == 0
    assert begun not in registered(loaded.root)
    assert "1 runs had begun, or ended, without a forecast" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--law", "encdec"], "law = 'encdec' is not accepted: one of chinchilla3"),
        (["--from", "absent.parquet"], "can't read results table absent.parquet"),
        (["--stray"], "unknown arguments: --stray"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(experiment, capsys, arguments, message):
    assert predict(experiment, *arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not load(experiment).root.exists()


def test_an_experiment_without_runs_done_has_nothing_to_predict_from(experiment, capsys):
    assert main(["predict", str(experiment)]) == 2
    assert "runs = 0 is not accepted: runs done, to fit to" in capsys.readouterr().err


def test_runs_far_beyond_the_fit_are_refused(experiment, capsys):
    TABLE.with_columns(pl.col("train_flops") / 1e6).write_parquet(experiment.parent / "table.parquet")
    assert predict(experiment) == 2
    assert "times only with --extrapolate" in capsys.readouterr().err
    assert predict(experiment, "--extrapolate") == 0


def test_what_a_fit_warns_of_is_printed_once(experiment, capsys, monkeypatch):
    sound = estimate.of
    monkeypatch.setattr(estimate, "of", lambda *a: replace(sound(*a), warnings=("E is not determined", "odd units")))
    for _ in range(2):
        assert predict(experiment) == 0
        out = capsys.readouterr().out
        fits = {one.fit: one.label for one in registered(load(experiment).root).values()}
        assert len(fits) == 2
        for fit, label in fits.items():
            for warning in ("E is not determined", "odd units"):
                assert out.count(f"fit {fit[:12]} of {label}: {warning}\n") == 1
        assert "no interval" not in out


def test_a_fit_that_bounds_no_loss_says_so(experiment, capsys, monkeypatch):
    sound = estimate.of
    monkeypatch.setattr(
        estimate, "of", lambda *a: replace(found := sound(*a), draws=found.draws * np.array([1.0, -1e4]))
    )
    for state in ("now", "as before"):
        assert predict(experiment) == 0
        out = capsys.readouterr().out
        assert out.count("no interval of any run: resampled, the law does not bound their losses\n") == 2
        assert f"({state})" in out
    assert predict(experiment, "--json") == 0

    def refuse(name):
        raise AssertionError(name)

    json.loads(capsys.readouterr().out, parse_constant=refuse)
