"""The host loop: from a configuration and a folder to a summary, through any number of kills and restarts."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from encdec_jax import cpus
from encdec_jax.compute.limits import check_places
from encdec_jax.config import RunConfig, execution, to_dict
from encdec_jax.data.batches import Batches, combine
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.demands import check_demands
from encdec_jax.data.geometry import geometry
from encdec_jax.data.heldout import eval_batch, further_sets
from encdec_jax.data.pairs import dropped
from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.evaluate.fair import bits_per_byte
from encdec_jax.files import write_json
from encdec_jax.train.account import Account, Call
from encdec_jax.train.checkpoint import Checkpoints
from encdec_jax.train.fence import Fence
from encdec_jax.train.folder import begin, finished, save_array
from encdec_jax.train.hosts import Loose, any_host, as_first, check_batch, check_same, summed, together
from encdec_jax.train.metrics import MetricsLog
from encdec_jax.train.mirrors import asked
from encdec_jax.train.pretrained import begun
from encdec_jax.train.retention import Retention
from encdec_jax.train.schedule import Hyper, hyper
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
            write_json(folder / "summary.json", result, fence.check)
    return result


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
            check_places(run)
            self.retention = Retention.of(run)
        configuration = json.dumps(to_dict(run), sort_keys=True)
        check_same({"the configuration": configuration, "the code": self.code, "the text": self.cache.digest})
        with together():
            self.tokens_per_update, self.total = geometry(run).update_tokens, geometry(run).updates
            self.trainer = Trainer(run)
            self.batches = Batches(self.cache, run, self.trainer.here)
            self.held_out = eval_batch(self.cache, run.model.choices, run.data, run.evaluate)
            self.further = list(further_sets(self.cache, run.model.choices, run.data, run.evaluate))
            self.dropped = dropped(self.cache, run.data.eval_split, run.data)
            if jax.process_index() == 0:
                fence.check()
                begin(run, folder, self.cache.digest, jax.devices()[0].device_kind)
        self.checkpoints = Checkpoints(folder / "checkpoints", self.retention, fence)
        self.account, self.logged = Account(), None
        self.state, self.done = self._restore()
        self.loose = Loose()
        self.free = 0.0  # when the devices last came to an end, by the clock
        self._note_execution()
        # Of the windows seen so far that this process answers for; those seen before a restart are process 0's.
        self.hash = self.account.data_hash if jax.process_index() == 0 else ""
        self.answers_for = np.repeat(self.trainer.answers_for, self.batches.layout.windows)
        with together():
            self.metrics = MetricsLog(folder, self.done, self.logged, fence.check) if jax.process_index() == 0 else None

    def advance(self, stop: Callable[[], bool], progress: Callable[[Progress], None]) -> str | None:
        """Train to the end. Returns the status, or None if stopped before.

        The devices have the next call before the host looks at what the last one gave: they wait for no log, hash,
        seal or batch. Only a checkpoint ends the queue, for as long as it takes to copy the state.
        """
        self.told = progress
        schedule = hyper(self.run.optim, self.total, self.run.train.seed)
        saved = done = self.done
        with together():
            digests, batches = self.batches.digests(done), self.batches.chunk(done, self.run.train.steps_per_call)
        check_batch(digests, self.batches.here, self.run.train.batch_size)
        progress(self._progress())
        flying, sound, stopped = None, True, False
        while sound and done < self.total:
            if stopped := self.loose.ends(stop()):
                break
            call = self._give(batches, schedule, done)
            if flying is not None and flying.bits is not None:
                sound, flying = self._take(flying), None  # at once, so that its seconds are its own
            if sound:
                batches = self.loose.attempt(partial(self._meanwhile, done, call.n)) or batches
                sound = self._take(flying)
            flying, done = replace(call, hash=self.hash), call.done
            if sound and self.retention.due(saved, done):
                sound, flying = self._take(flying), None
                if sound:
                    self._save(done)
                    saved = done
        sound = sound and self._take(flying)
        self.loose.settle()
        if sound and saved < done:
            self._save(done)
        self.checkpoints.close()
        if sound and stopped and self.metrics:
            self.metrics.close()  # behind the checkpoint: a mirror may take its time
        return "diverged" if not sound else None if stopped else "done"

    def summarise(self, status: str) -> dict[str, Any]:
        """The run's summary; scores the held-out suffixes unless the run diverged."""
        rate, error = None, None
        held_out: dict[str, tuple[float, float] | tuple[None, None]] = {}
        reason = None if status == "done" else "the loss or its gradient is not finite"
        if status == "done":
            rows, nbytes = self.held_out
            bits = self.trainer.held_out_bits(self.state.params, rows)
            rate, error = bits_per_byte(bits, nbytes)
            held_out = self.trainer.rates(self.state.params, self.further)
            with together():
                if jax.process_index() == 0:
                    self.fence.check()
                    save_array(self.folder / "suffix_bits.npy", bits)
            if not math.isfinite(rate):
                status, rate, error, reason = "diverged", None, None, "the loss of the held-out text is not finite"
        if self.metrics is not None:
            self.metrics.close()
        return {
            "status": status,
            "updates": self.done,
            "tokens_seen": self.done * self.tokens_per_update,
            "suffix_bits_per_byte": rate,
            "suffix_bits_se": error,
            "held_out": {name: rate for name, (rate, _) in held_out.items()},
            "held_out_se": {name: error for name, (_, error) in held_out.items()},
            "wall_s": self._wall(),
            **self.account.stated(),
            "tokens_per_s": self._progress().tokens_per_s,
            "data_hash": summed(self.hash),
            "cache_digest": self.cache.digest,
            "code": self.code,
            "commit": self.commit,
            "versions": versions(),
            "dropped": None if self.batches.fill is None else self.batches.fill.left / self.batches.fill.pairs,
            "dropped_eval": self.dropped,
            "error": reason,
            "lease": self.fence.number,
        }

    def _progress(self) -> Progress:
        rate = self.done * self.tokens_per_update / max(self.account.step_s, 1e-9)
        return Progress(self.done, self.total, self.account.train_loss, rate)

    def _clock(self) -> float:
        """Seconds, without those of compilation."""
        return time.perf_counter() - self.trainer.compile_s

    def _give(self, batches: Any, schedule: Hyper, done: int) -> Call:
        """Give the devices the next call, and behind it the held-out text if that is due."""
        n, begun = min(self.run.train.steps_per_call, self.total - done), self._clock()
        self.state, seen = self.trainer(self.state, batches, schedule, n)
        tokens, every = self.tokens_per_update, self.run.evaluate.every
        due = every > 0 and done * tokens // every < (done + n) * tokens // every
        bits = self.trainer.score(self.state.params, self.held_out[0]) if due else None
        return Call(done + n, n, seen, begun, self.hash, bits)

    def _meanwhile(self, done: int, n: int) -> Any:
        """Host work while the devices compute: the hash of the tokens in use, and the next batches."""
        for step in range(done, done + n):
            self.hash = combine(self.batches.digests(step)[self.answers_for], self.hash)
        return self.batches.chunk(done + n, self.run.train.steps_per_call)

    def _take(self, call: Call | None) -> bool:
        """Wait for a call, and write what it gave. Returns whether the run may go on."""
        if call is None:
            return True
        seen = jax.tree.map(lambda leaf: leaf[: call.n], jax.device_get(call.seen))
        ended = self._clock()
        self.account.step_s += ended - max(call.begun, self.free)
        values, sound = self.account.add(seen, self.run.optim.skip)
        if call.bits is not None:
            values[LOSS] = bits_per_byte(call.bits(), self.held_out[1])[0]
            self.account.evaluate_s += self._clock() - ended
            self.account.evaluations += 1
        self.free, self.done = self._clock(), call.done
        if not sound:
            self.hash = call.hash  # of no tokens of the call that was given after it
        self.loose.attempt(lambda: self._log(values))
        return sound

    def _log(self, values: dict[str, float]) -> None:
        self.fence.check()
        self.fence.progressed()
        if self.metrics is not None:
            self.metrics.write(step=self.done, tokens=self.done * self.tokens_per_update, **values)
            spent = {name: getattr(self.account, name) for name in ("step_s", "evaluate_s")}
            self.metrics.write_timing(step=self.done, lease=self.fence.number, wall_s=self._wall(), **spent)
        self.checkpoints.settle(wait=False)
        self.told(self._progress())

    def _wall(self) -> float:
        return self.account.wall_s + time.perf_counter() - self.started

    def _save(self, done: int) -> None:
        self.loose.settle()
        meta = {**self.account.__dict__, "wall_s": self._wall(), "data_hash": summed(self.hash)}
        meta["metrics"] = self.metrics.text if self.metrics is not None else ""  # the first process's is what is kept
        self.checkpoints.save(done, self.state, meta)

    def _restore(self) -> tuple[State, int]:
        found = self.checkpoints.restore_latest(self.trainer.abstract)
        if found is None:
            state, self.account.pretrain_flops = begun(self.run, self.trainer)
            return state, 0
        step, state, meta = found
        if step > self.total:
            text = f"{step} updates, of a run that ends with {self.total}: it is of another run; remove the folder"
            raise UserError(f"folder = {str(self.folder)!r} holds a checkpoint behind {text}")
        self.logged = meta.pop("metrics")
        self.account = Account(**meta)
        return state, step

    def _note_execution(self) -> None:
        """Remember how this part of the run is executed, its kernel resolved."""
        threads = cpus.threads() if jax.default_backend() == "cpu" else None
        self.account.executed({**execution(self.trainer.run), "threads": threads}, self.done)
