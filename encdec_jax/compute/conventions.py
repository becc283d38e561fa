"""A run's training FLOPs as other papers and codebases would count them. No jax here.

The ledger (`encdec_jax.compute.ledger`) is this project's count. These are five others, so that a number published in
one of them can be compared. All were made for decoders that read one stream. Where a definition is a list of products,
each product is counted here over the tokens of the stream that it is applied to, and 'sequence length squared' is
queries x keys. Where it is a number of parameters times a number of tokens, every token of both streams counts, because
that is what the rule says, wrong as it is for an encoder-decoder: half of its weights never see a given token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.objectives.objective import Layout
from encdec_jax.errors import require
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import edges, model
from encdec_jax.model.edge import Edge
from encdec_jax.model.param import Param, leaves
from encdec_jax.model.stages import slots

Parts = dict[str, float]  # training FLOPs of one row, by the convention's own parts


@dataclass(frozen=True)
class Restated:
    """Training FLOPs in one convention.

    Attributes:
      convention: its name.
      parts: of one row of the batch, by the convention's own parts; forward and backward.
      rows: rows of a batch.
      tokens: of a row, source and target together.
      updates: of the run.
    """

    convention: str
    parts: Parts
    rows: int
    tokens: int
    updates: int

    @property
    def row(self) -> float:
        """FLOPs of one row: for unpacked objectives, of one sequence."""
        return sum(self.parts.values())

    @property
    def token(self) -> float:
        """FLOPs a token, source tokens included."""
        return self.row / self.tokens

    @property
    def update(self) -> float:
        """FLOPs of one update."""
        return self.row * self.rows

    @property
    def run(self) -> float:
        """FLOPs of the whole run."""
        return self.update * self.updates


def six_nd(config: ModelConfig, row: Layout) -> Parts:
    """6 x parameters x tokens: FLOPs(N, D) = 6 N D, as Hoffmann et al. use it (arXiv 2203.15556, section 3.3).

    N is all parameters, embedding tables and norms included, a tied table once. D is all tokens, source and target.
    """
    total = sum(param.size for _, param in leaves(model(config)))
    return {"6 x all parameters": 6.0 * total * _tokens(row)}


def kaplan(config: ModelConfig, row: Layout) -> Parts:
    """Kaplan et al. (arXiv 2001.08361), section 2.1 and Table 1: C_forward = 2 N + 2 n_layer n_ctx d_attn a token.

    N is the block's matrices alone: no embeddings, head, biases or norms. The backward pass is twice the forward. The
    second term is the products of causal attention; the paper drops it (C = 6 N D) where d_model > n_ctx / 12: it is a
    part of its own here. Two streams: N counts all blocks and D all tokens; the second term is summed over the
    attentions that the model has, n_ctx being the keys of each.
    """
    n = sum(param.size for _, param in leaves(model(config)) if _in_block(param))
    context = sum(a.edge.layers * a.edge.heads * a.edge.head_dim * a.pairs for a in _attentions(config, row))
    return {"6 x non-embedding parameters": 6.0 * n * _tokens(row), "attention over the context": 6.0 * context}


def chinchilla(config: ModelConfig, row: Layout) -> Parts:
    """Hoffmann et al. (arXiv 2203.15556), appendix F: products, embedding lookups as such, and softmax; attention full.

    The lookup counts as a product of one-hot rows with the table; the softmax 3 FLOPs for each head and pair; logits
    at every position of the target; the backward pass twice the forward. A gated MLP has one more matrix than theirs.
    The ratios to 6 N D that the appendix prints (Table A4) leave out lookups and logits, and their N holds Gopher's
    relative positions, d_model^2 a layer (tests/compute/test_conventions.py).
    """
    attentions = list(_attentions(config, row))
    lookups, logits = _tables(config, row)
    products = 2.0 * sum(a.edge.layers * a.edge.heads * a.edge.head_dim * a.pairs for a in attentions)
    return _trained(
        {
            "embeddings": lookups,
            "attention projections": _products(config, row, attention=True),
            "key @ query logits": products,
            "softmax": 3.0 * sum(a.edge.layers * a.edge.heads * a.pairs for a in attentions),
            "softmax @ value reductions": products,
            "dense blocks": _products(config, row, attention=False),
            "final logits": logits,
        }
    )


def maxtext(config: ModelConfig, row: Layout) -> Parts:
    """MaxText's `calculate_tflops_training_per_device` since its pull request #1988: causal attention halved.

    Learnable weights at 6 FLOPs a token, the output head at every position of the target; attention at
    12 x queries x keys x heads x head_dim, halved where it is causal. Before July 2025 (issue #1972) it was not
    halved. Two streams: MaxText has none, but counts its vision encoders' bidirectional attention full; so an open
    source's self-attention and all attention from target to source are full here. A prefix LM, which it does not know,
    counts as causal.
    """
    attention = 4.0 * sum(
        a.edge.layers
        * a.edge.heads
        * a.edge.head_dim
        * a.pairs
        / (2 if a.edge.key == a.edge.query and a.edge.reads.sees.halved else 1)
        for a in _attentions(config, row)
    )
    weights = _products(config, row, attention=True) + _products(config, row, attention=False)
    return _trained({"learnable weights": weights + _tables(config, row)[1], "attention": attention})


def levanter(config: ModelConfig, row: Layout) -> Parts:
    """Levanter's `lm_flops_per_token` (src/levanter/utils/flop_utils.py), times 3 for training.

    Attention is full, with 3 FLOPs for each head and pair for mask and softmax; the head counts at every position of
    the target; lookups cost nothing. head_dim is taken to be d_model / heads, whatever the model's is. Two streams: by
    stream, a cross-attention as an attention with the source's keys.
    """
    attentions = list(_attentions(config, row))
    qkv = dense = 0.0
    for a in attentions:
        edge = a.edge
        qkv += 2.0 * edge.layers * a.queries * edge.width * edge.width
        qkv += 2.0 * edge.layers * a.projected * 2 * edge.memory * edge.kv_heads * edge.width / edge.heads
        dense += 2.0 * edge.layers * a.queries * edge.width * edge.width
    return _trained(
        {
            "mlp": _products(config, row, attention=False),
            "qkv_proj": qkv,
            "dense_proj": dense,
            "attn": sum(a.edge.layers * a.pairs * (4.0 * a.edge.width + 3.0 * a.edge.heads) for a in attentions),
            "lm_head": _tables(config, row)[1],
        }
    )


CONVENTIONS: dict[str, Callable[[ModelConfig, Layout], Parts]] = {
    "6ND": six_nd,
    "kaplan": kaplan,
    "chinchilla": chinchilla,
    "maxtext": maxtext,
    "levanter": levanter,
}


def restate(run: RunConfig, name: str) -> Restated:
    """A run's training FLOPs in the convention of that name.

    Raises:
      UserError: there is no such convention, or as `ledger.count`.
    """
    require(name in CONVENTIONS, "as", name, "one of " + ", ".join(CONVENTIONS))
    shape = geometry(run)
    return Restated(
        convention=name,
        parts=CONVENTIONS[name](run.model, shape.layout),
        rows=shape.rows,
        tokens=_tokens(shape.layout),
        updates=shape.updates,
    )


@dataclass(frozen=True)
class _HeadPairs:
    """One edge, over a row.

    Attributes:
      edge: in all layers of a stack.
      queries: tokens that queries and outputs are projected for (0 in all but one edge of an attention).
      projected: tokens that keys and values are projected for.
      pairs: of query and key.
    """

    edge: Edge
    queries: int
    projected: int
    pairs: int


def _attentions(config: ModelConfig, row: Layout) -> Iterator[_HeadPairs]:
    length, seen = {"source": row.source, "target": row.target}, set()
    for edge in edges(config):
        first = (edge.path, edge.query) not in seen
        seen.add((edge.path, edge.query))
        queries, keys = (
            slots(length[name], n) for name, n in zip((edge.query, edge.key), edge.reads.strides, strict=True)
        )
        yield _HeadPairs(edge, queries if first else 0, 0 if edge.kept else keys, queries * keys)


def _products(config: ModelConfig, row: Layout, *, attention: bool) -> float:
    """Forward FLOPs of the attentions' projections, or of the MLPs."""
    length = {"source": row.source, "target": row.target}
    attends = {edge.path for edge in edges(config)}
    return sum(
        1.0 * param.flops * sum(slots(length[stream], param.stride) for stream in param.sees)
        for path, param in leaves(model(config))
        if _in_block(param) and (path[:-1] in attends) == attention
    )


def _tables(config: ModelConfig, row: Layout) -> tuple[float, float]:
    """Forward FLOPs of embedding lookups as products, and of logits at every position of the target."""
    length = {"source": row.source, "target": row.target}
    declared = dict(leaves(model(config)))
    tables = [param for path, param in declared.items() if param.role == "table" and path[0] != "head"]
    lookups = sum(2.0 * param.size * sum(length[stream] for stream in param.sees) for param in tables)
    return lookups, 2.0 * declared["embed", "table"].size * row.target * config.softmaxes


def _in_block(param: Param) -> bool:
    return param.matmul and param.role != "table"


def _trained(forward: Parts) -> Parts:
    """Forward and backward pass: the backward is twice the forward."""
    return {name: 3.0 * flops for name, flops in forward.items()}


def _tokens(row: Layout) -> int:
    return row.source + row.target
