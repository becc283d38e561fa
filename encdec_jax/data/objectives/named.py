"""Objectives by their names in a configuration: the one place that knows them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import fields, replace

from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.objectives.cut import Cut
from encdec_jax.data.objectives.denoise import Denoise
from encdec_jax.data.objectives.encoder import MaskedLM
from encdec_jax.data.objectives.fill_in import FillIn
from encdec_jax.data.objectives.gaps import GapSentences
from encdec_jax.data.objectives.masks import Infilled, Scattered, Spans, Suffix
from encdec_jax.data.objectives.mixture import Schedule, mixture, shares_of
from encdec_jax.data.objectives.objective import Objective, OfWindows
from encdec_jax.data.objectives.orders import Order
from encdec_jax.data.objectives.seq2seq import Seq2Seq
from encdec_jax.errors import require


def _spans(density: float, mean: float, mode: str | None = None) -> Denoise:
    return Denoise(Spans(density, mean), mode=mode)


# UL2's seven denoisers, all as likely (arXiv 2205.05131, Table 1), and the five of T5Gemma 2 (arXiv 2512.14856), the
# last of them as often as the others together. Modes are UL2's; a mean of 3/4 of a window is its end.
UL2 = (
    Denoise(Suffix(0.25), mode="S"),
    _spans(0.15, 3, "R"),
    _spans(0.15, 8, "R"),
    *(_spans(density, mean, "X") for mean, density in ((3, 0.5), (8, 0.5), (64, 0.15), (64, 0.5))),
)
T5GEMMA2 = (
    Denoise(Suffix(0.75), mode="S"),
    _spans(0.15, 3, "R"),
    _spans(0.5, 12, "X"),
    _spans(0.15, 32, "X"),
    _spans(0.5, 32, "X"),
)

NAMED: dict[str, Callable[[ObjectiveConfig], Objective]] = {
    "causal_lm": lambda c: Cut(None),
    "prefix_lm": lambda c: Cut(c.prefix, c.prefix_length, c.prefix_fraction, c.source_loss),
    "fill_in_the_middle": lambda c: FillIn(c.source_loss),
    "span_corruption": lambda c: _spans(c.noise_density, c.mean_span),
    "scattered_spans": lambda c: Denoise(Scattered(c.noise_density)),
    "bert_style": lambda c: Denoise(Scattered(c.noise_density), "swapped", "whole"),
    "mass_style": lambda c: Denoise(Scattered(c.noise_density), "masks", "whole"),
    "drop_tokens": lambda c: Denoise(Scattered(c.noise_density), "dropped", "tokens"),
    "deshuffling": lambda c: Denoise(None, target="whole", order=Order("tokens")),
    "ul2": lambda c: mixture(UL2, [1.0] * 7),
    "t5gemma2": lambda c: mixture(T5GEMMA2, [4.0, 1.0, 1.0, 1.0, 1.0]),
    "text_infilling": lambda c: Denoise(Infilled(c.noise_density, c.mean_span), "one_mask", "whole"),
    "token_deletion": lambda c: Denoise(Scattered(c.noise_density), "dropped", "whole"),
    "sentence_permutation": lambda c: Denoise(None, target="whole", order=Order("sentences")),
    "document_rotation": lambda c: Denoise(None, target="whole", order=Order("rotated")),
    "bart": lambda c: Denoise(Infilled(c.noise_density, c.mean_span), "one_mask", "whole", Order("sentences")),
    "gap_sentences": lambda c: GapSentences(c.sentences == "principal"),
    "masked_lm": lambda c: MaskedLM(c.noise_density),
    "seq2seq": lambda c: Seq2Seq(c.source_loss),
    "mixture": lambda c: mixture(*_parts(c)),
    "schedule": lambda c: Schedule(*_phases(*_parts(c))),
}


def objective_of(config: ObjectiveConfig) -> Objective:
    """The objective that a configuration describes.

    Raises:
      UserError: its parts do not go together, or it does not read a field that is off its default.
    """
    main = NAMED[config.name](config)
    for one in fields(config):
        value = getattr(config, one.name)
        if value != one.default and one.name not in ("name", "parts", "tuning"):
            without = copy(config)
            object.__setattr__(without, one.name, one.default)  # whatever others say to that
            accepted = f"{one.default!r}, because objective.name = {config.name!r} does not read it"
            require(NAMED[config.name](without) != main, f"objective.{one.name}", value, accepted)
    if not config.tuning:
        return main
    accepted = f"0, because objective.name = {config.name!r} is of pairs, or has phases of its own"
    require(not main.pairs and not isinstance(main, Schedule), "objective.tuning", config.tuning, accepted)
    return Schedule(*_phases([main, Cut("random")], [1 - config.tuning, config.tuning]))


def described(config: ObjectiveConfig, whole: bool = False) -> str:
    """An objective in words: its name, and every field that is not at its default; `prefix` in parts or if `whole`."""
    parts = [f"{part.weight:g} {described(part.objective, whole=True)}" for part in config.parts]
    words = [" then ".join(parts) if config.name == "schedule" else " + ".join(parts)] if parts else []
    for one in fields(config):
        value = getattr(config, one.name)
        told = one.name not in ("name", "parts") and (whole or one.name != "prefix")
        if told and value != one.default:
            words.append(f"{one.name} {value:g}" if isinstance(value, float) else f"{one.name} {value}")
    return f"{config.name} ({', '.join(words)})" if words else config.name


def resized(config: ObjectiveConfig, data: DataConfig, length: int) -> tuple[ObjectiveConfig, DataConfig]:
    """An objective's configuration and its data, for windows of another length."""
    parts = tuple(replace(part, objective=resized(part.objective, data, length)[0]) for part in config.parts)
    main = objective_of(replace(config, tuning=0.0))
    return main.resized(replace(config, parts=parts), data, length)


def _parts(config: ObjectiveConfig) -> tuple[list[Objective], list[float]]:
    return [objective_of(part.objective) for part in config.parts], [part.weight for part in config.parts]


def _phases(parts: list[Objective], weights: list[float]) -> tuple[tuple[OfWindows, ...], tuple[float, ...]]:
    sound = [part for part in parts if isinstance(part, OfWindows) and not isinstance(part, Schedule)]
    for part in parts:
        accepted = "objectives of windows of text, none of them a schedule itself"
        require(part in sound, "objective.parts", type(part).__name__, accepted)
    return tuple(sound), shares_of(weights)
