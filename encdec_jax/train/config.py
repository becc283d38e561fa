"""How a model is trained: optimizer, schedule, duration and the mesh of devices. No jax here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from encdec_jax.errors import require
from encdec_jax.resolve import execution


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
    """

    name: Literal["adamw", "adafactor"] = "adamw"
    lr: float = 1e-3
    schedule: Literal["cosine", "wsd", "rsqrt", "constant"] = "cosine"
    warmup: float = 0.1
    decay: float = 0.2
    final: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        require(self.lr > 0, "optim.lr", self.lr, "above 0")
        require(0 <= self.warmup < 1, "optim.warmup", self.warmup, "a fraction of training in [0, 1)")
        require(0 <= self.decay <= 1, "optim.decay", self.decay, "a fraction of training in [0, 1]")
        room = f"at most 1 - optim.warmup = {1 - self.warmup:g} with 'wsd', which else never reaches its rate"
        require(self.schedule != "wsd" or self.warmup + self.decay <= 1 + 1e-9, "optim.decay", self.decay, room)
        require(0 <= self.final <= 1, "optim.final", self.final, "a fraction of lr in [0, 1]")
        require(0 <= self.b1 < 1, "optim.b1", self.b1, "in [0, 1)")
        require(0 <= self.b2 < 1, "optim.b2", self.b2, "in [0, 1)")
        require(self.eps > 0, "optim.eps", self.eps, "above 0")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "at least 0")
        require(self.clip_norm >= 0, "optim.clip_norm", self.clip_norm, "at least 0 (0: no clipping)")


@dataclass(frozen=True)
class TrainConfig:
    """How long and in which steps.

    Attributes:
      tokens: to train on, at least 1: tokens of text windows, source and target together, each counted once.
      batch_size: windows (or packed rows) an update, at least 1.
      accumulate: microbatches an update is summed over: a divisor of batch_size.
      steps_per_call: updates in one jitted loop, at least 1; also the grain of logging and checkpoints.
      checkpoint_every: tokens between checkpoints, at least 0; 0 for none but the last.
      z_loss: weight of log(Z)^2, at least 0 (PaLM, arXiv 2204.02311, section 5).
      seed: of the data order and of the initialisation, at least 0.
    """

    tokens: int = 1_000_000
    batch_size: int = 16
    accumulate: int = execution(1)
    steps_per_call: int = execution(10)
    checkpoint_every: int = execution(0)
    z_loss: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tokens", "batch_size", "accumulate", "steps_per_call"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "a whole number of at least 1")
        require(self.checkpoint_every >= 0, "train.checkpoint_every", self.checkpoint_every, "at least 0 tokens")
        require(self.z_loss >= 0, "train.z_loss", self.z_loss, "at least 0")
        require(
            self.batch_size % self.accumulate == 0,
            "train.accumulate",
            self.accumulate,
            f"a divisor of train.batch_size = {self.batch_size}",
        )


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh. As a string, what the command line takes.

    Attributes:
      data: devices that divide the rows of a batch, at least 1.
      fsdp: devices that divide the rows, and d_model of every weight and of its optimizer state; at least 1.
      tensor: devices that divide heads, d_ff and vocabulary, at least 1.
    """

    data: int = execution(1)
    fsdp: int = execution(1)
    tensor: int = execution(1)

    def __post_init__(self) -> None:
        for name in ("data", "fsdp", "tensor"):
            require(getattr(self, name) >= 1, f"mesh.{name}", getattr(self, name), "a whole number of at least 1")

    def __str__(self) -> str:
        return f"data={self.data},fsdp={self.fsdp},tensor={self.tensor}"

    @property
    def size(self) -> int:
        """Devices in all."""
        return self.shards * self.tensor

    @property
    def shards(self) -> int:
        """Parts that the rows of a batch are divided into."""
        return self.data * self.fsdp
