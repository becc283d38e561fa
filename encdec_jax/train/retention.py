"""Which checkpoints a run writes, and which of them stay. No jax here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import require


@dataclass(frozen=True)
class Retention:
    """When checkpoints are due, and which of them stay.

    Attributes:
      newest: how many of the newest stay, at least 1.
      spacing: updates after which one is due; 0 for none but the last.
      every: tokens at whose multiples one is due, and stays; 0 for none.
      stamps: tokens at which one is due, and stays.
      update_tokens: tokens of an update.
    """

    newest: int = 2
    spacing: float = 0
    every: int = 0
    stamps: tuple[float, ...] = ()
    update_tokens: int = 1

    @staticmethod
    def of(run: RunConfig) -> Retention:
        """Of a run's configuration; stamps in FLOPs are brought to tokens by the ledger's training FLOPs ('mask').

        Raises:
          UserError: a stamp lies behind the run's end.
        """
        shape, train = geometry(run), run.train
        tokens, total = shape.update_tokens, shape.update_tokens * shape.updates
        marks = train.stamps or ()
        flops = count(run).train_flops.mask if any(unit for _, unit in marks) else 1.0  # of an update
        stamps = tuple(value / flops * tokens if unit else value for value, unit in marks)
        accepted = f"marks within the run, which ends at {total:,} tokens"
        require(max(stamps, default=0) <= total, "train.keep_at", train.keep_at, accepted)
        return Retention(train.keep, train.checkpoint_every / tokens, train.keep_every, stamps, tokens)

    def due(self, saved: int, done: int) -> bool:
        """Whether a checkpoint is due after update `done`, where the last was of update `saved`."""
        return (0 < self.spacing <= done - saved) or self._passes(saved, done)

    def kept(self, steps: Sequence[int]) -> set[int]:
        """Which of the checkpoints of these updates stay."""
        rising = sorted(steps)
        stay = {step for earlier, step in zip([0, *rising], rising, strict=False) if self._passes(earlier, step)}
        return stay | set(rising[-self.newest :])

    def _passes(self, earlier: int, step: int) -> bool:
        """Whether a multiple of `every`, or a stamp, lies behind one update and not behind another."""
        low, high = earlier * self.update_tokens, step * self.update_tokens
        marked = self.every > 0 and low // self.every < high // self.every
        return marked or any(low < stamp <= high for stamp in self.stamps)
