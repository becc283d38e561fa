"""What inference costs: FLOPs of taking up a source and of decoding a token, and bytes of the cache. No jax here.

The same counting as the ledger's, with other numbers of tokens and pairs; `encdec_jax.infer` is what it counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from encdec_jax.compute.ledger import Flops, flops
from encdec_jax.compute.products import Pairs, Pass, products
from encdec_jax.errors import require
from encdec_jax.model.blocks import plans, source_stream
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import edges
from encdec_jax.model.param import StreamName

# Of one number. Quantised types without the scales that go with them, which are as many as an implementation likes.
BYTES: dict[str, float] = {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5}


@dataclass(frozen=True)
class CacheBytes:
    """Bytes of the keys and values that decoding reads, and of what stands in their place.

    Attributes:
      own: of self-attention: the target's, and in one-stream architectures the source's too; and the states of
        sublayers in its place.
      cross: of the source's stream, which decoding never changes, or of a context.
    """

    own: int
    cross: int

    @property
    def total(self) -> int:
        """Both."""
        return self.own + self.cross


def prefill(config: ModelConfig, source: int) -> Flops:
    """FLOPs of taking up one source of `source` tokens; no logits.

    One-stream architectures run it through their stack, as far as layers make keys. The others run it through the
    encoder (or through the shared blocks) and project what the decoder reads to keys and values, once for each decoder
    layer: decoding never touches the source's states again. In 'coordinated' those keys and values are the ones that
    the source's own pass has made, so that nothing is projected twice, as in training it is.

    Args:
      config: of the model.
      source: tokens, at least 0.

    Raises:
      UserError: `source` is negative.
    """
    require(source >= 0, "source", source, "at least 0 tokens")
    stream = source_stream(config)
    own = [edge for edge in edges(config) if edge.query == edge.key == stream]
    merged = source if any(edge.reads.states == "final" for edge in edges(config)) else 0
    behind = plans(config)["decoder"].behind() if stream == "target" else ()
    left_out = tuple(("decoder", *path) for path in behind)
    tokens: dict[StreamName, float] = {"source": 0, "target": 0, stream: source}
    length: dict[StreamName, int] = {"source": source, "target": source}
    pairs: Pairs = {edge: (edge.pairs(source, 0), edge.cells(length)) for edge in own}
    return flops(products(config, Pass(tokens, length, pairs, scored=0, merged=merged, left_out=left_out)))


def decode(config: ModelConfig, source: int, step: int, capacity: int) -> Flops:
    """FLOPs of feeding target token `step` of one sequence, the first being 0, and computing its logits.

    Args:
      config: of the model.
      source: tokens of the source, at least 0.
      step: target tokens before this one.
      capacity: target tokens that the cache has room for; attention computes them all ('dense').

    Raises:
      UserError: `source` is negative, or the cache has no room for this token.
    """
    require(0 <= step < capacity, "step", step, f"a token in [0, {capacity}), the capacity of the cache")
    return _fed(config, source, capacity, step, step + 1)


def decode_all(config: ModelConfig, source: int, target: int) -> Flops:
    """FLOPs of feeding all of a sequence's `target` tokens, one by one, with room for no more.

    Raises:
      UserError: a length is negative.
    """
    require(target >= 0, "target", target, "at least 0 tokens")
    return _fed(config, source, target, 0, target)


def _fed(config: ModelConfig, source: int, capacity: int, first: int, end: int) -> Flops:
    """FLOPs of feeding target tokens `first` to `end` - 1."""
    require(source >= 0, "source", source, "at least 0 tokens")
    reading, n = [edge for edge in edges(config) if edge.query == "target"], end - first
    pairs: Pairs = {
        edge: (edge.pairs(source, end) - edge.pairs(source, first), n * edge.keys(source, capacity)) for edge in reading
    }
    merged = any(edge.reads.states == "final" and edge.key == "target" for edge in reading)
    ones: dict[StreamName, int] = {"source": 0, "target": 1}
    return flops(products(config, Pass({"source": 0, "target": n}, ones, pairs, scored=n, merged=n * merged)))


def cache_bytes(config: ModelConfig, source: int, target: int, dtype: str) -> CacheBytes:
    """Bytes of one sequence's keys and values.

    Args:
      config: of the model.
      source, target: tokens held of each.
      dtype: a name of `BYTES`.

    Raises:
      UserError: a length is negative, or the type is unknown.
    """
    require(source >= 0, "source", source, "at least 0 tokens")
    require(target >= 0, "target", target, "at least 0 tokens")
    require(dtype in BYTES, "dtype", dtype, "one of " + ", ".join(BYTES))
    own = cross = 0.0
    for edge in edges(config):
        if edge.query == "target" and not edge.kept:
            held = edge.layers if edge.own else edge.copies
            numbers = 2 * held * edge.kv_heads * edge.head_dim * edge.keys(source, target)
            own, cross = (own + numbers, cross) if edge.own else (own, cross + numbers)
    plan = plans(config)["decoder"]
    for _, segment, spec in plan.slots():
        own += segment.times * sum(sub.layer.kept(plan.scope, 1, 1).state for sub in spec)
    return CacheBytes(round(own * BYTES[dtype]), round(cross * BYTES[dtype]))
