"""Train one run of a committed table again, and say whether what was measured is the same to the last bit.

    python experiments/again.py experiments/redllm/pretrained [RUN_ID]

Without a run's id it is the cheapest of the table. The run is trained in a temporary folder, and the exit code is 1 if
something is not equal. Sums are split over threads, so the number of threads has to be the one that stands in the row:
one line says how to have it where it is another. Code that sums in another order trains another model: a row's column
`code` says by which it was computed, and experiments/README.md how to have that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from encdec_jax import cpus
from encdec_jax.errors import UserError
from encdec_jax.sweep import results
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.single import train_one

MEASURED = ("suffix_bits_per_byte", "suffix_bits_se", "train_loss", "loss_tokens", "data_hash")


def again(folder: Path, identity: str | None) -> bool:
    """Train the run and print each of `MEASURED`, as it stands in the table and as it is now.

    Returns:
      whether all are equal.

    Raises:
      UserError: the table has no such run that ended well, or it was computed with another number of threads.
    """
    experiment, table = load(folder), results.load(folder)
    done = table.filter(pl.col("status") == "done", pl.col("run_id").is_in(list(experiment.runs))).sort("train_flops")
    rows = done if identity is None else done.filter(pl.col("run_id") == identity)
    if rows.is_empty():
        raise UserError(f"RUN_ID = {identity!r} is not accepted: a run that is done in {folder}/results.parquet")
    row = rows.row(0, named=True)
    if row["threads"] not in (None, cpus.threads()):
        how = f"XLA_FLAGS={cpus.ONE_THREAD}" if row["threads"] == 1 else f"taskset -c 0-{row['threads'] - 1}"
        text = f"the run was computed with {row['threads']}: put `{how}` before the command"
        raise UserError(f"threads = {cpus.threads()} is not accepted: {text}")
    with TemporaryDirectory() as place:
        if train_one(experiment.runs[row["run_id"]], Path(place) / row["run_id"]):
            sys.exit(130)
        now = json.loads((Path(place) / row["run_id"] / "summary.json").read_text())
    print(f"{row['run_id']} of {folder}, {row['label']}; code {row['code']} in the table, {now['code']} now:")
    for name in MEASURED:
        verdict = "equal" if row[name] == now[name] else "NOT EQUAL"
        print(f"  {name:20}  table {row[name]}  now {now[name]}  {verdict}")
    return all(row[name] == now[name] for name in MEASURED)


if __name__ == "__main__":
    try:
        sys.exit(not again(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
    except (UserError, IndexError) as error:
        print(str(error) if isinstance(error, UserError) else __doc__, file=sys.stderr)
        sys.exit(2)
