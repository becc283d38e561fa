"""The shape solver: the model of a family whose quantity equals another model's.

Every quantity of a shape is affine in d_ff and in the number of layers, so two counts of the ledger give the line and
one more proves the answer; the solver holds no formula of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, floor, log

from encdec_jax.compute.families import Family, grain, model, nearest_width, widths
from encdec_jax.model.config import ModelConfig, StackConfig

STRETCH = 1.5  # how far d_ff / d_model may be from the reference's, as a factor, either way
ROUNDING = 1e-9  # of floats, where a number of layers is exact
REACH = 4 / 3  # how far the width may be, likewise


@dataclass(frozen=True)
class Shape:
    """A model and how far its quantity is from the one asked for, as a fraction of it."""

    model: ModelConfig
    mismatch: float


def solve(
    measure: Callable[[ModelConfig], float],
    wanted: float,
    family: Family,
    reference: ModelConfig,
    *,
    limit: float,
    multiple: int,
    heads: StackConfig | None = None,
) -> Shape:
    """The model of a family that `measure` finds within `limit` of `wanted`, else the one that comes nearest.

    The reference's width is kept if any number of layers meets the quantity with a d_ff / d_model within `STRETCH` of
    the reference's; else the nearest width that does is taken, up to `REACH` away. Of several depths the one whose
    d_ff / d_model is nearest the reference's wins. Encoder and decoder have one d_ff, or if that is too coarse,
    neighbouring multiples.

    Args:
      measure: the quantity of a model; affine in d_ff and in layers.
      wanted: its value.
      family: architecture and split.
      reference: whose proportions are wanted, and whose other choices (norm, MLP, tied tables) are kept.
      limit: largest relative mismatch.
      multiple: of d_model and d_ff above `families.FREE`.
      heads: the stack whose heads every model has; None for heads that fill its width.

    Returns:
      the shape; beyond the limit, if none is within.
    """
    search = _Search(measure, wanted, family, reference, limit, multiple, heads)
    at = _near(reference.decoder.d_model, multiple)
    for d_model in at:
        tried = [shape for layers in search.depths(d_model) for shape in search.shapes(d_model, layers)]
        met = [shape for shape in tried if abs(shape.mismatch) <= limit]
        if met:
            return min(met, key=search.strangeness)
    ends = [(d_model, layers) for d_model in at for layers in search.depths(d_model, anyway=True)]
    tried = [shape for end in ends for shape in search.shapes(*end)]
    return min(tried, key=lambda shape: abs(shape.mismatch))


@dataclass(frozen=True)
class _Search:
    """What stays the same from width to width."""

    measure: Callable[[ModelConfig], float]
    wanted: float
    family: Family
    reference: ModelConfig
    limit: float
    multiple: int
    heads: StackConfig | None

    @property
    def ratio(self) -> float:
        """The d_ff / d_model wanted."""
        return _ratio(self.reference.decoder)

    def value(self, d_model: int, layers: int, d_ff: tuple[int, int]) -> float:
        return self.measure(self.model(d_model, layers, d_ff))

    def model(self, d_model: int, layers: int, d_ff: tuple[int, int]) -> ModelConfig:
        return model(self.reference, self.family, d_model, layers, d_ff, self.heads)

    def span(self, d_model: int) -> tuple[int, int]:
        """The smallest and the largest d_ff that are tried."""
        ends = (self.ratio * d_model / STRETCH, self.ratio * d_model * STRETCH)
        low, high = (nearest_width(end, d_model, self.multiple) for end in ends)
        return low, high

    def depths(self, d_model: int, anyway: bool = False) -> range:
        """Numbers of layers for which some d_ff may meet the quantity; with `anyway`, those next to them too."""
        step, (low, high) = self.family.grain, self.span(d_model)
        first = ceil(self._layers(d_model, high, self.wanted * (1 - self.limit)) - ROUNDING)
        last = floor(self._layers(d_model, low, self.wanted * (1 + self.limit)) + ROUNDING)
        if anyway:
            first, last = first - 1, max(last + 1, 1)
        return range(max(first, 1) * step, last * step + 1, step)

    def shapes(self, d_model: int, layers: int) -> Iterator[Shape]:
        """Models of a width and depth: the d_ff on either side of the exact one, of both stacks or of each."""
        (low, high), step = self.span(d_model), grain(d_model, self.multiple)
        exact: float = nearest_width(self.ratio * d_model, d_model, self.multiple)
        if high > low:
            at_low, at_high = (self.value(d_model, layers, (d_ff, d_ff)) for d_ff in (low, high))
            if at_high > at_low:
                exact = low + (self.wanted - at_low) / (at_high - at_low) * (high - low)
        sides = {min(max(side(exact / step) * step, low), high) for side in (floor, ceil)}
        for d_ff in sorted(product(sides, sides), key=lambda pair: pair[0] != pair[1]):
            if d_ff[0] == d_ff[1] or self.family.split is not None:
                solved = self.model(d_model, layers, d_ff)
                yield Shape(solved, self.measure(solved) / self.wanted - 1)

    def strangeness(self, shape: Shape) -> tuple[float, bool, float]:
        """Smaller for shapes nearer the reference's proportions: in d_ff, to a tenth; one d_ff; then the mismatch."""
        encoder, decoder = shape.model.encoder, shape.model.decoder
        two = encoder is not None and encoder.d_ff != decoder.d_ff
        return round(abs(log(_ratio(decoder) / self.ratio)), 1), two, abs(shape.mismatch)

    def _layers(self, d_model: int, d_ff: int, wanted: float) -> float:
        """Layers, in grains of the family, that give a value: on the line through those of one grain and of two."""
        one, two = (self.value(d_model, n * self.family.grain, (d_ff, d_ff)) for n in (1, 2))
        return 1 + (wanted - one) / (two - one)


def _ratio(stack: StackConfig) -> float:
    return stack.d_ff / stack.d_model


def _near(d_model: int, multiple: int) -> list[int]:
    """A width and those the solver may choose instead, the nearest first."""
    others = {w for w in widths(multiple) if d_model / REACH <= w <= d_model * REACH}
    return sorted(others | {d_model}, key=lambda w: abs(log(w / d_model)))
