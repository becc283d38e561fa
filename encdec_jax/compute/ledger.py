"""The ledger: parameters and matmul FLOPs, counted exactly from the one declaration. No jax here.

`CONVENTION` says what is counted and how. A second witness, `encdec_jax.compute.witness`, reads the same numbers off
the jaxpr of the real step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from encdec_jax.compute.products import Pairs, Pass, Work, products
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.measured import measured
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import Layout, Means
from encdec_jax.data.rows import segments as planned_segments
from encdec_jax.errors import require
from encdec_jax.model.blocks import source_stream
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import edges, model
from encdec_jax.model.edge import Edge
from encdec_jax.model.param import StreamName, leaves

EMBEDDINGS = ("source embedding", "target embedding", "output head")
CONVENTION = """\
A multiplication and its addition are 2 FLOPs; only matrix products count.
A weight costs 2 a token it is applied to. An embedding lookup costs nothing, the output head 2 x vocabulary x d_model \
a scored position and softmax, whether its table is tied or not.
Attention costs 4 x head_dim for each query head and pair of query and key: scores, and sum of values. 'mask' counts \
the pairs that the mask shows, 'dense' every pair of a row, as a plain implementation computes them.
Training costs 3 forward passes: the gradient of a product is two products of its size, one for either operand; the \
first layer's too, because the embedding below it learns. What no gradient reaches, the last \
layer's own pass over a source that is read layer by layer, costs its forward pass alone where the stack is unrolled; \
a scanned one computes the rest with zeros.
What remat recomputes is counted apart. Budgets are in 'mask' FLOPs, without recomputation.
A row holds the segments and the padding that its objective is expected to leave; packed pairs are those of the rows \
that were planned for them. The work on padding is counted apart: weights are applied to it as to tokens, the mask \
shows it nothing, and dense attention holds every pair of which it is a part.
An expert costs what the tokens that it is chosen for do, as if none were dropped: the FLOPs that are active. 'dense' \
counts the slots of a limited capacity instead, filled or not.
A layer applied to positions that nobody scores counts, because it is computed.
Weights that depth shares count at every repetition, but those that project a source's final states: they are applied \
once, for all repetitions.
Prefill takes up a source without logits, decoding feeds one token and computes its logits; 'dense' holds the keys of \
the whole cache."""


@dataclass(frozen=True)
class Params:
    """Numbers of parameters by group. One table that serves as several counts once, under 'target embedding'.

    Attributes:
      groups: elements of each.
      idle: those that do no work on a given token, because a router chose others.
    """

    groups: dict[str, int]
    idle: int = 0

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.groups.values())

    @property
    def non_embedding(self) -> int:
        """Without embedding tables and output head."""
        return sum(n for group, n in self.groups.items() if group not in EMBEDDINGS)

    @property
    def active(self) -> int:
        """Those that work on any one token: all, but where a layer chooses among experts."""
        return self.total - self.idle


@dataclass(frozen=True)
class Entry:
    """FLOPs of one kind of work for one stream.

    Attributes:
      group: the group of its parameters; for work between activations, that of the attention with `SCORES` behind.
      stream: whose tokens the weights are applied to, or whose queries attend.
      mask: with the attention that the mask shows.
      dense: with attention between all pairs.
    """

    group: str
    stream: StreamName
    mask: float
    dense: float


@dataclass(frozen=True)
class Flops:
    """FLOPs, in both countings of attention."""

    entries: tuple[Entry, ...]

    @property
    def mask(self) -> float:
        """Their sum, with the attention that the mask shows."""
        return sum(entry.mask for entry in self.entries)

    @property
    def dense(self) -> float:
        """Their sum, with attention between all pairs."""
        return sum(entry.dense for entry in self.entries)

    def by(self, key: Literal["group", "stream"]) -> dict[str, Flops]:
        """The same FLOPs, split by group or by stream."""
        names = dict.fromkeys(getattr(entry, key) for entry in self.entries)
        return {name: Flops(tuple(e for e in self.entries if getattr(e, key) == name)) for name in names}


@dataclass(frozen=True)
class Ledger:
    """What a run's model holds and what one of its updates computes.

    Attributes:
      params: parameters.
      rows: rows of the whole batch.
      row: the layout of each.
      forward: FLOPs of one forward pass over the tokens of the batch.
      train_flops: of one update, on tokens and without recomputation.
      recompute: what remat adds to the update, on padding too.
      padding: what padding adds to the update, without recomputation.
    """

    params: Params
    rows: int
    row: Layout
    forward: Flops
    train_flops: Flops
    recompute: Flops
    padding: Flops


def count(run: RunConfig, segments: Means | None = None) -> Ledger:
    """The ledger of a run, under `CONVENTION`.

    Args:
      run: the configuration.
      segments: of a row, (source tokens, target tokens, number a row) of each kind; None for those of the objective,
        of packed pairs as their rows were planned (`encdec_jax.data.rows`), of sentences as measured
        (`encdec_jax.data.measured`).

    Raises:
      UserError: architecture, objective and data do not go together, the batch does not fill whole rows, or pairs or
        sentences are to be counted whose tokens are not there.
    """
    config = run.model
    shape = geometry(run)
    row, rows = shape.layout, shape.rows
    objective = objective_of(run.objective)
    if segments is None and objective.pairs:
        segments = planned_segments(run.data)
    if segments is None and objective.of_text:
        segments = tuple((source, target, row.windows * share) for source, target, share in measured(run))
    if segments is not None:
        row = replace(row, segments=segments)
    accepted = f"a multiple of {row.windows}, the windows in a row of this objective"
    require(shape.windows == rows * row.windows, "train.batch_size", shape.windows, accepted)
    tokens, padding = _row(config, row, rows)
    work, idle = list(products(config, tokens)), list(products(config, padding))
    again = [one for one in work + idle if config.remat in one.remat]
    return Ledger(
        params=parameters(config),
        rows=rows,
        row=row,
        forward=flops(work),
        train_flops=_update(work),
        recompute=Flops(tuple(Entry(w.group, w.stream, w.reached(w.mask), w.reached(w.dense)) for w in again)),
        padding=_update(idle),
    )


def parameters(config: ModelConfig) -> Params:
    """The parameters of a model."""
    groups: dict[str, int] = {}
    idle = 0.0
    for _, param in leaves(model(config)):
        groups[param.group] = groups.get(param.group, 0) + param.size
        idle += param.size * (1 - param.active)
    return Params(groups, round(idle))


def flops(work: Iterable[Work]) -> Flops:
    """FLOPs of products."""
    return Flops(tuple(Entry(w.group, w.stream, w.mask, w.dense) for w in work))


def _row(config: ModelConfig, row: Layout, rows: int) -> tuple[Pass, Pass]:
    """The forward pass over the tokens of a batch of rows, and over their padding.

    Padding sees no key and is none, but a plain implementation computes its scores.
    """
    length: dict[StreamName, int] = {"source": row.source, "target": row.target}
    mask: dict[Edge, float] = {}
    attending = list(edges(config))
    for source, target, number in row.segments:
        for edge in attending:
            mask[edge] = mask.get(edge, 0) + rows * number * edge.pairs(source, target)
    dense = {edge: rows * edge.cells(length) for edge in mask}
    held = dict(zip(("source", "target", "scored"), row.held, strict=True))

    def part(padding: bool, mask: dict[Edge, float]) -> Pass:
        """The positions that hold tokens, or the others."""

        def of(share: float) -> float:
            return 1 - share if padding else share

        tokens: dict[StreamName, float] = {name: of(held[name]) * rows * n for name, n in length.items()}
        kinds: Pairs = {
            edge: (mask.get(edge, 0), of(held[edge.query] * held[edge.key]) * n) for edge, n in dense.items()
        }
        merged = tokens[source_stream(config)]
        if row.scored > row.target:
            return Pass(tokens, length, kinds, tokens["target"], merged, tokens["source"])
        return Pass(tokens, length, kinds, of(held["scored"]) * rows * row.scored, merged)

    return part(False, mask), part(True, {})


def _update(work: Iterable[Work]) -> Flops:
    """FLOPs of forward and backward pass, without recomputation."""
    return Flops(tuple(Entry(w.group, w.stream, w.trained(w.mask), w.trained(w.dense)) for w in work))
