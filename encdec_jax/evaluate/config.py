"""What the fair loss is taken of. No jax here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from encdec_jax.errors import require
from encdec_jax.ranges import COUNT, Range, check_ranges
from encdec_jax.resolve import execution, later


@dataclass(frozen=True)
class EvalConfig:
    """The fair loss: held-out windows of `prefix` + `suffix` tokens, scored on the suffix alone.

    Attributes:
      prefix, suffix: tokens of each part of a window, at least 1.
      windows: held-out windows scored, at least 1 and at most those that the split has.
      batch_size: windows scored at a time, at least 1.
      documents: 'joined' end to end, so that windows span their ends; 'apart', so that none does.
      prefixes: shorter prefixes under which the same suffixes are scored too, at least 1 token each.
      splits: further splits of the task that are scored like `data.eval_split`, under every prefix.
      every: tokens of training between two scorings on the way, at least 0; 0 to score at the end alone. A matter of
        execution, for it changes no parameter and no score: a run that is watched is the same run.
    """

    prefix: Annotated[int, COUNT] = 128
    suffix: Annotated[int, COUNT] = 128
    windows: Annotated[int, COUNT] = 512
    batch_size: Annotated[int, COUNT] = execution(64)
    documents: Literal["joined", "apart"] = later("joined")
    prefixes: tuple[int, ...] = later(())
    splits: tuple[str, ...] = later(())
    every: Annotated[int, Range(0, 10**18)] = later(0, execution=True)

    def __post_init__(self) -> None:
        check_ranges(self, "evaluate.")
        shorter = all(1 <= prefix < self.prefix for prefix in self.prefixes)
        accepted = f"tokens of at least 1 and less than evaluate.prefix = {self.prefix}, each once"
        once = len(set(self.prefixes)) == len(self.prefixes)
        require(shorter and once, "evaluate.prefixes", self.prefixes, accepted)
        require(len(set(self.splits)) == len(self.splits), "evaluate.splits", self.splits, "each split once")
