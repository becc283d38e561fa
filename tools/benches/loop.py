"""(f) The share of a run's wall time in which the devices have nothing to do, and what asynchronous saves cost.

A run of the host loop with steps of about 100 ms, one a call: metrics, hash of the data, next batch at every step. A
watcher thread sees when each call ends; between that and the next one given, the devices are idle. The host works on a
core of its own, as it would beside an accelerator. Saves: the same run with a checkpoint at every `SAVE` steps; their
cost is the time that they add, over that of the steps between two of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

CORES = sorted(os.sched_getaffinity(0))
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # one core computes, the others are the host's
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")

import jax

from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.prepare import prepare
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.presets import preset
from encdec_jax.train.config import TrainConfig
from encdec_jax.train.loop import train
from encdec_jax.train.trainer import Trainer

STEPS, SAVE, LENGTH, ROWS = 120, 30, 256, 4
RUN = RunConfig(
    preset("causal_lm", d_model=128, dec_layers=2, vocab_size=320),
    data=DataConfig(task="bible_en", length=LENGTH),
    objective=ObjectiveConfig("causal_lm"),
    train=TrainConfig(tokens=STEPS * ROWS * LENGTH, batch_size=ROWS, steps_per_call=1),
    evaluate=EvalConfig(windows=8),
)


class Watch:
    """When calls were given, and when each ended."""

    def __init__(self) -> None:
        self.given: list[float] = []
        self.ended: list[float] = []
        self._queue: SimpleQueue[object] = SimpleQueue()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def __enter__(self) -> Watch:
        call = self._call = Trainer.__call__

        def watched(trainer, *given):
            found = call(trainer, *given)
            self.given.append(time.perf_counter())
            self._queue.put(found[1].loss)
            return found

        Trainer.__call__ = watched
        return self

    def __exit__(self, *_: object) -> None:
        Trainer.__call__ = self._call
        self._queue.put(None)
        self._thread.join()

    def _look(self) -> None:
        while (loss := self._queue.get()) is not None:
            jax.block_until_ready(loss)
            self.ended.append(time.perf_counter())

    def measured(self) -> tuple[float, float, float]:
        """Seconds from the end of the first call to that of the last; of these idle; and the median step."""
        gaps = [max(0.0, given - ended) for given, ended in zip(self.given[1:], self.ended, strict=False)]
        steps = sorted(b - a for a, b in zip(self.ended, self.ended[1:], strict=False))
        return self.ended[-1] - self.ended[0], sum(gaps), steps[len(steps) // 2]


def measure(run: RunConfig) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as folder, Watch() as watch:
        train(run, Path(folder) / "run")
    return watch.measured()


def main() -> None:
    prepare("bible_en")
    wall, idle, step = measure(RUN)
    print(
        f"(f) loop: steps of {step * 1e3:.0f} ms, {idle / wall:.2%} of {wall:.1f} s with nothing queued; aim: below 2%"
    )
    saving = replace(RUN, train=replace(RUN.train, checkpoint_every=SAVE * ROWS * LENGTH))
    rounds = [
        (measure(RUN)[0], measure(saving)) for _ in range(3)
    ]  # in turn, so that a noisy machine spoils both alike
    added = [(with_[0] - without) / without for without, with_ in rounds]
    queue = [with_[1] / with_[0] for _, with_ in rounds]
    shown, most = ", ".join(f"{share:+.1%}" for share in sorted(added)), max(queue)
    print(f"(f) saves at every {SAVE} steps add {shown} (three rounds); {most:.2%} with nothing queued; aim: below 5%")


if __name__ == "__main__":
    sys.exit(main())
