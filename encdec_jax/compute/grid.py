"""Grids of matched runs: families, sizes, and how equal every cell is to the reference of its size in every quantity.

    grid(1e18, ["causal_lm", "prefix_lm", "enc_dec"], equal=["params"], lengths=(1024, 256))

The first family is the reference. Its sizes lie along the rule of `families`, and each other family has, at each size,
the shape for which the quantity asked for equals the reference's (`shapes.solve`). Without such a quantity a family has
the shape that the rule gives to the reference's width, or that a paper's rule sets beside the reference (`rules`). Then
all train for the same FLOPs (`match.match`) or for the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import inf
from typing import Any

from encdec_jax.compute.families import ASPECT, MULTIPLE, Family, Objectives, families, family_of, reading
from encdec_jax.compute.ledger import parameters
from encdec_jax.compute.match import match
from encdec_jax.compute.quantities import DURATION, SHAPE, Quantities, quantities
from encdec_jax.compute.rules import Published, Rule, published
from encdec_jax.compute.sizes import Sizes, limit
from encdec_jax.config import RunConfig, to_dict
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import UserError, require
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.presets import preset
from encdec_jax.train.config import TrainConfig

# Batches of 2^17 tokens of the default lengths.
BASE = RunConfig(preset("causal_lm", d_model=1024, dec_layers=8, vocab_size=32_768), train=TrainConfig(batch_size=64))


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
      family: its architecture and split.
      size: which of the grid's sizes it is, counted from 0.
      name: of the size: the reference's width, or what a paper calls it.
      run: its configuration.
      values: every quantity.
      mismatches: value / the reference's - 1 of every quantity, matched or not.
    """

    family: Family
    size: int
    name: str
    run: RunConfig
    values: Quantities
    mismatches: Quantities

    @property
    def updates(self) -> int:
        """Of the optimizer."""
        return geometry(self.run).updates


@dataclass(frozen=True)
class Grid:
    """Matched runs, size by size, in each size the reference first.

    Attributes:
      cells: the runs.
      equal: names of the quantities that were matched.
      budget: training FLOPs of the reference; None where a paper's tokens were taken.
      source, target: tokens of the source and the target in training, caching and decoding.
      rule: the paper's rule that gave the shapes; None for 'exact'.
      asked: windows of an update that the runs were to have.
      min_updates: that each run has at least, unless its tokens are a paper's.
    """

    cells: tuple[Cell, ...]
    equal: tuple[str, ...]
    budget: float | None
    source: int
    target: int
    rule: Rule | None
    asked: int
    min_updates: int

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    @property
    def batch(self) -> int:
        """Windows of an update: the same for all runs."""
        return self.cells[0].run.train.batch_size

    def json(self) -> dict[str, Any]:
        """The grid as plain data; 'config' of a cell is what `config.from_dict` takes."""
        return {
            "rule": self.rule.name if self.rule else "exact",
            "equal": list(self.equal),
            "budget": self.budget,
            "batch": {"asked": self.asked, "used": self.batch},
            "lengths": {"source": self.source, "target": self.target},
            "cells": [
                {
                    "family": cell.family.label,
                    "arch": cell.family.arch,
                    "split": None if cell.family.split is None else str(cell.family.split),
                    "size": cell.size,
                    "name": cell.name,
                    "updates": cell.updates,
                    "values": asdict(cell.values),
                    "mismatches": asdict(cell.mismatches),
                    "config": to_dict(cell.run),
                }
                for cell in self.cells
            ],
        }


def grid(
    budget: float | None,
    archs: Sequence[str],
    *,
    equal: Sequence[str] = (),
    splits: Sequence[Fraction] | None = None,
    lengths: tuple[int, int] | None = None,
    sizes: int | None = None,
    widths: Sequence[int] | None = None,
    aspect: float = ASPECT,
    multiple: int = MULTIPLE,
    base: RunConfig | None = None,
    rule: Rule | None = None,
    min_updates: int = 500,
    objectives: Objectives | None = None,
) -> Grid:
    """A grid of runs that are equal in at most one quantity of their shapes and in one of their durations.

    Args:
      budget: training FLOPs of each run, as the ledger's 'mask' counts them. None, for a rule's published sizes alone,
        trains all for the paper's tokens.
      archs: architectures; the first one, with the first split, is the reference.
      equal: at most one of `quantities.SHAPE`, and at most one of `quantities.DURATION`: 'train_flops' if none.
      splits: the encoder's shares of the layers; None for one half (`families.families`).
      lengths: tokens of source and target (`families.reading`); the paper's, or 1024 and 1024, if None.
      sizes: how many sizes (`sizes.Sizes.centred`); 5 if None, and no rule's published ones are taken.
      widths: d_model of the reference at each size, in place of `sizes`.
      aspect: d_model over the layers of all stacks.
      multiple: of d_model and d_ff above width 512; below, d_ff is even.
      base: everything else: vocabulary, the model's other choices, data, optimizer, seed, and the largest batch.
      rule: of a paper, in place of solving for a quantity of the shapes.
      objectives: of architectures by their names, or of `families.EVERY` one; as `families.reading` if None.
      min_updates: of any run. Where the base's batch leaves too few, every run of the grid gets the smaller batch of
        the neediest, so that no two differ in it.

    Raises:
      UserError: a value is not accepted, or a quantity can't be met within `sizes.limit`: with the nearest that can.
    """
    shape, duration = _wishes(equal)
    require(budget is None or 0 < budget < inf, "budget", budget, "training FLOPs: a finite number above 0")
    paper = None
    if rule is not None:
        accepted = f"no quantity of shapes beside rule {rule.name!r}, which gives the shapes"
        require(shape is None, "equal", shape, accepted)
        require(splits is None, "split", splits, f"none beside rule {rule.name!r}, which gives the layers")
        if sizes is None and widths is None and (rule.published or budget is None):
            paper = published(rule)
    if budget is None:
        if paper is None or duration == "train_flops":
            why = "only a paper's own sizes need none" if paper is None else "runs are to be equal in them"
            raise UserError(f"budget is missing; accepted: training FLOPs of each run, as 1e18 ({why})")
        duration = "tokens"
    base = base or (paper.run if paper else BASE)
    source, target = lengths or (paper.lengths if paper else (1024, 1024))
    require(min(source, target) >= 1, "lengths", f"{source}/{target}", "at least 1 token of source and of target")
    require(source + target >= 4, "lengths", f"{source}/{target}", "at least 4 tokens in all")
    plan = Sizes(families(archs, splits), source, target, base, aspect, multiple, shape, objectives or {})
    if rule is not None:
        rule.check_reference(archs[0])
    duration = duration or "train_flops"
    references = _references(plan, paper, archs[0], budget, sizes, widths)
    rows = []
    for reference in references.values():
        models = [rule.partner(reference, arch) for arch in archs] if rule else plan.models(reference.decoder.d_model)
        rows.append([reading(base, model, source, target, objectives) for model in models])
    trained = zip(references, _trained(rows, budget, duration, min_updates), strict=True)
    cells = [cell for i, (name, row) in enumerate(trained) for cell in _cells(i, name, row, source, target)]
    return Grid(
        tuple(cells),
        tuple(filter(None, (shape, duration))),
        budget,
        source,
        target,
        rule,
        base.train.batch_size,
        min_updates,
    )


def _references(
    plan: Sizes,
    paper: Published | None,
    arch: str,
    budget: float | None,
    sizes: int | None,
    widths: Sequence[int] | None,
) -> dict[str, ModelConfig]:
    """The reference at each size, by the size's name: as published, of chosen widths, or around the optimal one."""
    if paper is not None:
        return {name: replace(plan.base.model, arch=arch, decoder=stack) for name, stack in paper.sizes}
    if widths is None:
        assert budget is not None
        widths = plan.centred(budget, 5 if sizes is None else sizes)
    return {f"d{d_model}": plan.reference(d_model) for d_model in plan.checked(widths)}


def _wishes(equal: Sequence[str]) -> tuple[str | None, str | None]:
    """The quantity of shapes and that of durations among the names."""
    for name in equal:
        require(name in SHAPE + DURATION, "equal", name, "of " + ", ".join(SHAPE + DURATION))
    wishes = []
    for kind in (SHAPE, DURATION):
        named = [name for name in equal if name in kind]
        require(len(named) <= 1, "equal", ",".join(equal), "at most one of " + ", ".join(kind))
        wishes.append(named[0] if named else None)
    return wishes[0], wishes[1]


def _trained(
    rows: list[list[RunConfig]], budget: float | None, duration: str, min_updates: int
) -> list[list[RunConfig]]:
    """The runs with their tokens, all with the largest batch that leaves `min_updates` to each."""
    if budget is None:
        return rows
    matched = rows
    while True:
        # Twice the tolerance is what two runs may be apart, and a little more.
        tolerances = [limit(parameters(row[0].model).non_embedding) / 2.1 for row in rows]
        matched = [
            match(
                row if duration == "train_flops" else row[:1], train_flops=budget, min_updates=min_updates, tolerance=t
            )
            for row, t in zip(matched, tolerances, strict=True)
        ]
        batches = {run.train.batch_size for row in matched for run in row}
        if len(batches) == 1:
            break
        least = min(batches)
        matched = [[replace(run, train=replace(run.train, batch_size=least)) for run in row] for row in matched]
    if duration == "train_flops":
        return matched
    trains = [row[0].train for row in matched]
    return [[replace(run, train=train) for run in row] for row, train in zip(rows, trains, strict=True)]


def _cells(size: int, name: str, row: list[RunConfig], source: int, target: int) -> Iterator[Cell]:
    values = [quantities(run, source, target) for run in row]
    for run, value in zip(row, values, strict=True):
        yield Cell(family_of(run.model), size, name, run, value, value.against(values[0]))
