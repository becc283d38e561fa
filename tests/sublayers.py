"""Positions and sublayers as a user would add them, registered under names of their own."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from encdec_jax.model.blocks import BLOCKS, Sub, standard
from encdec_jax.model.param import Param
from encdec_jax.model.parts.positions import POSITIONS, Position
from encdec_jax.model.parts.sublayer import Residuals
from encdec_jax.model.seen import Out


class Learned(Position):
    """A table of 64 positions, added to embeddings, and a bias for each head and distance of at most 4, to scores."""

    biased, crosses = True, False

    def declare(self, scope):
        d, heads, group = scope.size.d_model, scope.size.n_heads, "positions"
        rows = Param((64, d), ("positions", "embed"), "table", d, d, group, scope.streams, matmul=False)
        near = Param((heads, 9), ("heads", "buckets"), "bias", 1, d, group, scope.streams, matmul=False, std=0.5)
        return {"rows": rows, "near": near}

    def embed(self, node, config, stream, width):
        return node.weight("rows")[stream.position]

    def bias(self, node, config, reads, query, key, n_heads):
        away = jnp.clip(key.position[:, None, :] - query.position[:, :, None], -4, 4)
        return jnp.moveaxis(node.exact("near")[:, away + 4], 0, 1)


@dataclass(frozen=True)
class Noise:
    """Adds a vector that each repetition has of its own, and noise in training; asks for small vectors."""

    reads = ()

    def group(self, scope):
        return "noise"

    def declare(self, scope):
        d = scope.size.d_model
        return {"row": Param((d,), ("embed",), "table", d, d, "noise", scope.streams, matmul=False, own=True)}

    def kept(self, scope, tensor, length):
        return Residuals(0, 0)

    def __call__(self, node, x, seen):
        row = node.exact("row")
        y = jnp.broadcast_to(row.astype(x.dtype), x.shape)
        if seen.key is not None:
            y = y + 0.1 * jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(seen.key(0))
        shown = (seen.tokens.segment != 0).mean(dtype=jnp.float32)
        return Out(y, loss=(row**2).sum(), numbers={"layer": seen.layer.astype(jnp.float32), "shown": shown})


def noisy(scope, layer):
    """The standard block behind a `Noise`."""
    return (Sub("noise", Noise()), *standard(scope, layer))


POSITIONS["tests' own"] = Learned()
BLOCKS["tests' own"] = noisy
