"""The host loop: from a configuration and a folder to a summary, through any number of kills and restarts."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encdec_jax import cpus
from encdec_jax.config import RunConfig, execution, to_dict
from encdec_jax.data.batches import Batches, combine
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.demands import check_demands
from encdec_jax.data.geometry import geometry
from encdec_jax.data.heldout import eval_batch
from encdec_jax.data.pairs import dropped
from encdec_jax.errors import UserError
from encdec_jax.evaluate.fair import bits_per_byte
from encdec_jax.files import write_json
from encdec_jax.train.checkpoint import Checkpoints
from encdec_jax.train.fence import Fence
from encdec_jax.train.folder import begin, finished, save_array
from encdec_jax.train.hosts import any_host, as_first, check_batch, check_same, summed, together
from encdec_jax.train.metrics import MetricsLog
from encdec_jax.train.mirrors import asked
from encdec_jax.train.retention import Retention
from encdec_jax.train.schedule import hyper
from encdec_jax.train.sharding import present
from encdec_jax.train.step import State
from encdec_jax.train.trainer import Trainer
from encdec_jax.train.versions import code, commit, versions


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
      updates, total: updates done, and in all.
      loss: nats a loss token, the mean of the last updates; NaN before the first.
      tokens_per_s: over all updates so far, without compilation; 0 before the first.
    """

    updates: int
    total: int
    loss: float
    tokens_per_s: float


def train(
    run: RunConfig,
    folder: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Progress], None] = lambda seen: None,
    fence: Fence = Fence(),  # noqa: B008  (it is frozen)
) -> dict[str, Any] | None:
    """Train and score one run in `folder`; a folder with an earlier part of the same run is taken up where it ends.

    A restarted run gives bitwise the parameters, metrics.jsonl and scores of one never stopped. A loss or gradient that
    is not finite ends the run with status 'diverged'.

    Args:
      run: the configuration, written to config.json.
      folder: of the run: gets config.json, made_of.json, metrics.jsonl, timing.jsonl, checkpoints, suffix_bits.npy and
        summary.json.
      stop: asked between calls; true saves a checkpoint and ends early.
      progress: told at once how much is done already, and after each call how much is then.
      fence: the claim that the run is trained under: nothing is written once that is lost.

    Returns:
      the summary, or None where `stop` ended the run early.

    Raises:
      UserError: the folder holds another run (`encdec_jax.train.folder.finished`), the data is missing or damaged, or
        the configuration does not fit it or the devices.
    """
    present()
    with together():
        ended = finished(run, folder)
    if any_host(jax.process_index() == 0 and ended is not None):
        return ended
    loop = _Loop(run, folder, replace(fence, number=int(as_first(np.array(fence.number)))))
    status = loop.advance(stop, progress)
    if status is None:
        return None
    result = loop.summarise(status)
    with together():
        if jax.process_index() == 0:
            fence.check()
            write_json(folder / "summary.json", result)
    return result


@dataclass
class _Carried:
    """What a checkpoint carries beside the state: seconds spent, loss tokens, hash of the tokens seen, and how its
    parts were executed: fields of execution, each with the update that it began at."""

    wall_s: float = 0.0
    step_s: float = 0.0
    loss_tokens: float = 0.0
    data_hash: str = ""
    train_loss: float = math.nan
    execution: list[dict[str, Any]] = field(default_factory=list)


class _Loop:
    """One process's work on a run."""

    def __init__(self, run: RunConfig, folder: Path, fence: Fence) -> None:
        self.started = time.perf_counter()
        with together():
            asked()
            self.run, self.folder, self.fence = run, folder, fence
            self.code, self.commit = code(), commit()
            self.cache = TokenCache.open(run.data.task, run.data.vocab)
            check_demands(run, self.cache)
            self.retention = Retention.of(run)
        configuration = json.dumps(to_dict(run), sort_keys=True)
        check_same({"the configuration": configuration, "the code": self.code, "the text": self.cache.digest})
        with together():
            shape = geometry(run)
            self.tokens_per_update, self.total = shape.update_tokens, shape.updates
            self.trainer = Trainer(run)
            self.batches = Batches(self.cache, run, self.trainer.here)
            self.held_out = eval_batch(self.cache, run.model.choices, run.data, run.evaluate)
            if jax.process_index() == 0:
                fence.check()
                begin(run, folder, self.cache.digest, jax.devices()[0].device_kind)
        self.checkpoints = Checkpoints(folder / "checkpoints", self.retention, fence)
        self.carried, self.logged = _Carried(), None
        self.state, self.first = self._restore()
        self._note_execution()
        # Of the windows seen so far that this process answers for; those seen before a restart are process 0's.
        self.hash = self.carried.data_hash if jax.process_index() == 0 else ""
        self.answers_for = np.repeat(self.trainer.answers_for, self.batches.layout.windows)
        with together():
            fence.check()
            self.metrics = MetricsLog(folder, self.first, self.logged) if jax.process_index() == 0 else None

    def advance(self, stop: Callable[[], bool], progress: Callable[[Progress], None]) -> str | None:
        """Train to the end. Returns the status, or None if stopped before."""
        per_call = self.run.train.steps_per_call
        schedule = hyper(self.run.optim, self.total)
        saved = done = self.first
        with together():
            digests, batches = self.batches.digests(done), self.batches.chunk(done, per_call)
        check_batch(digests, self.batches.here, self.run.train.batch_size)
        while done < self.total:
            progress(self._progress(done))
            if any_host(stop()):
                if saved < done:
                    self._save(done)
                self.checkpoints.close()
                return None
            n = min(per_call, self.total - done)
            start = time.perf_counter()
            compiling = self.trainer.compile_s
            self.state, seen = self.trainer(self.state, batches, schedule, n)
            with together():
                batches = self._meanwhile(done, n)
                seen = jax.device_get(seen)
                self.carried.step_s += time.perf_counter() - start - (self.trainer.compile_s - compiling)
                done += n
                finite = self._log(done, n, seen)
                self.checkpoints.settle(wait=False)
            if not finite:
                self.checkpoints.close()
                return "diverged"
            if self.retention.due(saved, done):
                self._save(done)
                saved = done
        if saved < done:
            self._save(done)
        self.checkpoints.close()
        progress(self._progress(done))
        return "done"

    def summarise(self, status: str) -> dict[str, Any]:
        """The run's summary; scores the held-out suffixes unless the run diverged."""
        rate = error = None
        reason = None if status == "done" else "the loss or its gradient is not finite"
        if status == "done":
            rows, nbytes = self.held_out
            bits = self.trainer.held_out_bits(self.state.params, rows)
            rate, error = bits_per_byte(bits, nbytes)
            with together():
                if jax.process_index() == 0:
                    self.fence.check()
                    save_array(self.folder / "suffix_bits.npy", bits)
            if not math.isfinite(rate):
                status, rate, error, reason = "diverged", None, None, "the loss of the held-out text is not finite"
        if self.metrics is not None:
            self.metrics.close()
        wall = self._wall()
        done = int(self.state.step)
        return {
            "status": status,
            "updates": done,
            "tokens_seen": done * self.tokens_per_update,
            "loss_tokens": self.carried.loss_tokens,
            "train_loss": self.carried.train_loss if math.isfinite(self.carried.train_loss) else None,
            "suffix_bits_per_byte": rate,
            "suffix_bits_se": error,
            "wall_s": wall,
            "step_s": self.carried.step_s,
            "tokens_per_s": self._progress(done).tokens_per_s,
            "data_hash": summed(self.hash),
            "cache_digest": self.cache.digest,
            "execution": self.carried.execution,
            "code": self.code,
            "commit": self.commit,
            "versions": versions(),
            "dropped": None if self.batches.fill is None else self.batches.fill.left / self.batches.fill.pairs,
            "dropped_eval": dropped(self.cache, self.run.data.eval_split, self.run.data),
            "error": reason,
            "lease": self.fence.number,
        }

    def _progress(self, done: int) -> Progress:
        rate = done * self.tokens_per_update / max(self.carried.step_s, 1e-9)
        return Progress(done, self.total, self.carried.train_loss, rate)

    def _meanwhile(self, done: int, n: int) -> Any:
        """Host work while the devices compute: the hash of the tokens in use, and the next batches."""
        for step in range(done, done + n):
            self.hash = combine(self.batches.digests(step)[self.answers_for], self.hash)
        return self.batches.chunk(done + n, self.run.train.steps_per_call)

    def _log(self, done: int, n: int, seen: Any) -> bool:
        """Write the metrics of a call. Returns whether they are finite."""
        self.fence.check()
        self.fence.progressed()
        loss, norm, tokens = seen.loss[:n], seen.grad_norm[:n], seen.loss_tokens[:n]
        self.carried.loss_tokens += float(tokens.sum(dtype=np.float64))
        self.carried.train_loss = float(loss.mean(dtype=np.float64))
        if self.metrics is not None:
            self.metrics.write(
                step=done,
                tokens=done * self.tokens_per_update,
                loss=self.carried.train_loss,
                grad_norm=float(norm.mean(dtype=np.float64)),
                lr=float(seen.lr[n - 1]),
            )
            self.metrics.write_timing(
                step=done, lease=self.fence.number, wall_s=self._wall(), step_s=self.carried.step_s
            )
        return bool(np.isfinite(loss).all() and np.isfinite(norm).all())

    def _wall(self) -> float:
        return self.carried.wall_s + time.perf_counter() - self.started

    def _save(self, done: int) -> None:
        meta = {**self.carried.__dict__, "wall_s": self._wall(), "data_hash": summed(self.hash)}
        meta["metrics"] = self.metrics.text if self.metrics is not None else ""  # the first process's is what is kept
        self.checkpoints.save(done, self.state, meta)

    def _restore(self) -> tuple[State, int]:
        found = self.checkpoints.restore_latest(self.trainer.abstract)
        if found is None:
            return self.trainer.init(), 0
        step, state, meta = found
        if step > self.total:
            text = f"{step} updates, of a run that ends with {self.total}: it is of another run; remove the folder"
            raise UserError(f"folder = {str(self.folder)!r} holds a checkpoint behind {text}")
        self.logged = meta.pop("metrics")
        self.carried = _Carried(**meta)
        return state, step

    def _note_execution(self) -> None:
        """Remember how this part of the run is executed, its kernel resolved, if it is not as the part before."""
        threads = cpus.threads() if jax.default_backend() == "cpu" else None
        now, before = {**execution(self.trainer.run), "threads": threads}, self.carried.execution
        if not before or {**before[-1], "update": 0} != {**now, "update": 0}:
            before.append({**now, "update": self.first})
