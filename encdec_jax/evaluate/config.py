"""What the fair loss is taken of. No jax here."""

from __future__ import annotations

from dataclasses import dataclass

from encdec_jax.errors import require
from encdec_jax.resolve import execution


@dataclass(frozen=True)
class EvalConfig:
    """The fair loss: held-out windows of `prefix` + `suffix` tokens, scored on the suffix alone.

    Attributes:
      prefix, suffix: tokens of each part of a window, at least 1.
      windows: held-out windows scored, at least 1 and at most those that the split has.
      batch_size: windows scored at a time, at least 1.
    """

    prefix: int = 128
    suffix: int = 128
    windows: int = 512
    batch_size: int = execution(64)

    def __post_init__(self) -> None:
        for name in ("prefix", "suffix", "windows", "batch_size"):
            require(getattr(self, name) >= 1, f"evaluate.{name}", getattr(self, name), "a whole number of at least 1")
