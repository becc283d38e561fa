"""MLP-Mixer's token mixing in place of self-attention (Tolstikhin et al., arXiv 2105.01601)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jax, jnp, tanh_keeps
from encdec_jax.model.param import Param, Tree
from encdec_jax.model.parts.sublayer import Residuals, Scope, looks
from encdec_jax.model.seen import KeyValues, Out, Seen

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


@dataclass(frozen=True)
class TokenMixing:
    """An MLP over positions, one for all channels: a weight for each pair of them, GELU, and a weight again.

    A hidden unit stands for a position: it sees the positions that this one sees, and is seen by those that see it, so
    that triangular weights keep the decoder causal (arXiv 2409.01482 has one triangular matrix) and packed documents
    apart; the paper's number of units is free. Positions are those in the document, up to `model.position_rows`; the
    loss of a row that has one behind them is no number. There are no biases. Inputs and hidden units are kept for
    decoding in place of keys and values.

    Attributes:
      reads: what each stream's tokens see of it.
    """

    reads: tuple[Reads, ...]
    options: ClassVar[tuple[str, ...]] = ("target_positions",)

    def group(self, scope: Scope) -> str:
        """Counted apart, its products as those of an attention of one head of d_model."""
        return "token mixing"

    def declare(self, scope: Scope) -> Tree:
        """Two weights for each pair of positions."""
        n, d = scope.config.position_rows, scope.size.d_model
        axes, std = ("positions", "positions"), n**-0.5
        pairs = Param((n, n), axes, "vector", n, d, self.group(scope), scope.streams, matmul=False, std=std)
        return {"first": pairs, "second": pairs}

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """The hidden units and what GELU's derivative reads, beside weights (`encdec_jax.compute.memory`)."""
        return Residuals((4 + tanh_keeps()) * scope.size.d_model, 0)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """x [batch, length, d_model], mixed over time; new are inputs and hidden units [batch, length, 1, d_model]."""
        mask: Any = seen.views[looks(self, seen.stream)].mask
        slots = seen.tokens if seen.cache is None else seen.cache.stream
        rows, columns = seen.tokens.position[:, :, None], slots.position[:, None, :]

        def mixed(name: str, y: Array) -> Array:
            weight = node.exact(name).at[rows, columns].get(mode="fill", fill_value=jnp.nan)
            return jnp.einsum("bts,bsd->btd", jnp.where(mask, weight, 0).astype(y.dtype), y)

        def held(inputs: Array, hidden: Array) -> KeyValues:
            new = KeyValues(inputs[:, :, None], hidden[:, :, None])
            return new if seen.cache is None else seen.cache.write(new)

        hidden = jax.nn.gelu(mixed("first", held(x, x).keys[:, :, 0]))
        y = mixed("second", held(x, hidden).values[:, :, 0])
        return Out(y, new=KeyValues(x[:, :, None], hidden[:, :, None]))
