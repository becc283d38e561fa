import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from encdec_jax.laws.interval import LEVEL
from encdec_jax.study.optima import measure

FOLDER = Path(__file__).parents[2] / "experiments" / "headlines"


def test_the_study_is_made_again_by_its_command_and_taken_up_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path))

    def simulate(studies: int) -> str:
        command = [sys.executable, FOLDER / "simulate.py", "--studies", str(studies), "--only", "depths"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert simulate(1).startswith("case: depths, studies: 1")
    first = pl.read_parquet(tmp_path / "headlines" / "depths.parquet")
    assert simulate(2).startswith("case: depths, studies: 2")
    assert pl.read_parquet(tmp_path / "headlines" / "depths.parquet").head(1).equals(first)


def test_the_committed_headlines_are_false_less_often_than_they_were_and_find_more():
    now, before = (pl.read_csv(FOLDER / f"{name}.csv") for name in ("headlines", "before"))
    both = now.join(before, on="case", suffix=" before", validate="1:1")
    assert len(both) == len(now) == len(before)
    assert both["studies"].min() >= 200
    same = both.filter(pl.col("found, %").is_null())
    assert (same["anything false, %"] < same["anything false, % before"]).all()
    false = both["false winner or loser, %"] * both["studies"] / 100
    assert (false.round() <= _most(both["studies"])).all()
    assert false.sum() <= _most(both["studies"].sum())
    assert both["false crossover, %"].max() == 0
    assert both["N* covered, %"].drop_nulls().is_between(93, 97.5).all()
    differ = both.drop_nulls("found, %")
    assert (differ["found, %"] >= differ["found, % before"] - 2).all()


def test_the_interval_of_the_mean_misses_as_rarely_as_it_says_in_ten_thousand_studies():
    table = pl.read_csv(FOLDER / "mean.csv")
    assert table["studies"].max() >= 10_000
    false = table["false winner or loser, %"] * table["studies"] / 100
    assert false[-1] <= _most(table["studies"][-1])
    headlines = pl.read_csv(FOLDER / "headlines.csv").filter(pl.col("case") == "identical, rich").row(0, named=True)
    same = table.filter(pl.col("first") == 0, pl.col("studies") == headlines["studies"])
    # The same studies, but with seeds pooled with residuals of any size: no interval is longer than its headline's.
    assert headlines["false winner or loser, %"] <= same["false winner or loser, %"].item() + 1


def test_its_studies_are_those_of_the_case_and_fitted_as_any_study_is(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    cases, mean = import_module("cases"), import_module("mean")
    case = cases.CASES[mean.NAME]
    tables = [case.table(draw) for draw in range(2)]
    at = [curve for curve in mean.curves(tables[0])[0] if curve.label == cases.BASE]
    error = case.noise * mean.errors(case, len(tables))
    best, noise, free = zip(*(mean.fitted(case, at, label, error[:, label]) for label in range(2)), strict=True)
    for draw, table in enumerate(tables):
        seen = measure(table)
        loss = [np.mean([o.loss.value for o in seen.optima if o.label == label]) for label in case.labels]
        assert best[1][draw] - best[0][draw] == pytest.approx(loss[1] - loss[0], abs=1e-9)
        # Of labels whose residuals about the curves are larger than seeds explain, the noise is these alone.
        pooled = {label: one for label, one in seen.noise.items() if one.source.endswith("residuals of its own")}
        assert pooled
        for label, one in pooled.items():
            place = case.labels.index(label)
            assert (noise[place][draw], free[place]) == (pytest.approx(one.sd), one.dof)


def _most(studies):
    """False studies that no more than 5 % in truth give, but once in 40 times."""
    return binom.ppf(0.975, studies, 1 - LEVEL)
