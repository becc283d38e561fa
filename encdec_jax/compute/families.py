"""Families of models that a comparison is made of: an architecture, the split of its layers, and its proportions.

A family's sizes lie along one rule: d_model = `aspect` x the layers of all its stacks together, encoder's and decoder's
(blocks that both share count once). Width 128 a layer is what every size of RedLLM's decoders has (arXiv 2510.26622:
1024/8, 2048/16, 2560/20, 3072/24, 4096/32).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeAlias

from encdec_jax.config import RunConfig
from encdec_jax.data.config import ObjectiveConfig
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.errors import require
from encdec_jax.model.arch import ARCHS, Arch
from encdec_jax.model.config import ModelConfig, StackConfig, Tie
from encdec_jax.model.presets import mlp_width

ASPECT = 128.0
MULTIPLE = 64
FREE = 512  # widths up to here need no multiple
WIDEST = 65_536
ONE_STREAM: dict[str, Tie] = {"decoder": "all", "none": "inputs"}  # what is left of a tie of three tables
EVERY = ""  # in `Objectives`, every architecture that is not there
Objectives: TypeAlias = Mapping[str, ObjectiveConfig]  # of architectures, by their names


@dataclass(frozen=True)
class Family:
    """An architecture, and where it has an encoder of its own, the encoder's share of the layers."""

    arch: str
    split: Fraction | None

    @property
    def label(self) -> str:
        """The architecture and its split, as tables show them."""
        return self.arch if self.split is None else f"{self.arch} {self.split}"

    @property
    def grain(self) -> int:
        """Numbers of layers of all stacks are multiples of it, so that the split is exact."""
        return 1 if self.split is None else self.split.denominator

    def layers(self, total: int) -> tuple[int, int]:
        """(encoder's, decoder's) of a number of layers; one stack is the decoder."""
        encoder = 0 if self.split is None else int(total * self.split)
        return encoder, total - encoder

    def depth(self, d_model: int, aspect: float) -> int:
        """Layers that the rule gives a width: at least two where a stack is alone, else one of either stack."""
        least = max(2, self.grain) if self.split is None else self.grain
        return max(least, self.grain * round(d_model / aspect / self.grain))


def families(archs: Sequence[str], splits: Sequence[Fraction] | None = None) -> tuple[Family, ...]:
    """The families of architectures, in order, each that has an encoder of its own once a split.

    Args:
      archs: names of `ARCHS`.
      splits: encoder's shares of the layers; None for one half. An architecture that reads its encoder layer by
        layer has one half by definition.

    Raises:
      UserError: an architecture is unknown or named twice, a split is not accepted, or no architecture has one.
    """
    require(len(archs) > 0, "families", list(archs), "at least one of " + ", ".join(ARCHS))
    for arch in archs:
        require(arch in ARCHS, "families", arch, "one of " + ", ".join(ARCHS))
    require(len(set(archs)) == len(archs), "families", ",".join(archs), "each architecture once")
    free = [arch for arch in archs if ARCHS[arch].own_encoder and not ARCHS[arch].by_layer]
    if splits is not None:
        require(bool(free), "split", _texts(splits), "none, because no family here has layers to split")
        require(len(set(splits)) == len(splits) > 0, "split", _texts(splits), "each share of the layers once")
        for split in splits:
            require(0 < split < 1, "split", str(split), "a share of the layers between 0 and 1, as 2/3")
            require(split.denominator <= 32, "split", str(split), "a fraction of at most 32 layers, as 2/3")
    half = (Fraction(1, 2),)
    shares = {
        arch: (splits or half) if arch in free else half if ARCHS[arch].own_encoder else (None,) for arch in archs
    }
    return tuple(Family(arch, split) for arch in archs for split in shares[arch])


def family_of(model: ModelConfig) -> Family:
    """The family that a model belongs to."""
    if model.encoder is None:
        return Family(model.arch, None)
    return Family(model.arch, Fraction(model.encoder.n_layers, model.encoder.n_layers + model.decoder.n_layers))


def model(
    base: ModelConfig,
    family: Family,
    d_model: int,
    layers: int,
    d_ff: tuple[int, int],
    heads: StackConfig | None = None,
) -> ModelConfig:
    """The model of a family with `layers` layers in all, and (encoder's, decoder's) `d_ff`; the rest as in `base`.

    Its heads fill d_model, each with keys of its own; with `heads` they are those of that stack, whatever the width.
    """
    dim = head_dim(d_model)
    like = heads or StackConfig(1, d_model, d_model // dim, d_model // dim, dim, 1)
    encoder, decoder = (
        replace(like, n_layers=n, d_model=d_model, d_ff=ff) if n else None
        for n, ff in zip(family.layers(layers), d_ff, strict=True)
    )
    assert decoder is not None  # a split is below 1
    return replace(
        base, arch=family.arch, encoder=encoder, decoder=decoder, **_without_source(base, ARCHS[family.arch])
    )


def _without_source(base: ModelConfig, arch: Arch) -> dict[str, Any]:
    """What is another value where an architecture has no stream of a source, or nothing that reads one."""
    tie = ONE_STREAM.get(base.tie, base.tie)
    left = {} if arch.own_stream else {"tie": tie, "target_positions": "behind"}
    return left if arch.joins else {**left, "cross_position": "same"}


def by_rule(base: ModelConfig, family: Family, d_model: int, aspect: float, multiple: int) -> ModelConfig:
    """The model of a family and width that the rule gives, its d_ff that of `presets` rounded to the multiple."""
    d_ff = nearest_width(mlp_width(d_model, base.mlp), d_model, multiple)
    return model(base, family, d_model, family.depth(d_model, aspect), (d_ff, d_ff))


def nearest_width(exact: float, d_model: int, multiple: int) -> int:
    """The d_ff nearest to `exact`: of whole multiples where d_model has them, even below."""
    step = grain(d_model, multiple)
    return max(step, step * round(exact / step))


def grain(d_model: int, multiple: int) -> int:
    """What d_ff is a multiple of."""
    return multiple if d_model > FREE else 2


def widths(multiple: int) -> Iterator[int]:
    """Widths that a solver may choose, ascending: multiples of 8 with heads of whole eights up to `FREE`, then of
    `multiple`."""
    for d_model in range(8, FREE + 1, 8):
        if _heads(d_model) and head_dim(d_model) % 8 == 0:
            yield d_model
    for d_model in range(multiple * (FREE // multiple + 1), WIDEST + 1, multiple):
        if _heads(d_model):
            yield d_model


def check_width(d_model: int, multiple: int) -> None:
    """Check a width that a user chose.

    Raises:
      UserError: no heads divide it, or it is not a multiple where it must be.
    """
    accepted = f"at most {FREE}, or a multiple of {multiple} (--multiple)"
    require(d_model <= FREE or d_model % multiple == 0, "widths", d_model, accepted)
    require(
        bool(_heads(d_model)), "widths", d_model, "an even width that heads of 16 to 64 divide (up to 64, one head)"
    )


def head_dim(d_model: int) -> int:
    """128 from width 1024 on and 64 below, where they divide the width; else the widest heads up to 64 that do.

    Up to width 64 there is one head.
    """
    if d_model >= 1024 and d_model % 128 == 0:
        return 128
    return _heads(d_model)[0]


def _heads(d_model: int) -> list[int]:
    """Head widths that divide a width: whole eights first, each kind the widest first."""
    if d_model <= 64:
        return [d_model] if d_model >= 2 and d_model % 2 == 0 else []
    dims = [dim for dim in range(64, 15, -2) if d_model % dim == 0]
    return sorted(dims, key=lambda dim: dim % 8 != 0)


def reading(
    base: RunConfig, model: ModelConfig, source: int, target: int, objectives: Objectives | None = None
) -> RunConfig:
    """`base` with a model, reading windows of `source` + `target` tokens: the same documents for every architecture.

    Where `objectives` name none for it, one causal stream learns from all of a window; every other architecture takes
    its first `source` tokens as the source and learns from the others. Scoring cuts windows at the same place.

    Raises:
      UserError: the architecture can't read what its objective gives.
    """
    evaluate, data = replace(base.evaluate, prefix=source, suffix=target), replace(base.data, length=source + target)
    given = (objectives or {}).get(model.arch, (objectives or {}).get(EVERY))
    if given is not None:
        if objective_of(given).pairs:
            data = replace(data, source_length=source, target_length=target)
        return replace(base, model=model, data=data, objective=given, evaluate=evaluate)
    objective = ObjectiveConfig("prefix_lm", source_loss=base.objective.source_loss, tuning=base.objective.tuning)
    if model.choices.causal:
        objective = replace(objective, name="causal_lm")
    elif source != target:
        objective = replace(objective, prefix="fixed", prefix_length=source)
    return replace(base, model=model, data=data, objective=objective, evaluate=evaluate)


def _texts(splits: Sequence[Fraction]) -> str:
    return ",".join(map(str, splits))
