import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

FOLDER = Path(__file__).parents[2] / "experiments" / "calibration"


@pytest.mark.slow
def test_the_study_is_made_again_by_its_command_and_taken_up_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path / "runs"))

    def simulate(n: int) -> list[str]:
        command = [sys.executable, FOLDER / "simulate.py", "--simulations", str(n), "--out", tmp_path]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    simulate(1)
    first = pl.read_parquet(tmp_path / "runs" / "calibration" / "quickstart.parquet")
    assert "quickstart: 2 of 2" in simulate(2)
    again = pl.read_parquet(tmp_path / "runs" / "calibration" / "quickstart.parquet")
    assert again.filter(pl.col("draw") == 0).equals(first)
    assert not any(line.startswith("quickstart: ") for line in simulate(2))
    assert (tmp_path / "figure.png").exists()
    made, committed = pl.read_csv(tmp_path / "coverage.csv"), pl.read_csv(FOLDER / "coverage.csv")
    assert made.select("study", "quantity").equals(committed.select("study", "quantity"))


def test_the_committed_intervals_of_exponents_optima_and_crossovers_hold_the_truth_as_often_as_they_say():
    table = pl.read_csv(FOLDER / "coverage.csv").filter(pl.col("quantity").str.contains("exponent|N\\*|crossover"))
    assert table["simulations"].min() >= 1000
    assert table["coverage"].is_between(0.92, 0.98).all()


def test_the_committed_exponents_of_losses_without_a_floor_are_held_more_often_than_by_quantiles_alone():
    table = pl.read_csv(FOLDER / "floor.csv")
    assert (table["held, %"] > table["held by quantiles alone, %"]).all()
    assert table["held, %"].min() >= 90
    assert table["laws"].min() >= 100
