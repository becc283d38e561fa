"""(a) A train step against its matmul floor, and (b) against the same step in Hugging Face's T5 on torch.

An encoder-decoder of d_model 256, 4+4 layers, d_ff 1024, 8192 ids, a batch of 32 x (256 source, 64 target) tokens,
AdamW, float32, on all cores. The floor is the time of the step's matmul FLOPs (the ledger's, dense) done as 2048-cubed
float32 matmuls in JAX. Rounds take the three in turn, so that a noisy machine spoils all alike. Layers are unrolled: a
scan stacks what the backward pass needs, which a CPU's memory pays for (LOG.md).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

CORES = len(os.sched_getaffinity(0))
# One device a core: data-parallel steps spread the elementwise work, which one device's thread pool does not.
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={CORES}"
os.environ["JAX_PLATFORMS"] = "cpu"

from encdec_jax import cpus

cpus.keep_freed_memory()  # as in every process that trains on a CPU

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.packing import Batch
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.streams import Stream
from encdec_jax.train.config import MeshConfig, TrainConfig
from encdec_jax.train.schedule import hyper
from encdec_jax.train.trainer import Trainer

ROUNDS, ROWS, SOURCE, TARGET, SIDE = 5, 32, 256, 64, 2048
STACK = StackConfig(n_layers=4, d_model=256, n_heads=4, n_kv_heads=4, head_dim=64, d_ff=1024)
RUN = RunConfig(
    ModelConfig("enc_dec", 8192, decoder=STACK, encoder=STACK, mlp="gelu", scan=False),
    data=DataConfig(source_length=SOURCE, target_length=TARGET),
    objective=ObjectiveConfig("seq2seq"),
    train=TrainConfig(batch_size=ROWS, steps_per_call=1),
    mesh=MeshConfig(data=CORES),
)
TORCH = Path(".venv-bench/bin/python")


def main() -> None:
    ours, floor, torch = our_step(), matmul_floor(), TorchStep()
    times: dict[str, list[float]] = {"ours": [], "floor": [], "torch": []}
    for _ in range(ROUNDS):
        times["ours"].append(ours())
        times["floor"].append(floor())
        times["torch"].append(torch())
    torch.close()
    for name, seconds in times.items():
        print(
            f"{name:>6}: {statistics.median(seconds):.2f} s (median of {ROUNDS}; {min(seconds):.2f}-{max(seconds):.2f})"
        )
    show("(a) matmul floor / our step", times["floor"], times["ours"], "at least 0.6")
    show("(b) torch's step / our step", times["torch"], times["ours"], "at least 1.2")


def show(name: str, over: list[float], under: list[float], aim: str) -> None:
    """The ratio of medians, and the range of the rounds' own ratios."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    ratio = statistics.median(over) / statistics.median(under)
    print(f"{name}: {ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f}); aim: {aim}")


def timed(step: Callable[[], object]) -> float:
    """Seconds of one call, made to completion."""
    start = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - start


def our_step() -> Callable[[], float]:
    trainer = Trainer(RUN)
    batch, schedule = batches(), hyper(RUN.optim, 100, 0)
    state = trainer.init()

    def step() -> object:
        nonlocal state
        state, metrics = trainer(state, batch, schedule, 1)
        return metrics

    timed(step)
    return lambda: timed(step)


def batches() -> Batch:
    random = np.random.default_rng(0)

    def stream(length: int, first: int, opened: bool) -> Stream:
        shape = (1, ROWS, length)
        position = np.broadcast_to(first + np.arange(length, dtype=np.int32), shape)
        tokens = random.integers(3, 8192, shape).astype(np.int32)
        return Stream(tokens, position, np.ones(shape, np.int32), np.full(shape, opened))

    target = stream(TARGET, SOURCE, False)
    return Batch(stream(SOURCE, 0, True), target, target.tokens, np.ones((1, ROWS, TARGET), np.float32))


def matmul_floor() -> Callable[[], float]:
    """Seconds that the step's FLOPs take as matmuls, each core busy with its own share of rows."""
    flops = count(RUN).train_flops.dense
    mesh = Mesh(np.asarray(jax.devices()), ("rows",))
    rows, whole = NamedSharding(mesh, PartitionSpec("rows")), NamedSharding(mesh, PartitionSpec())
    square = jnp.ones((SIDE, SIDE), jnp.float32)
    left, right = jax.device_put(square, rows), jax.device_put(square, whole)
    product = jax.jit(jnp.matmul, out_shardings=rows)
    timed(lambda: product(left, right))

    def floor() -> float:
        seconds = min(timed(lambda: product(left, right)) for _ in range(5))
        return seconds * flops / (2 * SIDE**3)

    return floor


class TorchStep:
    """The torch step in a process of its own, one step a line; huge pages spare it page faults too."""

    def __init__(self) -> None:
        sizes = [ROWS, SOURCE, TARGET, RUN.model.vocab_size, STACK.d_model, STACK.head_dim]
        sizes += [STACK.n_heads, STACK.d_ff, STACK.n_layers]
        command = [TORCH, Path(__file__).with_name("torch_step.py"), *map(str, sizes)]
        env = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self()

    def __call__(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()


if __name__ == "__main__":
    main()
