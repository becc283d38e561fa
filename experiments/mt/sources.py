"""What a source is worth to each run that is done: its held-out loss under its own pairs' sources, and under others'.

    python experiments/mt/sources.py        writes experiments/mt/sources.parquet: run_id, own, others (bits per byte)

Needs the checkpoints of the runs, below ENCDEC_RUNS. Each target is scored under the source of the held-out pair
before it, so that everything but the pairing stays.
"""

from pathlib import Path

import numpy as np
import polars as pl

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.heldout import eval_batch
from encdec_jax.data.objectives.seq2seq import Seq2Seq
from encdec_jax.data.packing import Batch, assemble
from encdec_jax.data.pairs import Pairs
from encdec_jax.evaluate.fair import bits_per_byte
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.store import run_state
from encdec_jax.train.restore import restore
from encdec_jax.train.trainer import Trainer

HERE = Path(__file__).parent


def mispaired(cache: TokenCache, run: RunConfig) -> Batch:
    """The held-out rows, each target under the source of the one before."""
    pairs = Pairs(cache, run.data.eval_split, run.data)
    fitting, windows = pairs.fitting(), run.evaluate.windows
    numbers = fitting[np.arange(windows) * len(fitting) // windows]  # as the fair loss takes them
    own, others = pairs.whole(numbers), pairs.whole(np.roll(numbers, 1))
    segments = own._replace(source=others.source, source_lengths=others.source_lengths)
    arch = run.model.choices
    return assemble(arch, Seq2Seq().layout(arch, run.data), np.arange(windows), windows, segments)


def main() -> None:
    """Score what is done and stands in the table not yet."""
    experiment, path = load(HERE), HERE / "sources.parquet"
    rows = pl.read_parquet(path).to_dicts() if path.exists() else []
    for identity in experiment.runs:
        folder = experiment.run_folder(identity)
        if run_state(folder).status != "done" or identity in [row["run_id"] for row in rows]:
            continue
        run, params = restore(folder)
        cache, trainer = TokenCache.open(run.data.task, run.data.vocab), Trainer(run)
        batch, nbytes = eval_batch(cache, run.model.choices, run.data, run.evaluate)
        own, others = (
            bits_per_byte(trainer.held_out_bits(params, of), nbytes)[0] for of in (batch, mispaired(cache, run))
        )
        rows.append({"run_id": identity, "own": own, "others": others})
        print(
            f"{identity} {experiment.labels[identity]}: {own:.4f}, {others:.4f} under other pairs' sources", flush=True
        )
        pl.DataFrame(rows).sort("run_id").write_parquet(path)


if __name__ == "__main__":
    main()
