"""How a model is trained: optimizer, schedule, duration and the mesh of devices. No jax here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from encdec_jax.errors import require
from encdec_jax.ranges import COUNT, FRACTION, MANY, POSITIVE, Range, check_ranges
from encdec_jax.resolve import execution, later

TOKENS = Range(1, 10**18)  # of training
READ_BY = {  # fields of `OptimConfig`: the field that says who reads them, and its values that do
    "decay": ("schedule", ("wsd",)),
    "final": ("schedule", ("cosine", "wsd")),
    **dict.fromkeys(("b1", "b2", "eps"), ("name", ("adamw",))),
}
Ended = Literal["done", "diverged"]  # the status of a run that came to its end, as its summary says


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule. Durations are tokens, as fractions of training.

    Attributes:
      name: AdamW, or Adafactor as T5 used it (its lr is relative to the size of each parameter).
      lr: the peak learning rate, an update; above 0.
      schedule: behind the warm-up: half a cosine; stable, then a linear decay; inverse square root; or constant.
      warmup: fraction of the training tokens in linear warm-up, in [0, 1).
      decay: fraction of the training tokens in the final linear decay of 'wsd', in [0, 1]; with the warm-up at most 1.
      final: the last learning rate over the peak, in [0, 1] ('cosine' and 'wsd').
      b1, b2: decay of AdamW's moments an update, in [0, 1).
      eps: AdamW's, above 0.
      weight_decay: decoupled, times the learning rate, at least 0; only on parameters that are matrices by their
        declared axes.
      clip_norm: largest global norm of the gradient, at least 0; 0 for no clipping.
      skip: updates of a run that may be left out because their loss or gradient is not finite, at least 0; at one more
        the run has diverged. By default the first one ends it.
    """

    name: Literal["adamw", "adafactor"] = "adamw"
    lr: Annotated[float, POSITIVE] = 1e-3
    schedule: Literal["cosine", "wsd", "rsqrt", "constant"] = "cosine"
    warmup: Annotated[float, Range(0, 1, below=True)] = 0.1
    decay: Annotated[float, FRACTION] = 0.2
    final: Annotated[float, FRACTION] = 0.1
    b1: Annotated[float, Range(0, 1, below=True)] = 0.9
    b2: Annotated[float, Range(0, 1, below=True)] = 0.95
    eps: Annotated[float, POSITIVE] = 1e-8
    weight_decay: Annotated[float, Range(0)] = 0.0
    clip_norm: Annotated[float, Range(0)] = 1.0
    skip: Annotated[int, Range(0, MANY)] = later(0)

    def __post_init__(self) -> None:
        check_ranges(self, "optim.")
        for field, (by, readers) in READ_BY.items():
            value, default, chosen = getattr(self, field), getattr(type(self), field), getattr(self, by)
            accepted = f"{default}, because optim.{by} = {chosen!r} does not read it: {' and '.join(readers)} alone"
            require(value == default or chosen in readers, f"optim.{field}", value, accepted)
        room = f"at most 1 - optim.warmup = {1 - self.warmup:g} with 'wsd', which else never reaches its rate"
        require(self.schedule != "wsd" or self.warmup + self.decay <= 1 + 1e-9, "optim.decay", self.decay, room)


def phases(optim: OptimConfig, updates: int) -> tuple[int, int]:
    """Of a run of so many updates those of the warm-up, and those of 'wsd's final decay, which comes behind it."""
    most = updates - 1 if optim.schedule == "wsd" else updates
    warmup = max(1, min(round(optim.warmup * updates), most))
    return warmup, max(1, min(round(optim.decay * updates), updates - warmup))


@dataclass(frozen=True)
class TrainConfig:
    """How long and in which steps.

    Attributes:
      tokens: to train on, at least 1: tokens of text windows, source and target together, each counted once.
      batch_size: windows (or packed rows) an update, at least 1.
      accumulate: microbatches an update is summed over: a divisor of batch_size.
      steps_per_call: updates in one jitted loop, at least 1; also the grain of logging and checkpoints.
      checkpoint_every: tokens between checkpoints, at least 0; 0 for none but the last.
      keep: newest checkpoints that stay, at least 1.
      keep_every: tokens at whose multiples a checkpoint is written and stays for good, at least 0; 0 for none.
      keep_at: where else one is written and stays for good, with commas between: tokens, or training FLOPs as the
        ledger counts them, as in '2e8,1e17flops'; one run then has several points of a curve. Each is the first call's
        end at or behind its mark.
      z_loss: weight of log(Z)^2, at least 0 (PaLM, arXiv 2204.02311, section 5).
      seed: of the data order and of the initialisation, at least 0.
      label_smoothing: share of a label's probability that is spread evenly over the vocabulary in the loss that is
        minimised, at least 0 and below 1 (Szegedy et al. 2016, arXiv 1512.00567, section 7); losses that are logged
        and scores are without.
      init_from: a run that is done, by its folder or its path below ENCDEC_RUNS, or RUN/checkpoints/UPDATE, whose
        parameters the run begins at; '' for parameters drawn anew.
      trunk: the id of a longer run of the experiment that the run goes on from where its rate begins to fall, so that
        what both have in common is trained once (`encdec_jax.sweep.branch`); '' for none.
    """

    tokens: Annotated[int, TOKENS] = 1_000_000
    batch_size: Annotated[int, COUNT] = 16
    accumulate: Annotated[int, COUNT] = execution(1)
    steps_per_call: Annotated[int, Range(1, 100_000)] = execution(10)
    checkpoint_every: Annotated[int, Range(0, TOKENS.high)] = execution(0)
    keep: Annotated[int, COUNT] = later(2, execution=True)
    keep_every: Annotated[int, Range(0, TOKENS.high)] = later(0, execution=True)
    keep_at: str = later("", execution=True)
    z_loss: Annotated[float, Range(0)] = 0.0
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    label_smoothing: Annotated[float, Range(0)] = later(0.0)
    init_from: str = later("")
    trunk: str = later("", execution=True)

    def __post_init__(self) -> None:
        check_ranges(self, "train.")
        require(
            re.fullmatch(r"([0-9a-f]{12})?", self.trunk) is not None, "train.trunk", self.trunk, "a run's id, or ''"
        )
        require(self.label_smoothing < 1, "train.label_smoothing", self.label_smoothing, "at least 0 and below 1")
        accepted = "numbers above 0 with commas between: tokens, or with 'flops' behind it FLOPs, as 2e8,1e17flops"
        require(self.stamps is not None, "train.keep_at", self.keep_at, accepted)
        require(
            self.batch_size % self.accumulate == 0,
            "train.accumulate",
            self.accumulate,
            f"a divisor of train.batch_size = {self.batch_size}",
        )

    @property
    def stamps(self) -> tuple[tuple[float, str], ...] | None:
        """The marks of `keep_at`, each with its unit, '' (tokens) or 'flops'; None where the text is no such list."""
        parts = [part.strip() for part in self.keep_at.split(",")] if self.keep_at.strip() else []
        marks = [re.fullmatch(r"(\d+\.?\d*(?:e\+?\d+)?) ?(flops)?", part) for part in parts]
        found = [(float(mark[1]), mark[2] or "") for mark in marks if mark]
        return tuple(found) if len(found) == len(parts) and all(value > 0 for value, _ in found) else None


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh. As a string, what the command line takes.

    Attributes:
      data: devices that divide the rows of a batch, at least 1.
      fsdp: devices that divide the rows, and d_model of every weight and of its optimizer state; at least 1.
      tensor: devices that divide d_ff, experts, the vocabulary, and heads where it divides them; at least 1.
      sequence: devices that divide the tokens of each row, and gather the keys and values of all; at least 1.
    """

    data: Annotated[int, COUNT] = execution(1)
    fsdp: Annotated[int, COUNT] = execution(1)
    tensor: Annotated[int, COUNT] = execution(1)
    sequence: Annotated[int, COUNT] = later(1, execution=True)

    def __post_init__(self) -> None:
        check_ranges(self, "mesh.")

    def __str__(self) -> str:
        sequence = f",sequence={self.sequence}" if self.sequence > 1 else ""
        return f"data={self.data},fsdp={self.fsdp},tensor={self.tensor}{sequence}"

    @property
    def size(self) -> int:
        """Devices in all."""
        return self.shards * self.tensor * self.sequence

    @property
    def shards(self) -> int:
        """Parts that the rows of a batch are divided into."""
        return self.data * self.fsdp
