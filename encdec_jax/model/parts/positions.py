"""How positions enter a model: a table of values. `model.position` names one, and so does each edge."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor, log, log2, pi
from typing import TYPE_CHECKING

import numpy as np

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jnp
from encdec_jax.model.param import Param, Tree
from encdec_jax.model.parts import tables
from encdec_jax.model.parts.sublayer import Scope
from encdec_jax.model.streams import Stream

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


CosSin = tuple["Array", "Array"]


class Position:
    """No positions: what is seen is told apart by the mask alone."""

    pairs = False  # whether it turns pairs of numbers: head_dim is even
    biased = False  # whether scores get a bias, which splash attention does not take
    restarts = False  # whether embeddings' positions begin anew behind a source that is open
    crosses = True  # whether `model.cross_position` 'same' gives it to cross-attention; merged keys always have it
    options: tuple[str, ...] = ()  # fields of `ModelConfig` that it reads beside those which it declares parameters by

    @property
    def attends(self) -> bool:
        """Whether it is of queries and keys, or of their scores: else it is of embeddings, or of nothing."""
        return type(self).turn is not Position.turn or type(self).bias is not Position.bias

    def declare(self, scope: Scope) -> Tree:
        """Parameters, one set a stack: of the stack that the tokens go through, or whose attention it is."""
        return {}

    def declare_layer(self, scope: Scope) -> Tree:
        """Parameters of each attention of its own, which stand among the sublayer's."""
        return {}

    def embed(self, node: Node | None, config: ModelConfig, stream: Stream, width: int) -> Array | None:
        """What is added to embeddings: [batch, length, width]; None for nothing. `node` holds what was declared."""
        return None

    def turn(self, config: ModelConfig, stream: Stream, head_dim: int) -> CosSin | None:
        """What queries or keys of a stream are rotated by; None for nothing."""
        return None

    def bias(
        self, node: Node | None, config: ModelConfig, reads: Reads, query: Stream, key: Stream, n_heads: int
    ) -> Array | None:
        """What is added to scores: float32 [batch, n_heads, queries, keys]; None for nothing.

        Or int32 [batch, 1, queries, keys]: which row of the table 'bias' that `declare_layer` declared, from 1 on; 0
        for nothing. With a cache the queries are the tokens being decoded, and the keys its slots.
        """
        return None


class Rotary(Position):
    """RoPE (Su et al., arXiv 2104.09864), by the base `model.rope_theta`, scaled as `model.rope_scaling` says."""

    pairs = True
    options: tuple[str, ...] = (
        "rope_theta",
        "rope_share",
        "rope_scaling",
        "rope_factor",
        "rope_original",
        "target_positions",
    )

    def turn(self, config: ModelConfig, stream: Stream, head_dim: int) -> CosSin | None:
        """As `Position.turn`."""
        return rope(stream.position, rotated(config, head_dim), config.rope_theta, config)


class LocalRotary(Rotary):
    """RoPE by the base `model.local_theta`, in layers with a window; not scaled (Gemma 3)."""

    options = ("local_theta", "rope_share", "target_positions")

    def turn(self, config: ModelConfig, stream: Stream, head_dim: int) -> CosSin | None:
        """As `Position.turn`."""
        return rope(stream.position, rotated(config, head_dim), config.local_theta)


class Learned(Position):
    """A table of `model.position_rows` vectors, held and looked up as the embeddings are (`model.embedding`)."""

    options = ("position_offset", "target_positions")

    def declare(self, scope: Scope) -> Tree:
        """As `Position.declare`."""
        d, std = scope.size.d_model, tables.looked_up_std(scope.config)
        shape, axes = (scope.config.position_rows, d), ("positions", "embed")
        return {"table": Param(shape, axes, "table", d, d, "positions", scope.streams, matmul=False, std=std)}

    def embed(self, node: Node | None, config: ModelConfig, stream: Stream, width: int) -> Array | None:
        """As `Position.embed`; positions behind the table's last are no numbers: a loss that is seen at once."""
        return tables.scaled(self.rows(node, config, stream), config)

    def rows(self, node: Node | None, config: ModelConfig, stream: Stream) -> Array:
        """The table's, as they are held."""
        assert node is not None
        row = stream.position + config.position_offset
        return node.weight("table").at[row].get(mode="fill", fill_value=jnp.nan)


class LearnedUnscaled(Learned):
    """The same, drawn at d_model^-0.5 and added as it is, whatever is done to embeddings (mBART)."""

    def declare(self, scope: Scope) -> Tree:
        """As `Position.declare`."""
        table = super().declare(scope)["table"]
        assert isinstance(table, Param)
        return {"table": replace(table, std=None)}

    def embed(self, node: Node | None, config: ModelConfig, stream: Stream, width: int) -> Array | None:
        """As `Position.embed`."""
        return self.rows(node, config, stream)


class Sinusoidal(Position):
    """Sines and, behind them, cosines of position / 10000^(2k / d_model) (Vaswani et al. 2017, section 3.5)."""

    options = ("target_positions",)

    def embed(self, node: Node | None, config: ModelConfig, stream: Stream, width: int) -> Array | None:
        """As `Position.embed`."""
        frequency = 10_000.0 ** (-2 * jnp.arange((width + 1) // 2, dtype=jnp.float32) / width)
        angle = stream.position[:, :, None].astype(jnp.float32) * frequency
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)[:, :, : width // 2]], axis=-1)


class SinusoidalPairs(Sinusoidal):
    """The same numbers, each sine in front of its cosine: the paper's formula as it stands."""

    def embed(self, node: Node | None, config: ModelConfig, stream: Stream, width: int) -> Array | None:
        """As `Position.embed`."""
        halves = super().embed(node, config, stream, width)
        assert halves is not None
        order = np.argsort(np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)]))
        return halves[..., order]


class Separate(Sinusoidal):
    """The same, counted from 0 in an open source and again in its target (PALM, arXiv 2304.04052)."""

    restarts = True


class Bucketed(Position):
    """T5's relative bias: a number for each head and bucket of distances (arXiv 1910.10683, section 2.1)."""

    biased, crosses = True, False
    options = ("position_range",)

    def declare(self, scope: Scope) -> Tree:
        """As `Position.declare`."""
        d, shape = scope.size.d_model, (scope.config.position_buckets, scope.size.n_heads)
        bias = Param(shape, ("buckets", "heads"), "bias", 1, d, "positions", scope.streams, matmul=False, std=d**-0.5)
        return {"bias": bias}

    def bias(
        self, node: Node | None, config: ModelConfig, reads: Reads, query: Stream, key: Stream, n_heads: int
    ) -> Array | None:
        """As `Position.bias`. A stack in which some tokens see what follows them has buckets for both directions."""
        assert node is not None
        return jnp.moveaxis(node.exact("bias")[self.buckets(config, reads, query, key)], 3, 1)

    def buckets(self, config: ModelConfig, reads: Reads, query: Stream, key: Stream) -> Array:
        """Of each pair: int32 [batch, queries, keys]."""
        both = config.choices.source_open and (reads.query == "source" or not config.choices.own_encoder)
        known = jnp.asarray(buckets(config.position_buckets // (2 if both else 1), config.position_range))
        away = key.position[:, None, :] - query.position[:, :, None]
        far = jnp.minimum(jnp.abs(away) if both else jnp.maximum(-away, 0), config.position_range)
        return known[far] + (jnp.where(away > 0, config.position_buckets // 2, 0) if both else 0)


class LayerBucketed(Bucketed):
    """T5's relative bias, with a table for each layer (UMT5, arXiv 2304.09151)."""

    def declare(self, scope: Scope) -> Tree:
        """As `Position.declare`."""
        return {}

    def declare_layer(self, scope: Scope) -> Tree:
        """As `Position.declare_layer`."""
        return Bucketed().declare(scope)

    def bias(
        self, node: Node | None, config: ModelConfig, reads: Reads, query: Stream, key: Stream, n_heads: int
    ) -> Array | None:
        """As `Position.bias`."""
        return 1 + self.buckets(config, reads, query, key)[:, None]


class Linear(Position):
    """ALiBi: scores lose a head's slope times the distance (arXiv 2108.12409, section 3), in either direction."""

    biased, crosses = True, False

    def bias(
        self, node: Node | None, config: ModelConfig, reads: Reads, query: Stream, key: Stream, n_heads: int
    ) -> Array | None:
        """As `Position.bias`."""
        away = jnp.abs(key.position[:, None, :] - query.position[:, :, None]).astype(jnp.float32)
        return -jnp.asarray(slopes(n_heads))[:, None, None] * away[:, None]


POSITIONS: dict[str, Position] = {
    "rope": Rotary(),
    "local_rope": LocalRotary(),
    "t5": Bucketed(),
    "t5_by_layer": LayerBucketed(),
    "alibi": Linear(),
    "learned": Learned(),
    "learned_unscaled": LearnedUnscaled(),
    "sinusoidal": Sinusoidal(),
    "sinusoidal_pairs": SinusoidalPairs(),
    "separate": Separate(),
    "none": Position(),
}


def buckets(n: int, most: int) -> np.ndarray:
    """The bucket of n of each distance 0..most: half of them hold one each, the others grow up to `most` by ratio.

    In float32, as the public weights were trained: where the ratio falls on a bucket's edge, rounding decides.
    """
    half, far = n // 2, np.arange(most + 1)
    ratio = np.log(np.maximum(far, 1).astype(np.float32) / half) / np.float32(log(most / half))
    grown = half + (ratio * np.float32(n - half)).astype(np.int32)
    return np.where(far < half, far, np.minimum(grown, n - 1)).astype(np.int32)


def slopes(heads: int) -> np.ndarray:
    """ALiBi's slopes: 2^(-8 i / n), and where heads are no power of two, more between those of the power below."""
    n = 2 ** int(log2(heads))
    first = 2.0 ** (-8 * np.arange(1, n + 1) / n)
    between = 2.0 ** (-4 * np.arange(1, 2 * (heads - n), 2) / n)
    return np.concatenate([first, between]).astype(np.float32)


def rotated(config: ModelConfig, head_dim: int) -> int:
    """Numbers of a head that RoPE turns."""
    return int(head_dim * config.rope_share)


def rope(position: Array, n: int, theta: float, config: ModelConfig | None = None) -> CosSin:
    """Cosines and sines of RoPE over n numbers, each float32 [batch, length, 1, n / 2]; scaled as `config` says."""
    frequency = theta ** (-jnp.arange(0, n, 2, dtype=jnp.float32) / n)
    length = 1.0
    if config is not None and config.rope_scaling != "none":
        slower, length = scaling(config, n, theta)
        frequency = frequency * jnp.asarray(slower)
    angle = position[:, :, None, None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return (cos, sin) if length == 1 else (cos * length, sin * length)


def scaling(config: ModelConfig, n: int, theta: float) -> tuple[np.ndarray, float]:
    """What `model.rope_scaling` multiplies RoPE's n / 2 frequencies by, float32, and cosines and sines."""
    kind, factor, original = config.rope_scaling, config.rope_factor, config.rope_original
    pair = np.arange(n // 2)
    if kind == "linear":
        return np.full(n // 2, 1 / factor, np.float32), 1.0
    turns = original * theta ** (-2 * pair / n) / (2 * pi)  # within the positions of before
    if kind == "llama3":
        kept = np.clip((turns - 1) / (4 - 1), 0, 1)
        return (kept + (1 - kept) / factor).astype(np.float32), 1.0

    def turning(times: float) -> float:
        """The pair that turns so many times, between two of them."""
        return n * log(original / (times * 2 * pi)) / (2 * log(theta))

    first, last = max(floor(turning(32)), 0), min(ceil(turning(1)), n - 1)
    kept = 1 - np.clip((pair - first) / max(last - first, 1e-3), 0, 1)
    return (kept + (1 - kept) / factor).astype(np.float32), 0.1 * log(factor) + 1


def apply_rope(x: Array, cos_sin: CosSin | None) -> Array:
    """Rotate two halves of each head of x [batch, length, heads, head_dim], or of its first numbers, by each other."""
    if cos_sin is None:
        return x
    cos, sin = cos_sin
    n = cos.shape[-1]
    a, b, *still = jnp.split(x, 2 if x.shape[-1] == 2 * n else (n, 2 * n), axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin, *still], axis=-1).astype(x.dtype)
