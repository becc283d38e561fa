"""How far runs are: what their folders say, and the cluster's queue; cheap enough to be asked of ten thousand."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encdec_jax.compute.devices import DEVICES
from encdec_jax.errors import UserError
from encdec_jax.files import parsed, read_json
from encdec_jax.submit.queue import queued
from encdec_jax.submit.record import Queued
from encdec_jax.sweep.claim import last_beat, last_holder
from encdec_jax.sweep.cost import cost
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.replica import pull
from encdec_jax.sweep.store import RunState
from encdec_jax.sweep.waiting import states

_TAIL = 4096  # bytes at the end of timing.jsonl that hold its last lines
# How jax names devices that we have a datasheet of.
_KINDS = {
    "H100": "h100-80gb",
    "A100": "a100-80gb",
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v6": "v6e",
    "RTX 3060": "rtx3060-12gb",
}


@dataclass(frozen=True)
class Watched:
    """How far a run is.

    Attributes:
      run_id, label: which run.
      state: what its folder says.
      tokens: to be trained on in all.
      step, steps: updates done and in all; None where it has not begun.
      heartbeat_s: seconds since its holder's heart last beat, by this machine's clock; None where nobody holds it.
      host: its holder's.
      tokens_per_s: of its last updates, without compilation; None before the second call.
      mfu: training FLOPs a second, attention as its mask requires, over the peak of its devices; None where the
        datasheet is not known.
      eta_s: seconds until its last update at that speed; scoring comes behind it.
      job: where a cluster has it in its queue; None where none is known to.
    """

    run_id: str
    label: str
    state: RunState
    tokens: int
    step: int | None = None
    steps: int | None = None
    heartbeat_s: float | None = None
    host: str | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None
    eta_s: float | None = None
    job: Queued | None = None

    def row(self) -> dict[str, Any]:
        """Plain data, as `encdec status --json` prints it; 'status' is 'queued' for a pending run in a queue."""
        summary = self.state.summary or {}
        waits = self.job is not None and self.state.status in ("pending", "stale")
        return {
            "run_id": self.run_id,
            "label": self.label,
            "status": "queued" if waits else self.state.status,
            "tokens_seen": self.state.tokens,
            "tokens": self.tokens,
            "step": self.step,
            "steps": self.steps,
            "heartbeat_s": self.heartbeat_s,
            "host": self.host,
            "tokens_per_s": self.tokens_per_s,
            "mfu": self.mfu,
            "eta_s": self.eta_s,
            "job": self.job and self.job.job,
            "job_state": self.job and (f"{self.job.state} {self.job.reason}".strip()),
            "suffix_bits_per_byte": summary.get("suffix_bits_per_byte"),
            "error": self.state.reason or summary.get("error"),
        }


def watched(experiment: Experiment) -> list[Watched]:
    """How far each run is, in the order of sweep.py.

    Raises:
      UserError: runs were submitted to a cluster that does not answer.
    """
    pull(experiment.root)
    waiting = queued(experiment)
    found = states(experiment)
    return [_watched(experiment, identity, found[identity], waiting.get(identity)) for identity in experiment.runs]


def _watched(experiment: Experiment, identity: str, state: RunState, job: Queued | None) -> Watched:
    run, folder = experiment.runs[identity], experiment.run_folder(identity)
    given: dict[str, Any] = {
        "run_id": identity,
        "label": experiment.labels[identity],
        "state": state,
        "tokens": run.train.tokens,
    }
    if state.status not in ("running", "stale"):
        return Watched(**given, job=None if state.ended else job)
    holder, due = last_holder(folder), cost(run)
    step, rate = _speed(folder / "timing.jsonl")
    speed = mfu = eta = None
    if rate and state.status == "running":
        peak = _peak(folder, run.model.dtype)
        speed = rate * run.train.tokens / due.updates
        mfu = rate * due.train_flops / due.updates / (peak * run.mesh.size) if peak else None
        eta = (due.updates - (step or 0)) / rate
    return Watched(
        **given,
        step=step or 0,
        steps=due.updates,
        heartbeat_s=last_beat(folder),
        host=holder.host if holder else None,
        tokens_per_s=speed,
        mfu=mfu,
        eta_s=eta,
        job=job,
    )


def _speed(timing: Path) -> tuple[int | None, float | None]:
    """(the last update, updates a second over the last calls), of the end of timing.jsonl."""
    try:
        with timing.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            lines = file.read().rpartition(b"\n")[0].split(b"\n")
        first, last = (parsed(line) for line in (lines[1 if size > _TAIL else 0], lines[-1]))
        seconds = last["step_s"] - first["step_s"]
        return int(last["step"]), (last["step"] - first["step"]) / seconds if seconds > 0 else None
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError):
        return None, None


def _peak(folder: Path, dtype: str) -> float | None:
    """FLOP/s of a device of the run, at most; None where there is no datasheet."""
    try:
        kind = str(read_json(folder / "made_of.json").get("device", ""))
    except (UserError, AttributeError):
        return None
    name = next((name for part, name in _KINDS.items() if part in kind), None)
    return DEVICES[name].peak.get(dtype) if name else None
