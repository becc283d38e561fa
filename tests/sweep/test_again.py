"""`experiments/again.py`: a run of a committed table, trained again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from tiny import encdec, environment, write_experiment, write_noise

from encdec_jax.cpus import ONE_THREAD

AGAIN = Path(__file__).parents[2] / "experiments" / "again.py"


def again(*arguments: object, flags: str = ONE_THREAD) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, AGAIN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(XLA_FLAGS=flags), check=False)


@pytest.mark.slow
def test_a_run_of_a_table_is_the_same_again_to_the_bit_or_the_exit_code_says_so(folders):
    write_noise()
    study = write_experiment(folders / "study")
    assert encdec("run", study, "-j", "2").returncode == 0
    assert encdec("report", study).returncode == 0
    assert encdec("collect", study).returncode == 0

    same = again(study)
    assert same.returncode == 0, same.stderr
    assert same.stdout.count("  equal") == 5

    table = pl.read_parquet(study / "results.parquet")
    cheapest = table.sort("train_flops")["run_id"][0]
    assert cheapest in same.stdout
    table.with_columns(pl.col("train_loss") + 2**-30).write_parquet(study / "results.parquet")
    other = again(study, cheapest)
    assert other.returncode == 1
    assert other.stdout.count("NOT EQUAL") == 1

    absent = again(study, "0" * 12)
    assert absent.returncode == 2
    assert absent.stderr.startswith("RUN_ID = '000000000000' is not accepted")
    table.with_columns(threads=pl.lit(4096)).write_parquet(study / "results.parquet")
    threads = again(study)
    assert threads.returncode == 2
    assert "put `taskset -c 0-4095` before the command" in threads.stderr
