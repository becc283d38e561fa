"""A train step of each architecture against the same step by another commit: python tools/benches/against.py COMMIT

Processor time of an update on one thread (d_model 128, 4 layers, 8 rows of 128 + 128 tokens, float32), the least of
`ROUNDS` in which the two codes take turns, each in a process of its own. Architectures that it lacks are left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS, UPDATES = 8, 3
WORKER = """
import inspect, sys, time
from dataclasses import replace
import jax, jax.numpy as jnp, numpy as np
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.packing import Batch
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.streams import Stream
from encdec_jax.train.config import TrainConfig
from encdec_jax.train.schedule import hyper
from encdec_jax.train.trainer import Trainer

ROWS, HALF, UPDATES = 8, 128, int(sys.argv[2])
arch = sys.argv[1]
if arch not in ARCHS:
    sys.exit()
choices = ARCHS[arch]
size = StackConfig(n_layers=4, d_model=128, n_heads=4, n_kv_heads=4, head_dim=32, d_ff=512)
model = ModelConfig(arch, 1024, decoder=size, encoder=size if choices.own_encoder else None)
objective = ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm")
train = TrainConfig(batch_size=ROWS, steps_per_call=UPDATES)
run = RunConfig(model, DataConfig(length=2 * HALF), objective, train=train)
drawn = np.random.default_rng(0).integers(3, 1024, (UPDATES, ROWS, 2 * HALF)).astype(np.int32)

def stream(first, end, opened):
    tokens = drawn[:, :, first:end]
    position = np.broadcast_to(np.arange(first, end, dtype=np.int32), tokens.shape)
    return Stream(tokens, position, np.ones_like(tokens), np.full(tokens.shape, opened))

if choices.own_stream:
    source, target = stream(0, HALF, choices.source_open), stream(HALF, 2 * HALF, False)
else:
    source, target = None, stream(0, 2 * HALF, False)
    target = target._replace(open=target.open | ((np.arange(2 * HALF) < HALF) & choices.source_open))
scored = HALF if arch != "causal_lm" else 2 * HALF
batch = Batch(source, target, np.roll(drawn, -1, -1)[:, :, -scored:], np.ones((UPDATES, ROWS, scored), np.float32))
trainer = Trainer(run)
schedule = hyper(*(run.optim, 100, 0)[: len(inspect.signature(hyper).parameters)])
state = trainer.init()
state, metrics = trainer(state, batch, schedule, UPDATES)
print(float(metrics.loss[-1]), flush=True)
for _ in sys.stdin:
    start = time.process_time()
    state, metrics = trainer(state, batch, schedule, UPDATES)
    jax.block_until_ready(state)
    print((time.process_time() - start) / UPDATES, flush=True)
"""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} COMMIT")
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "code"
        if subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(other), sys.argv[1]]).returncode:
            sys.exit(2)
        try:
            for arch in architectures():
                compare(arch, other)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], check=True)


def architectures() -> list[str]:
    """Of this code."""
    from encdec_jax.model.arch import ARCHS

    return list(ARCHS)


def compare(arch: str, other: Path) -> None:
    """Print one line of an architecture, unless the other code lacks it."""
    workers = [start(arch, code) for code in (Path.cwd(), other)]
    first = [worker.stdout.readline().strip() for worker in workers]
    if all(first):
        spent: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for worker, times in zip(workers, spent, strict=True):
                print("go", file=worker.stdin, flush=True)
                times.append(float(worker.stdout.readline()))
        ours, theirs = map(min, spent)
        losses = f"losses {float(first[0]):.6f}, {float(first[1]):.6f}"
        print(f"{arch:18} {1e3 * ours:7.1f} ms, {1e3 * theirs:7.1f} there: {ours / theirs:.3f} ({losses})", flush=True)
    for worker in workers:
        worker.communicate()


def start(arch: str, code: Path) -> subprocess.Popen[str]:
    """A process of a code's that has compiled the step and waits."""
    env = {**os.environ, "PYTHONPATH": str(code), "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    command = [sys.executable, "-c", WORKER, arch, str(UPDATES)]
    return subprocess.Popen(command, cwd=code, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


if __name__ == "__main__":
    main()
