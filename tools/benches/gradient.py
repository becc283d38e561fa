"""(g) A step of small models with the gradients of `encdec_jax.model.product`, over the same step with JAX's own.

CPU time on one core, as in a sweep's worker; rounds take the two in turn. The quickstart's models have one head.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from unittest.mock import patch

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

from encdec_jax import cpus

cpus.keep_freed_memory()  # as in every process that trains on a CPU

import jax
import jax.numpy as jnp
import numpy as np

from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.packing import Batch
from encdec_jax.model import product
from encdec_jax.model.presets import preset
from encdec_jax.model.streams import Stream
from encdec_jax.train.config import TrainConfig
from encdec_jax.train.schedule import hyper
from encdec_jax.train.trainer import Trainer

ROUNDS, ROWS, LENGTH, STEPS = 25, 2, 256, 10
WITHOUT = {
    "attention, one head": ("_one_head", lambda x: False),
    "MLP": ("product", jnp.matmul),
}


def main() -> None:
    for d_model, head_dim in ((8, 8), (16, 16), (64, 64), (64, 16)):
        for what, (name, plain) in WITHOUT.items():
            ours = step(d_model, head_dim)
            with patch.object(product, name, plain):
                jaxs = step(d_model, head_dim)
            least = np.min([[one(), other()] for one, other in [(ours, jaxs)] * ROUNDS], axis=0)
            said = f"{least[0] * 1e3:.2f} ms over {least[1] * 1e3:.2f} ms a step, least of {ROUNDS}"
            heads = d_model // head_dim
            print(f"(g) {what}, d_model {d_model}, {heads} heads: {least[0] / least[1]:.2f} ({said})", flush=True)


def step(d_model: int, head_dim: int) -> Callable[[], float]:
    """A function that makes `STEPS` updates and gives the CPU seconds of one; compiled already."""
    run = RunConfig(
        preset("causal_lm", d_model=d_model, dec_layers=2, head_dim=head_dim, vocab_size=259),
        data=DataConfig(length=LENGTH),
        objective=ObjectiveConfig("causal_lm"),
        train=TrainConfig(batch_size=ROWS, steps_per_call=STEPS),
    )
    trainer, numbers = Trainer(run), hyper(run.optim, 10_000, 0)
    held = [trainer.init()]
    tokens = np.random.default_rng(0).integers(3, 259, (STEPS, ROWS, LENGTH + 1), dtype=np.int32)
    place = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), (STEPS, ROWS, LENGTH))
    stream = Stream(tokens[..., :-1], place, np.ones_like(place), np.zeros(place.shape, bool))
    batches = Batch(None, stream, tokens[..., 1:], np.ones(place.shape, np.float32))

    def timed() -> float:
        start = time.process_time()
        held[0], _ = trainer(held[0], batches, numbers, STEPS)
        jax.block_until_ready(held[0])
        return (time.process_time() - start) / STEPS

    timed()
    return timed


if __name__ == "__main__":
    main()
