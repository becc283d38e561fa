"""What is read, and how windows of it become source and target. No jax here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from encdec_jax.errors import require
from encdec_jax.ranges import MANY, Range, check_ranges
from encdec_jax.resolve import later


@dataclass(frozen=True)
class DataConfig:
    """What is read. Lengths are tokens.

    Attributes:
      task: a task of the token cache (`encdec prepare --task NAME`).
      vocab: 'bytes', or the name of a SentencePiece vocabulary that `prepare` trained.
      length: tokens of one window of text, at least 4 (all objectives but 'seq2seq').
      source_length, target_length: tokens of a row's room for packed pairs, at least 2 (objective 'seq2seq').
      split: of the task, to train on; `prepare` names those that there are.
      eval_split: of the task, to score on.
    """

    task: str = "bible_en"
    vocab: str = "bytes"
    length: Annotated[int, Range(4, MANY)] = 256
    source_length: Annotated[int, Range(2, MANY)] = 256
    target_length: Annotated[int, Range(2, MANY)] = 256
    split: str = "train"
    eval_split: str = "validation"

    def __post_init__(self) -> None:
        check_ranges(self, "data.")


@dataclass(frozen=True)
class ObjectiveConfig:
    """How a window becomes source, target and loss weights (`encdec_jax.data.objectives`).

    Attributes:
      name: the objective.
      prefix: of 'prefix_lm': 'half' cuts every window in the middle, 'fixed' behind `prefix_length` tokens, 'random'
        draws the cut.
      prefix_length: tokens of the source, at least 1 with the 'fixed' cut and 0 with the others.
      noise_density: share of the tokens that 'span_corruption' masks, between 0 and 1 (T5, arXiv 1910.10683, section
        3.1.4).
      mean_span: tokens of a masked span in the mean, at least 1.
    """

    name: Literal["causal_lm", "prefix_lm", "span_corruption", "seq2seq"] = "causal_lm"
    prefix: Literal["half", "fixed", "random"] = "half"
    noise_density: Annotated[float, Range(0, 1, above=True, below=True)] = 0.15
    mean_span: Annotated[float, Range(1)] = 3.0
    prefix_length: Annotated[int, Range(0, MANY)] = later(0)

    def __post_init__(self) -> None:
        check_ranges(self, "objective.")
        fixed = self.prefix == "fixed"
        accepted = "at least 1 token" if fixed else f"0, because objective.prefix = {self.prefix!r} takes no length"
        require((self.prefix_length >= 1) == fixed, "objective.prefix_length", self.prefix_length, accepted)
