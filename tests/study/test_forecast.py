import functools
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.files import write_json
from encdec_jax.study import forecast as forecast_room
from encdec_jax.study.forecast import forecast
from encdec_jax.study.predictions import FORECASTS, calibration, fields, registered, score
from encdec_jax.sweep.results import SCHEMA

AT = "2026-01-01T00:00:00+00:00"
STUDY = study({"causal_lm": Truth()}, budgets=(1e11, 2e11, 4e11, 8e11), ratios=(0.3, 0.7, 1.6, 3.5), seeds=(0, 1))
RANDOM = np.random.default_rng(5)


def by_law(table: pl.DataFrame) -> pl.DataFrame:
    """The table with losses of a power law of compute, and noise of 0.5 %: chinchilla3 would be slower to fit."""
    loss = 30 * table["train_flops"].to_numpy() ** -0.1 * np.exp(0.005 * RANDOM.standard_normal(len(table)))
    return table.with_columns(pl.Series(LOSS, loss))


DONE = by_law(STUDY.filter(pl.col("budget_flops") < 5e11))
LATER = by_law(STUDY.filter(pl.col("budget_flops") > 5e11))


@functools.cache
def made():
    return forecast(DONE, LATER, AT, law="power")


def test_forecasts_made_before_the_runs_hold_after_them():
    scored = score(made().runs, LATER)
    assert len(scored) == 8
    found = calibration(scored)
    assert found.coverage >= 7 / 8
    assert found.error < 0.03
    assert 0.3 < found.z < 1.7
    for one in scored:
        assert one.error == pytest.approx(one.observed - one.forecast.value)
        assert one.z == pytest.approx(one.error / one.forecast.sd)
        assert one.forecast.low < one.forecast.value < one.forecast.high


def test_a_forecast_says_what_it_rests_on_and_nothing_else_moves_it():
    """Not the other runs planned, the order of the rows or columns that no law reads; the losses do."""
    first = next(iter(made().runs.values()))
    assert made().fits[first.fit]["inputs"] == first.inputs
    assert sorted(made().fits[first.fit]["runs"]) == sorted(DONE["run_id"])
    shuffled = DONE.sample(fraction=1.0, shuffle=True, seed=1).with_columns(wall_s=pl.lit(3.0))
    assert forecast(shuffled, LATER.filter(run_id=first.run_id), AT, law="power").runs == {first.run_id: first}
    changed = DONE.with_columns(pl.col(LOSS) * 1.001)
    other = forecast(changed, LATER.filter(run_id=first.run_id), AT, law="power").runs[first.run_id]
    assert other.inputs != first.inputs
    assert other.fit != first.fit


def test_an_outlier_that_the_study_leaves_out_is_not_fitted_to():
    odd = DONE.with_columns(
        pl.when(pl.col("run_id") == DONE["run_id"][5]).then(2 * pl.col(LOSS)).otherwise(pl.col(LOSS)).alias(LOSS)
    )
    (fit,) = forecast(odd, LATER, AT, law="power").fits.values()
    assert sorted(fit["runs"]) == sorted(set(DONE["run_id"]) - {DONE["run_id"][5]})


def test_what_cannot_be_predicted_is_said():
    far = LATER.with_columns(pl.col("train_flops") * 2)
    few = forecast(DONE.head(2), pl.concat([far, DONE.head(2)]), AT, law="power")
    assert not few.runs
    assert few.refused[0] == "2 runs are in the table already: no forecast of them would be one"
    assert "causal_lm: points = 2 is not accepted: more than the 2 parameters" in few.refused[1]
    refused = forecast(DONE, far, AT, law="power")
    assert not refused.runs
    assert "8 runs lie up to 4 times beyond the largest compute fitted" in refused.refused[0]
    assert forecast(DONE, far, AT, law="power", extrapolate=True).runs.keys() == set(far["run_id"])
    with pytest.raises(UserError, match="law = 'encdec' is not accepted: one of chinchilla3"):
        forecast(DONE, LATER, AT, law="encdec")


def test_runs_that_diverged_or_are_missing_have_no_error():
    first, second, *_ = LATER["run_id"]
    diverged = LATER.head(1).with_columns(pl.lit(None, pl.Float64).alias(LOSS), status=pl.lit("diverged"))
    scored = {one.forecast.run_id: one for one in score(made().runs, diverged)}
    assert (scored[first].status, scored[first].error) == ("diverged", None)
    assert (scored[second].status, scored[second].error) == ("pending", None)
    assert calibration(scored.values()) is None
    assert [one.status for one in score(made().runs, pl.DataFrame(schema=SCHEMA))] == ["pending"] * 8


def test_without_an_interval_there_is_an_error_and_no_z(tmp_path):
    first, second, *_ = made().runs.values()
    bare = [replace(first, low=math.nan, high=math.nan, sd=math.nan), replace(second, low=second.value, sd=0.0)]
    scored = score({one.run_id: one for one in bare}, LATER)
    assert [(one.z, one.inside) for one in scored] == [(None, None)] * 2
    assert all(one.error == one.observed - one.forecast.value for one in scored)
    found = calibration(scored)
    assert (found.n, found.known, found.z, found.coverage) == (2, 0, None, None)
    others = score({**made().runs, **{one.run_id: one for one in bare}}, LATER)
    found = calibration(others)
    assert (found.n, found.known) == (8, 6)
    assert found.coverage == sum(one.inside is True for one in others) / 6
    write_json(tmp_path / FORECASTS, {"runs": {first.run_id: fields(bare[0])}})
    assert "NaN" not in (tmp_path / FORECASTS).read_text()
    assert repr(registered(tmp_path)[first.run_id]) == repr(bare[0])


def test_a_law_that_resamples_do_not_bound_gives_no_interval(monkeypatch):
    """Resampled to rise without end, it has a loss, and no interval of it."""
    wild = forecast_room.estimate.of
    monkeypatch.setattr(
        forecast_room.estimate, "of", lambda *a: replace(found := wild(*a), draws=found.draws * np.array([1.0, -1e4]))
    )
    runs = forecast(DONE, LATER, AT, law="power").runs
    assert [one.value for one in runs.values()] == [one.value for one in made().runs.values()]
    assert all(not one.known and math.isnan(one.low) and math.isnan(one.sd) for one in runs.values())


@pytest.mark.parametrize("name", ["cache_digest", "scored"])
def test_losses_of_another_text_forecast_nothing(name):
    done, planned = (table.with_columns(pl.lit(value).alias(name)) for table, value in ((DONE, "one"), (LATER, "two")))
    with pytest.raises(UserError, match=f"planned runs are of {name} two, those done of one"):
        forecast(done, planned, AT, law="power")
    assert len(forecast(done, planned, AT, law="power", pooled={name: "for a test"}).runs) == 8
    unknown = planned.with_columns(pl.lit(None, pl.String).alias(name))
    assert len(forecast(done, unknown, AT, law="power").runs) == 8


def test_a_forecast_is_fitted_to_what_stands_for_a_size():
    """SETTINGS = "mean" reached the curves, and not the forecasts."""
    worse = DONE.with_columns(pl.col(LOSS) * 1.02, setting="x" + pl.col("setting"), run_id="x" + pl.col("run_id"))
    both = pl.concat([DONE, worse])
    sizes = [
        len(next(iter(forecast(both, LATER, AT, law="power", settings=kind).fits.values()))["runs"])
        for kind in ("best", "mean")
    ]
    assert sizes == [len(DONE), len(both)]
