"""(d) Tokens a second of the input pipeline, hash included, over what the train step consumes; on one core."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

from encdec_jax.data.batches import Batches, extend_hash
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.prepare import prepare
from encdec_jax.sweep.algebra import override
from encdec_jax.sweep.experiment import load
from encdec_jax.train.loop import train

SECONDS = 3.0


def main() -> None:
    runs = load(Path("experiments/quickstart")).runs.values()
    prepare("bible_en")
    for arch in ("causal_lm", "prefix_lm", "enc_dec"):
        # The smallest model takes the most tokens a second.
        run = min((run for run in runs if run.model.arch == arch), key=lambda run: run.model.decoder.d_model)
        run = override(run, {"train.tokens": 200_000, "train.checkpoint_every": 0, "budget_flops": None})
        with tempfile.TemporaryDirectory() as folder:
            consumed = train(run, Path(folder))["tokens_per_s"]
        made = pipeline(run)
        size = f"{arch}, d_model {run.model.decoder.d_model}"
        rates = f"pipeline {made:,.0f} / step {consumed:,.0f} tokens a second"
        print(f"(d) {size}: {rates} = {made / consumed:.1f}; aim: at least 10")


def pipeline(run) -> float:
    cache = TokenCache.open(run.data.task, run.data.vocab)
    batches = Batches(cache, run)
    per_call, seen, digest = run.train.steps_per_call, 0, ""
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        batches.chunk(seen, per_call)
        for step in range(seen, seen + per_call):
            digest = extend_hash(digest, batches.windows(step))
        seen += per_call
    tokens = seen * run.train.batch_size * run.data.length
    return tokens / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
