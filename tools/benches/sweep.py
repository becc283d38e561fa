"""(c) The wall time of the quickstart's sweep, from nothing, against the pure step time of its runs.

Workers run side by side, one a core: the sweep could take no less than the sum of all step times over their number.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from encdec_jax.cpus import default_jobs
from encdec_jax.data.prepare import prepare
from encdec_jax.files import cache_root


def main() -> None:
    prepare("bible_en")
    jobs = default_jobs()
    with tempfile.TemporaryDirectory() as folder:
        tokens = cache_root() / "tokens"
        Path(folder, "cache").mkdir()
        Path(folder, "cache/tokens").symlink_to(tokens)  # tokens are made once; compilations start from nothing
        env = {**os.environ, "ENCDEC_RUNS": f"{folder}/runs", "ENCDEC_CACHE": f"{folder}/cache"}
        command = [sys.executable, "-m", "encdec_jax", "run", "experiments/quickstart", "-j", str(jobs)]
        start = time.perf_counter()
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        steps = pl.read_parquet(f"{folder}/runs/experiments/quickstart/results.parquet")["step_s"].sum()
    print(
        f"(c) sweep: {wall:.0f} s with {jobs} workers; steps alone {steps:.0f} s / {jobs} workers:"
        f" ratio {wall * jobs / steps:.2f}; aim: at most 1.35"
    )


if __name__ == "__main__":
    main()
