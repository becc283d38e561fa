"""The ledger: parameters and matmul FLOPs, counted exactly from the one declaration. No jax here.

`CONVENTION` says what is counted and how. A second witness, `encdec_jax.compute.witness`, reads the same numbers off
the jaxpr of the real step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import Layout
from encdec_jax.errors import require
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import Param, Stream, leaves, model

EMBEDDINGS = ("source embedding", "target embedding", "output head")
Pairs: TypeAlias = dict[tuple[Stream, Stream], tuple[float, float]]  # of query and key: those shown, and all
SCORES = " scores"  # behind the group of an attention's weights: its scores and its values' sums

CONVENTION = """\
A multiplication and its addition are 2 FLOPs; only matrix products count.
A weight costs 2 a token it is applied to. An embedding lookup costs nothing, the output head 2 x vocabulary x d_model \
a scored position, whether its table is tied or not.
Attention costs 4 x head_dim for each query head and pair of query and key: scores, and sum of values. 'mask' counts \
the pairs that the mask shows, 'dense' every pair of a row, as a plain implementation computes them.
Training costs 3 forward passes: the gradient of a product is two products of its size, one for either operand; the \
first layer's too, because the embedding below it learns. What no gradient reaches, the last \
layer's own pass over a source that is read layer by layer, costs its forward pass alone where the stack is unrolled; \
a scanned one computes the rest with zeros.
What remat recomputes is counted apart. Budgets are in 'mask' FLOPs, without recomputation.
Every row counts as full, packed pairs as one pair of the row's lengths, unless a fill and a number of pairs are \
given. Then the work on padding is counted apart: weights are applied to it as to tokens, the mask shows it nothing, \
and dense attention holds every pair of which it is a part.
A layer applied to positions that nobody scores counts, because it is computed.
Prefill takes up a source without logits, decoding feeds one token and computes its logits; 'dense' holds the keys of \
the whole cache."""


@dataclass(frozen=True)
class Params:
    """Numbers of parameters by group. One table that serves as several counts once, under 'target embedding'."""

    groups: dict[str, int]

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
        """Those that work on any one token: all, because no layer chooses among experts."""
        return self.total


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
    stream: Stream
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


def count(run: RunConfig, fill: float = 1.0, pairs: float = 1.0) -> Ledger:
    """The ledger of a run, under `CONVENTION`.

    Args:
      run: the configuration.
      fill: share of the positions of a row that hold tokens, in (0, 1]; the others are padding.
      pairs: mean number of pairs, of equal lengths, that are packed into a row (objective 'seq2seq'); at least 1.

    Raises:
      UserError: architecture, objective and data do not go together, or the batch does not fill whole rows.
    """
    require(0 < fill <= 1, "fill", fill, "a share of positions in (0, 1]")
    packs = objective_of(run.objective).pairs
    require(pairs == 1 or (packs and pairs > 1), "pairs", pairs, "at least 1; and 1 but for objective 'seq2seq'")
    config = run.model
    shape = geometry(run)
    row, rows = shape.layout, shape.rows
    accepted = f"a multiple of {row.windows}, the windows in a row of this objective"
    require(shape.windows == rows * row.windows, "train.batch_size", shape.windows, accepted)
    tokens, padding = _row(config, row, rows, fill, pairs)
    work, idle = list(products(config, tokens)), list(products(config, padding))
    return Ledger(
        params=parameters(config),
        rows=rows,
        row=row,
        forward=flops(work),
        train_flops=_update(work),
        recompute=Flops(
            tuple(
                Entry(w.group, w.stream, w.reached(w.mask), w.reached(w.dense))
                for w in work + idle
                if config.remat in w.remat
            )
        ),
        padding=_update(idle),
    )


def parameters(config: ModelConfig) -> Params:
    """The parameters of a model."""
    groups: dict[str, int] = {}
    for _, param in leaves(model(config)):
        groups[param.group] = groups.get(param.group, 0) + param.size
    return Params(groups)


@dataclass(frozen=True)
class Pass:
    """How much one forward pass applies the declared weights to: with the declaration, all that a count needs.

    Training, prefill (`encdec_jax.compute.serving`) and decoding are the same products with other numbers here.

    Attributes:
      tokens: that go through the blocks, by stream.
      pairs: of query and key, by their streams: those that the mask shows, and all that are computed.
      scored: positions whose logits are computed.
      merged: source tokens that merged attention projects to keys and values for the target, beside the source's own.
    """

    tokens: dict[Stream, float]
    pairs: Pairs
    scored: float
    merged: float


@dataclass(frozen=True)
class Work:
    """Forward FLOPs of one product.

    Attributes:
      group, stream, mask, dense: as in `Entry`.
      remat: the policies under which the backward pass does it again.
      idle: layers, if nobody reads the result of the last one and the backward pass leaves it out therefore; else 0.
    """

    group: str
    stream: Stream
    mask: float
    dense: float
    remat: tuple[str, ...] = ()
    idle: int = 0

    def reached(self, flops: float) -> float:
        """Of the product's FLOPs, those of layers that the backward pass reaches."""
        return flops - flops / self.idle if self.idle else flops


def products(config: ModelConfig, passed: Pass) -> Iterator[Work]:
    """The products of a forward pass; none of no FLOPs."""
    declared = dict(leaves(model(config)))
    for path, param in declared.items():
        if not param.matmul or path[0] == "head":
            continue
        # The last product of a block only adds to the residual: no gradient needs its output, so none recomputes it.
        remat = () if path[-1] == "down" else ("full",)
        for i, stream in enumerate(param.sees):
            again = config.choices.joins == "merged" and stream in param.sees[:i]
            n = 2 * param.size * (passed.merged if again else passed.tokens[stream])
            if n:
                yield Work(param.group, stream, n, n, remat, _idle(config, param, i))
        if path[-1] == "q":
            layers, _, heads, dim = param.shape
            for i, stream in enumerate(param.sees):
                kinds = [passed.pairs.get((stream, key), (0, 0)) for key in _keys(config, path, stream)]
                mask, dense = (4 * layers * heads * dim * sum(kind) for kind in zip(*kinds, strict=True))
                if dense:
                    idle = _idle(config, param, i)
                    yield Work(param.group + SCORES, stream, mask, dense, ("full", "dots"), idle)
    table = declared.get(("head", "table"), declared["embed", "table"])
    n = 2 * table.size * passed.scored
    if n:
        yield Work("output head", "target", n, n)


def flops(work: Iterable[Work]) -> Flops:
    """FLOPs of products."""
    return Flops(tuple(Entry(w.group, w.stream, w.mask, w.dense) for w in work))


def shown(config: ModelConfig, source: float, target: float) -> dict[tuple[Stream, Stream], float]:
    """Pairs of (query, key) that the mask shows in one segment of `source` and `target` tokens, by their streams."""
    own = source * source if config.choices.source_open else source * (source + 1) / 2
    causal = target * (target + 1) / 2
    if not config.choices.own_stream:
        return {("target", "target"): own + target * source + causal}
    return {("source", "source"): own, ("target", "source"): target * source, ("target", "target"): causal}


def _row(config: ModelConfig, row: Layout, rows: int, fill: float, pairs: float) -> tuple[Pass, Pass]:
    """The forward pass over the tokens of a batch of rows, and over their padding.

    Padding sees no key and is none, but a plain implementation computes its scores.
    """
    length: dict[Stream, int] = {"source": row.source, "target": row.target}
    mask: dict[tuple[Stream, Stream], float] = {}
    for source, target, number in row.segments:
        for kind, n in shown(config, fill * source / pairs, fill * target / pairs).items():
            mask[kind] = mask.get(kind, 0) + rows * number * pairs * n
    dense = {(query, key): rows * length[query] * length[key] for query, key in mask}

    def part(share: float, both: float, mask: dict[tuple[Stream, Stream], float]) -> Pass:
        """`share` of the positions, `both` of their pairs."""
        tokens: dict[Stream, float] = {stream: share * rows * n for stream, n in length.items()}
        kinds: Pairs = {kind: (mask.get(kind, 0), both * n) for kind, n in dense.items()}
        return Pass(tokens, kinds, share * rows * row.scored, tokens["source"])

    return part(fill, fill**2, mask), part(1 - fill, 1 - fill**2, {})


def _update(work: Iterable[Work]) -> Flops:
    """FLOPs of forward and backward pass, without recomputation."""
    return Flops(
        tuple(Entry(w.group, w.stream, w.mask + 2 * w.reached(w.mask), w.dense + 2 * w.reached(w.dense)) for w in work)
    )


def _keys(config: ModelConfig, path: tuple[str, ...], query: Stream) -> tuple[Stream, ...]:
    """The streams whose keys an attention shows to the queries of a stream."""
    if "cross" in path:
        return ("source",)
    merged = config.choices.joins == "merged" and query == "target"
    return ("source", "target") if merged else (query,)


def _idle(config: ModelConfig, param: Param, i: int) -> int:
    """Layers, of a stack whose last layer's own pass over the source nobody reads: the target reads layers' inputs.

    Unrolled, no gradient reaches it; `lax.scan` carries one of zeros back through it.
    """
    arch = config.choices
    idle = arch.reads == "layers" and arch.joins == "merged" and param.sees[i] == "source" and i == 0
    return param.shape[0] if idle and not config.scan else 0
