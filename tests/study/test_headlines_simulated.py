import subprocess
import sys
from pathlib import Path

import polars as pl

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
    # 5 % of studies may be false; 200 of them tell that from 8 %, once in 40 times.
    assert both["false winner or loser, %"].max() <= 8.0
    assert both["false crossover, %"].max() == 0
    assert both["N* covered, %"].drop_nulls().is_between(93, 97.5).all()
    differ = both.drop_nulls("found, %")
    assert (differ["found, %"] >= differ["found, % before"] - 2).all()
