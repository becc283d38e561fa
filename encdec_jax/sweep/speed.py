"""How long runs will take: from runs done on this machine, else from a table of CPU rates. Always an estimate."""

from __future__ import annotations

import heapq
import socket
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from encdec_jax.config import RunConfig
from encdec_jax.sweep.claim import last_holder
from encdec_jax.sweep.cost import Cost, cost
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.store import RunState

# FLOP/s of one core by d_model, float32, attention counted dense: the train step of 2-layer models, SwiGLU, windows of
# 256 bytes, batch 4, one thread a process, on a 2-core x86-64 machine.
TABLE = {16: 20e9, 32: 39e9, 48: 51e9, 64: 62e9, 128: 95e9}
OVERHEAD = 6.0  # seconds a run beside its train steps: compilation, checkpoint, scoring


@dataclass(frozen=True)
class Speed:
    """An estimate of the seconds of a run.

    Attributes:
      ratios: measured rate over the table's, by d_model; empty if nothing was measured.
      overhead: seconds a run beside its train steps.
      measured: runs that the estimate rests on.
    """

    ratios: dict[int, float] = field(default_factory=dict)
    overhead: float = OVERHEAD
    measured: int = 0

    def seconds(self, run: RunConfig, cost: Cost) -> float:
        """Estimated wall-clock seconds of the run. Between measured widths, interpolated; beyond, as the nearest."""
        d_model = run.model.decoder.d_model
        ratio = _interpolate(self.ratios, d_model) if self.ratios else 1.0
        return self.overhead + cost.train_flops_padded / (ratio * _interpolate(TABLE, d_model))

    @property
    def source(self) -> str:
        """What the estimate rests on, in words."""
        if self.measured:
            return f"estimated from {self.measured} runs done on this machine"
        return "estimated from a table of CPU rates (20 to 95 GFLOP/s a core); no run was done on this machine yet"


def measured_speed(experiment: Experiment, states: Mapping[str, RunState]) -> Speed:
    """The speed of those of an experiment's runs, in these states, that this machine has done; else the table's."""
    ratios: dict[int, list[float]] = defaultdict(list)
    overheads: list[float] = []
    for identity, run in experiment.runs.items():
        summary = states[identity].summary
        if summary is None or summary["status"] != "done" or run.train.trunk:  # whose seconds are its trunk's too
            continue
        holder = last_holder(experiment.run_folder(identity))
        if holder is None or holder.host != socket.gethostname():
            continue
        d_model = run.model.decoder.d_model
        rate = cost(run).train_flops_padded / max(summary["step_s"], 1e-9)
        ratios[d_model].append(rate / _interpolate(TABLE, d_model))
        overheads.append(max(0.0, summary["wall_s"] - summary["step_s"]))
    if not ratios:
        return Speed()
    return Speed({width: median(values) for width, values in ratios.items()}, median(overheads), len(overheads))


def ordered(experiment: Experiment) -> list[str]:
    """Ids in the order in which workers take them: as sweep.py lists them if its ORDER says so, or longest first.

    Of runs about as long, the first seeds first: two side by side would both compile what the second could read.
    """
    if experiment.order == "listed":
        return list(experiment.runs)
    seconds = {identity: Speed().seconds(run, cost(run)) for identity, run in experiment.runs.items()}
    about = {identity: float(f"{duration:.0e}") for identity, duration in seconds.items()}
    seeds = {identity: run.train.seed for identity, run in experiment.runs.items()}
    return sorted(experiment.runs, key=lambda identity: (-about[identity], seeds[identity], -seconds[identity]))


def elapsed(seconds: Mapping[str, float], jobs: int, trunks: Mapping[str, str]) -> float:
    """Seconds until `jobs` workers, each taking the longest run that is left, have done them all.

    Args:
      seconds: of each run that is left, by its id.
      jobs: workers.
      trunks: of each branch, which begins when that has ended: taken behind the other runs.
    """
    busy, ended = [0.0] * jobs, {"": 0.0}
    for identity in sorted(seconds, key=lambda identity: (identity in trunks, -seconds[identity])):
        ended[identity] = max(busy[0], ended.get(trunks.get(identity, ""), 0.0)) + seconds[identity]
        heapq.heapreplace(busy, ended[identity])
    return max(busy)


def _interpolate(by_width: dict[int, float], d_model: int) -> float:
    """A positive quantity at a width, log-linear between those known, constant outside."""
    widths = sorted(by_width)
    return float(np.exp(np.interp(np.log(d_model), np.log(widths), np.log([by_width[w] for w in widths]))))
