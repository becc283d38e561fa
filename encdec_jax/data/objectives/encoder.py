"""Masked language modelling of an encoder: what was masked is predicted where it stood; there is no target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.denoise import swapped
from encdec_jax.data.objectives.masks import Scattered
from encdec_jax.data.objectives.objective import Frame, Lengths, OfWindows, Prompt, Segments, draws
from encdec_jax.errors import UserError, require
from encdec_jax.model.arch import Arch


@dataclass(frozen=True)
class MaskedLM(OfWindows):
    """Of the noise, 8 in 10 become a mask, 1 a random token, 1 stays (BERT, arXiv 1810.04805, section 3.1).

    Attributes:
      density: share of the tokens that are predicted.
    """

    density: float

    @property
    def marks(self) -> tuple[str, ...]:
        """The mask."""
        return ("mask",)

    @property
    def scores_source(self) -> bool:
        """Nothing else is scored."""
        return True

    def check(self, arch: Arch, data: DataConfig) -> None:
        """Raise a `UserError` where the source gets no logits, or sees no more than what precedes it."""
        accepted = "an objective with a target: only one stream that sees all of itself predicts what is masked in it"
        require(not arch.own_stream and arch.source_open, "objective.name", "masked_lm", accepted)

    def lengths(self, data: DataConfig) -> Lengths:
        """All source."""
        return ((data.length, 0, 1.0),)

    def view(self, windows: np.ndarray, places: np.ndarray, seed: int, frame: Frame) -> Segments:
        """The windows' inputs, masked; labels are the inputs themselves."""
        text = windows[:, :-1]
        n, length = text.shape
        mask = Scattered(self.density).draw(length, places, seed).mask
        noise = swapped(np.full(text.shape, frame.marks["mask"]), 0.1, places, seed, frame)
        noise = np.where(draws(seed, places, length, lane=2) < 0.1, text, noise)
        source = np.where(mask, noise, text).astype(np.int32).reshape(-1)
        none = np.zeros(0, np.int32)
        return Segments(
            source,
            np.full(n, length),
            none,
            none,
            np.zeros(n, np.int64),
            text.astype(np.int32).reshape(-1),
            mask.astype(np.float32).reshape(-1),
        )

    def prompt(self, text: Sequence[int], frame: Frame) -> Prompt:
        """Raise a `UserError`: there is no target to go on with."""
        raise UserError("objective.name = 'masked_lm' is not accepted: an objective with a target, to complete a text")
