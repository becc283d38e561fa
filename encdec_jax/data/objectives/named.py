"""Objectives by their names in a configuration: the one place that knows them."""

from __future__ import annotations

from collections.abc import Callable

from encdec_jax.data.config import ObjectiveConfig
from encdec_jax.data.objectives.cut import Cut
from encdec_jax.data.objectives.denoise import Denoise
from encdec_jax.data.objectives.masks import Spans
from encdec_jax.data.objectives.objective import Objective
from encdec_jax.data.objectives.seq2seq import Seq2Seq

NAMED: dict[str, Callable[[ObjectiveConfig], Objective]] = {
    "causal_lm": lambda config: Cut(None),
    "prefix_lm": lambda config: Cut(config.prefix, config.prefix_length),
    "span_corruption": lambda config: Denoise(Spans(config.noise_density, config.mean_span)),
    "seq2seq": lambda config: Seq2Seq(),
}


def objective_of(config: ObjectiveConfig) -> Objective:
    """The objective that a configuration names."""
    return NAMED[config.name](config)
