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
      vocab: 'bytes', or the name of a vocabulary that `prepare` trained, or read from a file, as it prints it.
      length: tokens of one window of text, at least 4 (all objectives but 'seq2seq').
      source_length, target_length: tokens of a row's room for packed pairs, at least 2 (objective 'seq2seq').
      split: of the task, to train on; `prepare` names those that there are.
      eval_split: of the task, to score on.
      long: what becomes of pairs to train on that are longer than a row: they are dropped, truncated to a row's room,
        or split into parts that fit. Held-out pairs are scored whole or not at all.
      packing: of pairs: 'apart' in rows with a room for sources and one for targets, which every architecture can read;
        'joined' in rows with one room of source_length + target_length, for architectures of one stream.
      documents: of text: 'joined' end to end, so that windows span their ends; 'apart', so that none does, and what a
        document has beyond its last whole window is left out.
    """

    task: str = "bible_en"
    vocab: str = "bytes"
    length: Annotated[int, Range(4, MANY)] = 256
    source_length: Annotated[int, Range(2, MANY)] = 256
    target_length: Annotated[int, Range(2, MANY)] = 256
    split: str = "train"
    eval_split: str = "validation"
    long: Literal["drop", "truncate", "split"] = later("drop")
    packing: Literal["apart", "joined"] = later("apart")
    documents: Literal["joined", "apart"] = later("joined")

    def __post_init__(self) -> None:
        check_ranges(self, "data.")


_GIVEN = "as a configuration in Python gives them: parts=(Part(1.0, ObjectiveConfig('ul2')), ...)"


@dataclass(frozen=True)
class ObjectiveConfig:
    """How a window becomes source, target and loss weights (`encdec_jax.data.objectives`).

    Attributes:
      name: the objective.
      prefix: of 'prefix_lm': 'half' cuts every window in the middle, 'fixed' behind `prefix_length` tokens, 'random'
        draws the cut, 'fraction' cuts behind `prefix_fraction` of it.
      prefix_length: tokens of the source, at least 1 with the 'fixed' cut and 0 with the others.
      noise_density: share of the tokens that objectives with noise take, between 0 and 1 (T5, arXiv 1910.10683, section
        3.1.4); 'ul2', 't5gemma2' and 'gap_sentences' have their own.
      mean_span: tokens of a masked span in the mean, at least 1 ('span_corruption', 'text_infilling', 'bart').
      prefix_fraction: share of a window that is the source, between 0 and 1 with the 'fraction' cut and 0 with the
        others.
      source_loss: whether the source's positions predict too ('prefix_lm', 'fill_in_the_middle', 'seq2seq'), where they
        see no more than what precedes them.
      sentences: those that 'gap_sentences' takes: that say most of the rest, or any.
      tuning: share of the training tokens, at its end, that is prefix language modelling with random cuts, in [0, 1):
        it makes what was trained on another objective comparable in the fair loss.
      parts: of 'mixture', and in their order of 'schedule'; at least two.
    """

    name: Literal[
        "causal_lm",
        "prefix_lm",
        "fill_in_the_middle",
        "span_corruption",
        "scattered_spans",
        "bert_style",
        "mass_style",
        "drop_tokens",
        "deshuffling",
        "ul2",
        "t5gemma2",
        "text_infilling",
        "token_deletion",
        "sentence_permutation",
        "document_rotation",
        "bart",
        "gap_sentences",
        "masked_lm",
        "seq2seq",
        "mixture",
        "schedule",
    ] = "causal_lm"
    prefix: Literal["half", "fixed", "random", "fraction"] = "half"
    noise_density: Annotated[float, Range(0, 1, above=True, below=True)] = 0.15
    mean_span: Annotated[float, Range(1)] = 3.0
    prefix_length: Annotated[int, Range(0, MANY)] = later(0)
    prefix_fraction: Annotated[float, Range(0, 1, below=True)] = later(0.0)
    source_loss: bool = later(False)
    sentences: Literal["principal", "random"] = later("principal")
    tuning: Annotated[float, Range(0, 1, below=True)] = later(0.0)
    parts: tuple[Part, ...] = later(())

    def __post_init__(self) -> None:
        check_ranges(self, "objective.")
        fixed = self.prefix == "fixed"
        accepted = "at least 1 token" if fixed else f"0, because objective.prefix = {self.prefix!r} takes no length"
        require((self.prefix_length >= 1) == fixed, "objective.prefix_length", self.prefix_length, accepted)
        share = self.prefix == "fraction"
        accepted = "between 0 and 1" if share else f"0, because objective.prefix = {self.prefix!r} takes no fraction"
        require(
            (0 < self.prefix_fraction < 1) if share else self.prefix_fraction == 0,
            "objective.prefix_fraction",
            self.prefix_fraction,
            accepted,
        )
        sourced = ("prefix_lm", "fill_in_the_middle", "seq2seq")
        accepted = f"false, because only {', '.join(sourced)} take a loss on the source"
        require(not self.source_loss or self.name in sourced, "objective.source_loss", self.source_loss, accepted)
        composed = self.name in ("mixture", "schedule")
        accepted = (
            f"at least two parts, {_GIVEN}"
            if composed
            else f"none, because objective.name = {self.name!r} takes no parts"
        )
        require((len(self.parts) >= 2) if composed else not self.parts, "objective.parts", len(self.parts), accepted)


@dataclass(frozen=True)
class Part:
    """An objective among others.

    Attributes:
      weight: of a mixture, or the length of a phase, above 0; weights are divided by their sum.
      objective: the objective.
    """

    weight: Annotated[float, Range(0, above=True)]
    objective: ObjectiveConfig

    def __post_init__(self) -> None:
        check_ranges(self, "objective.parts.")
