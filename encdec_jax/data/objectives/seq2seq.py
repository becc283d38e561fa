"""Pairs that a task gives: nothing is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.objectives.objective import START, Coder, Ids, Layout, Lengths, Objective, Prompt, Segments
from encdec_jax.model.arch import Arch


class Seq2Seq(Objective):
    """A pair's source and target; the target's inputs are its labels shifted right behind `START`."""

    pairs = True

    def lengths(self, data: DataConfig) -> Lengths:
        """A row's room, as if one pair filled it."""
        return ((data.source_length, data.target_length, 1.0),)

    def layout(self, arch: Arch, data: DataConfig) -> Layout:
        """Room for packed pairs; where a source ends in a joined row is not known before."""
        source, target = data.source_length, data.target_length
        if arch.own_stream:
            return Layout(1, source, target, target, self.lengths(data))
        return Layout(1, 0, source + target, source + target, self.lengths(data))

    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, ids: Ids) -> Segments:
        """Not of windows: `encdec_jax.data.packing` reads pairs."""
        raise NotImplementedError

    def window(self, data: DataConfig) -> int:
        """A row's room."""
        return data.source_length + data.target_length

    def sequence(self, data: DataConfig) -> tuple[int, int]:
        """The longest pair."""
        return data.source_length, data.target_length

    def prompt(self, text: Sequence[int], vocab: Coder) -> Prompt:
        """The target of this source."""
        return Prompt([*text, vocab.eos_id], START, vocab.eos_id)

    def resized(self, config: ObjectiveConfig, data: DataConfig, length: int) -> tuple[ObjectiveConfig, DataConfig]:
        """The room in the same proportion, `length` tokens in all."""
        source = min(max(2, length * data.source_length // self.window(data)), length - 2)
        return config, replace(data, length=length, source_length=source, target_length=length - source)
