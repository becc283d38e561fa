"""The ledger: parameters and matmul FLOPs of one update, counted exactly from the one declaration. No jax here.

`CONVENTION` says what is counted and how. A second witness, `encdec_jax.compute.witness`, reads the same numbers off
the jaxpr of the real step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from encdec_jax.config import ModelConfig, RunConfig
from encdec_jax.data.layout import Layout, layout
from encdec_jax.errors import require
from encdec_jax.model.declare import Param, Stream, leaves, model

EMBEDDINGS = ("source embedding", "target embedding", "output head")
SCORES = " scores"  # behind the group of an attention's weights: its scores and its values' sums

CONVENTION = """\
A multiplication and its addition are 2 FLOPs; only matrix products count.
A weight costs 2 a token it is applied to. An embedding lookup costs nothing, the output head 2 x vocabulary x d_model \
a scored position, whether its table is tied or not.
Attention costs 4 x head_dim for each query head and pair of query and key: scores, and sum of values. 'mask' counts \
the pairs that the mask shows, 'dense' every pair of a row, as a plain implementation computes them.
Training costs 3 forward passes: the gradient of a product is two products of its size, one for either operand; the \
first layer's too, because the embedding below it learns.
What remat recomputes is counted apart. Budgets are in 'mask' FLOPs, without recomputation.
Every row counts as full (packed pairs as one pair of the row's lengths), and a layer applied to positions that \
nobody scores counts, because it is computed."""


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
      forward: FLOPs of one forward pass over the batch.
      train_flops: of one update, without recomputation.
      recompute: what remat adds to the update.
    """

    params: Params
    rows: int
    row: Layout
    forward: Flops
    train_flops: Flops
    recompute: Flops


def count(run: RunConfig) -> Ledger:
    """The ledger of a run, under `CONVENTION`.

    Raises:
      UserError: architecture, objective and data do not go together, or the batch does not fill whole rows.
    """
    config = run.model
    row = layout(config.choices, run.data, run.objective)
    rows, left = divmod(run.train.batch_size, row.windows)
    require(
        left == 0,
        "train.batch_size",
        run.train.batch_size,
        f"a multiple of {row.windows}, the windows in a row of this objective",
    )
    groups: dict[str, int] = {}
    for _, param in leaves(model(config)):
        groups[param.group] = groups.get(param.group, 0) + param.size
    work = [w.times(rows) for w in _row(config, row)]
    return Ledger(
        params=Params(groups),
        rows=rows,
        row=row,
        forward=Flops(tuple(Entry(w.group, w.stream, w.mask, w.dense) for w in work)),
        train_flops=Flops(tuple(Entry(w.group, w.stream, 3 * w.mask, 3 * w.dense - 2 * w.unread) for w in work)),
        recompute=Flops(
            tuple(Entry(w.group, w.stream, w.mask, w.dense - w.unread) for w in work if config.remat in w.remat)
        ),
    )


@dataclass(frozen=True)
class _Work:
    """Forward FLOPs of one product.

    Attributes:
      group, stream, mask, dense: as in `Entry`.
      remat: the policies under which the backward pass does it again.
      unread: the part of `dense` whose result nobody reads, and that the backward pass leaves out therefore.
    """

    group: str
    stream: Stream
    mask: float
    dense: int
    remat: tuple[str, ...] = ()
    unread: int = 0

    def times(self, rows: int) -> _Work:
        """The same for a number of rows."""
        return _Work(self.group, self.stream, self.mask * rows, self.dense * rows, self.remat, self.unread * rows)


def _row(config: ModelConfig, row: Layout) -> Iterator[_Work]:
    """The products of one row's forward pass."""
    tokens: dict[Stream, int] = {"source": row.source, "target": row.target}
    declared = dict(leaves(model(config)))
    for path, param in declared.items():
        if not param.matmul or path[0] == "head":
            continue
        # The last product of a block only adds to the residual: no gradient needs its output, so none recomputes it.
        remat = () if path[-1] == "down" else ("full",)
        for i, stream in enumerate(param.sees):
            n = 2 * param.size * tokens[stream]
            yield _Work(param.group, stream, n, n, remat, _unread(config, param, i, n))
        if path[-1] == "q":
            layers, _, heads, dim = param.shape
            for i, stream in enumerate(param.sees):
                pairs = [_pairs(config, row, stream, key) for key in _keys(config, path, stream)]
                mask, dense = (4 * layers * heads * dim * sum(kind) for kind in zip(*pairs, strict=True))
                unread = _unread(config, param, i, int(dense))
                yield _Work(param.group + SCORES, stream, mask, int(dense), ("full", "dots"), unread)
    table = declared.get(("head", "table"), declared["embed", "table"])
    n = 2 * table.size * row.scored
    yield _Work("output head", "target", n, n)


def _keys(config: ModelConfig, path: tuple[str, ...], query: Stream) -> tuple[Stream, ...]:
    """The streams whose keys an attention shows to the queries of a stream."""
    if "cross" in path:
        return ("source",)
    merged = config.choices.joins == "merged" and query == "target"
    return ("source", "target") if merged else (query,)


def _pairs(config: ModelConfig, row: Layout, query: Stream, key: Stream) -> tuple[float, int]:
    """Pairs of query and key in a row: those that the mask shows, and all."""

    def shown(source: int, target: int) -> int:
        own = source * source if config.choices.source_open else source * (source + 1) // 2
        causal = target * (target + 1) // 2
        if not config.choices.own_stream:
            return own + target * source + causal
        if query == "source":
            return own
        return target * source if key == "source" else causal

    length = {"source": row.source, "target": row.target}
    return sum(n * shown(source, target) for source, target, n in row.segments), length[query] * length[key]


def _unread(config: ModelConfig, param: Param, i: int, flops: int) -> int:
    """FLOPs of the last layer's own pass over the source where the target reads what goes into each layer.

    Unrolled, no gradient reaches them; `lax.scan` carries one of zeros back through them.
    """
    arch = config.choices
    idle = arch.reads == "layers" and arch.joins == "merged" and param.sees[i] == "source" and i == 0
    return flops // param.shape[0] if idle and not config.scan else 0
