"""The sizes of a grid: widths of the reference around the compute-optimal one, and every family's model at each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import floor, log

from encdec_jax.compute.families import Family, Objectives, by_rule, check_width, reading, widths
from encdec_jax.compute.ledger import count, parameters
from encdec_jax.compute.quantities import of_shape
from encdec_jax.compute.shapes import Shape, solve
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import UserError, require
from encdec_jax.model.config import ModelConfig

TOKENS_PER_PARAMETER = 20.0  # about what Hoffmann et al. 2022 (arXiv 2203.15556) find compute-optimal
NEAR = 6  # widths tried on either side of one that can't be met
FAR = 4.0  # how far from it a refusal looks for one that can
SPACING = 2.0  # non-embedding parameters of one size over those of the next smaller one


def limit(params_nonembed: float) -> float:
    """The largest mismatch accepted beside a reference of so many non-embedding parameters: 1 % above 10M, else 3 %."""
    return 0.01 if params_nonembed > 10e6 else 0.03


@dataclass(frozen=True)
class Sizes:
    """How the models of a grid follow from a width of the reference.

    Attributes:
      families: the reference first.
      source, target: tokens of each.
      base: the models' other choices.
      aspect: d_model over the layers of all stacks.
      multiple: of d_model and d_ff above `families.FREE`.
      equal: one of `quantities.SHAPE`, or None: every family's own model of the width.
      objectives: as `families.reading` takes them.
    """

    families: tuple[Family, ...]
    source: int
    target: int
    base: RunConfig
    aspect: float
    multiple: int
    equal: str | None
    objectives: Objectives

    def __post_init__(self) -> None:
        require(self.aspect > 0, "aspect", self.aspect, "d_model over layers, above 0")
        accepted = "an even number of at least 2"
        require(self.multiple >= 2 and self.multiple % 2 == 0, "multiple", self.multiple, accepted)

    def reference(self, d_model: int) -> ModelConfig:
        """The reference of a width, by the rule."""
        return by_rule(self.base.model, self.families[0], d_model, self.aspect, self.multiple)

    def optimal(self, budget: float) -> int:
        """The width at which the tokens that a budget pays are nearest `TOKENS_PER_PARAMETER` times the parameters."""
        tried = list(widths(self.multiple))  # tokens per parameter fall as the width grows
        above = bisect_left(tried, 1.0, key=lambda d_model: 1 / self._tokens_per_parameter(d_model, budget))
        ends = tried[max(0, above - 1) : above + 1]
        return min(ends, key=lambda d_model: abs(log(self._tokens_per_parameter(d_model, budget))))

    def centred(self, budget: float, n: int) -> list[int]:
        """n widths, ascending, `SPACING` apart in parameters, around the optimal one: the nearest that can be met.

        Raises:
          UserError: there is no room for so many.
        """
        require(n >= 1, "sizes", n, "at least 1")
        tried = list(widths(self.multiple))
        centre = self._params(self.optimal(budget))
        below, above = centre / self._params(tried[0]), self._params(tried[-1]) / centre
        room = 1 + 2 * floor(log(max(1.0, min(below, above)), SPACING) + 0.5)
        accepted = (
            f"at most {room} around the optimal one, with widths from {tried[0]} to {tried[-1]}, or another budget"
        )
        require(n <= room, "sizes", n, accepted)
        chosen: list[int] = []
        for i in range(n):
            wanted = centre * SPACING ** (i - (n - 1) / 2)
            at = bisect_left(tried, wanted, key=self._params)
            near = [d_model for d_model in tried[max(0, at - NEAR) : at + NEAR] if d_model > max(chosen, default=0)]
            near.sort(key=lambda d_model: abs(log(self._params(d_model) / wanted)))
            require(bool(near), "sizes", n, f"at most {i}: there are no more widths around the optimal one")
            chosen.append(next((d_model for d_model in near if self._met(d_model)), near[0]))
        return chosen

    def checked(self, chosen: Sequence[int]) -> list[int]:
        """Widths that a user chose, if they are accepted.

        Raises:
          UserError: one is not, or is named twice.
        """
        require(len(set(chosen)) == len(chosen) > 0, "widths", ",".join(map(str, chosen)), "each width once")
        for d_model in chosen:
            check_width(d_model, self.multiple)
        return list(chosen)

    def models(self, d_model: int) -> list[ModelConfig]:
        """Every family's model beside the reference of a width.

        Raises:
          UserError: no shape of a family meets the quantity: with the nearest shape, and the nearest width that all
            meet.
        """
        reference = self.reference(d_model)
        if self.equal is None:
            others = [by_rule(self.base.model, f, d_model, self.aspect, self.multiple) for f in self.families[1:]]
            return [reference, *others]
        shapes, allowed = self._solved(d_model), limit(self._params(d_model))
        for family, shape in zip(self.families[1:], shapes, strict=True):
            if abs(shape.mismatch) > allowed:
                raise UserError(
                    f"equal = {self.equal!r} is not accepted for {family.label} beside {self.families[0].label} of"
                    f" width {d_model}: at most {allowed:.0%} off, the nearest is {shape.mismatch:+.1%} with"
                    f" {describe(shape.model)}; {self._nearest(d_model)}"
                )
        return [reference, *(shape.model for shape in shapes)]

    def _solved(self, d_model: int) -> list[Shape]:
        reference, allowed = self.reference(d_model), limit(self._params(d_model))
        measure = partial(self._measure, self.equal or "")
        wanted = measure(reference)
        return [
            solve(measure, wanted, family, reference, limit=allowed, multiple=self.multiple)
            for family in self.families[1:]
        ]

    def _measure(self, name: str, model: ModelConfig) -> float:
        return of_shape(name, model, self.source, self.target)

    def _nearest(self, d_model: int) -> str:
        """Which width of the reference can be met, if one near it can."""
        others: list[int] = []
        for other in widths(self.multiple):
            if other >= 1.05 * max(others, default=0) and 1 / FAR <= other / d_model <= FAR:
                others.append(other)
        others.sort(key=lambda other: abs(log(other / d_model)))
        met = (f"width {other} can be met" for other in others if self._met(other))
        return next(met, f"nor can any width up to a factor {FAR:g} away")

    def _met(self, d_model: int) -> bool:
        """Whether every family meets the quantity beside the reference of a width."""
        allowed = limit(self._params(d_model))
        return self.equal is None or all(abs(shape.mismatch) <= allowed for shape in self._solved(d_model))

    def _params(self, d_model: int) -> int:
        return parameters(self.reference(d_model)).non_embedding

    def _tokens_per_parameter(self, d_model: int, budget: float) -> float:
        """Of the tokens that the budget pays, over `TOKENS_PER_PARAMETER`."""
        run = reading(self.base, self.reference(d_model), self.source, self.target, self.objectives)
        ledger = count(run)
        flops = ledger.train_flops.mask / geometry(run).update_tokens
        return budget / flops / ledger.params.non_embedding / TOKENS_PER_PARAMETER


def describe(model: ModelConfig) -> str:
    """Layers, width and d_ff of a model in words: 8 layers of 1024/2752; 4+4 where there are two stacks."""
    decoder, encoder = model.decoder, model.encoder
    layers, d_ff = str(decoder.n_layers), str(decoder.d_ff)
    if encoder is not None:
        layers = f"{encoder.n_layers}+{layers}"
        d_ff = d_ff if encoder.d_ff == decoder.d_ff else f"{encoder.d_ff}+{d_ff}"
    return f"{layers} layers, d_model {decoder.d_model}, d_ff {d_ff}"
