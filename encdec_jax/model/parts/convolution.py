"""Lightweight and dynamic convolution in place of self-attention (Wu et al., arXiv 1901.10430)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jax, jnp
from encdec_jax.model.param import Param, Tree
from encdec_jax.model.parts.sublayer import Residuals, Scope
from encdec_jax.model.seen import Out, Seen

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


@dataclass(frozen=True)
class Convolution:
    """A gated linear unit, a depthwise convolution over time whose kernel a softmax makes, and a matrix.

    Each head's channels share a kernel of `model.kernel_width` taps: learned, or, where it is dynamic, a linear
    function of the position that it is for. It is centred in a source that sees all of itself; elsewhere its last tap
    is the position itself. It never looks across the end of a document, where it finds zeros. The taps' sums are no
    matrix product, so that they count no FLOPs: 2 x kernel_width x d_model a position, beside 6 x d_model^2.

    Attributes:
      dynamic: the kernel is made anew at each position.
    """

    dynamic: bool = False
    reads: tuple[Reads, ...] = ()

    def group(self, scope: Scope) -> str:
        """Convolutions are counted apart."""
        return "convolutions"

    def declare(self, scope: Scope) -> Tree:
        """Three matrices, and the kernels or what makes them."""
        d, heads, taps = scope.size.d_model, scope.size.n_heads, scope.config.kernel_width
        group, sees = self.group(scope), scope.streams
        up = Param((d, d), ("embed", "mlp"), "matrix", d, d, group, sees)
        kernel = Param((heads, taps), ("heads", "taps"), "vector", taps, d, group, sees, matmul=False, std=taps**-0.5)
        if self.dynamic:
            kernel = Param((d, heads, taps), ("embed", "heads", "taps"), "matrix", d, d, group, sees)
        return {"value": up, "gate": up, "kernel": kernel, "out": replace(up, axes=("mlp", "embed"))}

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """The unit's products and what its derivative reads, the taps' inputs, kernels; as state, the last inputs."""
        d, taps = scope.size.d_model, scope.config.kernel_width
        kernels = 3 * scope.size.n_heads * taps if self.dynamic else 0
        return Residuals(((5 + taps) * d + kernels) / tensor, (3 * d + kernels / 3) / tensor, (taps - 1) * d)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """What each position of x [batch, length, d_model] finds beside it. The state: inputs [batch, taps - 1, d]."""
        config, segment = node.config, seen.tokens.segment
        inner = (x @ node.weight("value")) * jax.nn.sigmoid(x @ node.weight("gate"))
        kernel = node.weight("kernel")
        if self.dynamic:
            kernel = jnp.einsum("btd,dhk->bthk", inner, kernel)
        kernel = jax.nn.softmax(kernel.astype(jnp.float32), axis=-1).astype(x.dtype)
        b, t, d = x.shape
        heads, taps = kernel.shape[-2:]
        before = jnp.zeros((b, taps - 1, d), x.dtype) if seen.state is None else seen.state
        found = neighbours(before, inner, segment, taps, taps // 2 if centred(config, seen) else 0)
        y = jnp.zeros((b, t, heads, d // heads), x.dtype)
        for tap, one in enumerate(found):
            y += one.reshape(y.shape) * kernel[..., tap, None]
        out = y.reshape(b, t, d) @ node.weight("out")
        return Out(out, state=last(before, inner, segment != 0))


def centred(config: ModelConfig, seen: Seen) -> bool:
    """Whether tokens see as much behind them as before them: those of a source that sees all of itself."""
    return config.choices.source_open and seen.stream == "source"


def neighbours(before: Array, new: Array, segment: Array, width: int, ahead: int) -> list[Array]:
    """What stands `width - 1 - ahead` tokens before each, to `ahead` behind it: zeros where a document has ended.

    Args:
      before: [batch, at least width - 1, ...] of the document that the row begins with, or zeros.
      new: [batch, length, ...].
      segment: int32 [batch, length].
      width: of the list.
      ahead: how many of it stand behind the token.
    """
    (b, t), back = segment.shape, width - 1 - ahead
    behind = jnp.zeros((b, ahead, new.shape[-1]), new.dtype)
    line = jnp.concatenate([before[:, before.shape[1] - back :], new, behind], axis=1)
    of = jnp.concatenate([jnp.broadcast_to(segment[:, :1], (b, back)), segment, jnp.zeros((b, ahead), int)], axis=1)
    own = [(of[:, tap : tap + t] == segment)[:, :, None] for tap in range(width)]
    return [jnp.where(own[tap], line[:, tap : tap + t], 0) for tap in range(width)]


def last(before: Array, new: Array, shown: Array) -> Array:
    """The last as many rows as `before` has of it and of what is shown of `new` [batch, length, ...]."""
    line = jnp.concatenate([before, new], axis=1)
    shown = jnp.concatenate([jnp.ones(before.shape[:2], bool), shown], axis=1)
    order = jnp.argsort(shown, axis=1, stable=True)[:, shown.shape[1] - before.shape[1] :]
    return jnp.take_along_axis(line, order[:, :, None], axis=1)
