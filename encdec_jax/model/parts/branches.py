"""What the Evolved Transformer has beside attention and MLPs (So et al., arXiv 1901.11117), as tensorflow/mesh does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jax, jnp
from encdec_jax.model.param import Param, Tree
from encdec_jax.model.parts import norms
from encdec_jax.model.parts.convolution import centred, last, neighbours
from encdec_jax.model.parts.sublayer import Residuals, Scope
from encdec_jax.model.seen import Out, Seen

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


@dataclass(frozen=True)
class GatedUnit:
    """A gated linear unit from d_model to d_model."""

    reads: tuple[Reads, ...] = ()

    def group(self, scope: Scope) -> str:
        """Counted with convolutions."""
        return "convolutions"

    def declare(self, scope: Scope) -> Tree:
        """Two matrices."""
        d = scope.size.d_model
        matrix = Param((d, d), ("embed", "mlp"), "matrix", d, d, self.group(scope), scope.streams)
        return {"value": matrix, "gate": matrix}

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """Both products, and the gate's derivative."""
        return Residuals(3 * scope.size.d_model / tensor, 2 * scope.size.d_model / tensor)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """x [batch, length, d_model] times one matrix, times the sigmoid of x times the other."""
        return Out((x @ node.weight("value")) * jax.nn.sigmoid(x @ node.weight("gate")))


@dataclass(frozen=True)
class Conv:
    """A convolution over time.

    Attributes:
      width: in tokens, an odd number; 1 for a dense layer.
      outputs: in d_model; a half is rounded down.
      separable: one kernel a channel, then a matrix; else a matrix for each tap.
      relu: behind it.
    """

    width: int
    outputs: float
    separable: bool = False
    relu: bool = False

    def declare(self, scope: Scope, inputs: int, axis: str, group: str) -> Tree:
        """Its matrix, and its kernels where it is separable; `axis` is the logical one of its inputs."""
        d, sees = scope.size.d_model, scope.streams
        taps, outputs = 1 if self.separable else self.width, int(self.outputs * d)
        matrix = Param((taps, inputs, outputs), ("taps", axis, "context"), "matrix", taps * inputs, d, group, sees)
        if not self.separable:
            return {"matrix": matrix}
        shape, axes = (self.width, inputs), ("taps", "norm")
        kernel = Param(shape, axes, "vector", self.width, d, group, sees, matmul=False, std=self.width**-0.5)
        return {"kernel": kernel, "matrix": matrix}

    def kept(self, inputs: float, outputs: float) -> float:
        """Numbers of the compute dtype a token that the backward pass keeps; a boolean is a quarter of a float32."""
        taps = self.width * inputs + (inputs if self.separable else 0)
        return taps + (outputs / 4 if self.relu else 0)

    def __call__(self, node: Node, before: Array, x: Array, segment: Array, ahead: bool) -> Array:
        """Of x [batch, length, inputs], behind what stood before."""
        found = neighbours(before, x, segment, self.width, self.width // 2 if ahead else 0)
        if self.separable:
            kernel, y = node.weight("kernel"), jnp.zeros_like(x)
            for tap, one in enumerate(found):
                y += one * kernel[tap]
            found = [y]
        y = jnp.concatenate(found, axis=-1) @ node.weight("matrix").reshape(-1, node.weight("matrix").shape[-1])
        return jax.nn.relu(y) if self.relu else y


@dataclass(frozen=True)
class Branches:
    """Two convolutions side by side, their sum normalised, and a third; the narrower is filled up with zeros.

    Centred and causal as `Convolution`, and as it ends at a document's ends. Kernels count no FLOPs, matrices do.
    """

    left: Conv
    right: Conv
    out: Conv
    reads: tuple[Reads, ...] = ()

    def group(self, scope: Scope) -> str:
        """Counted with convolutions."""
        return "convolutions"

    def declare(self, scope: Scope) -> Tree:
        """Those of the three, and of the norm between."""
        d, group = scope.size.d_model, self.group(scope)
        wide = int(self.left.outputs * d)
        return {
            "left": self.left.declare(scope, d, "embed", group),
            "right": self.right.declare(scope, d, "embed", group),
            "norm": norms.declare(scope.config, wide, scope.streams),
            "out": self.out.declare(scope, wide, "context", group),
        }

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """What convolutions and the norm keep; as state the last inputs of the first two, and of the third."""
        d, number = scope.size.d_model, 4 if scope.config.dtype == "float32" else 2
        wide, narrow = self.left.outputs * d, self.right.outputs * d
        before = self._before() * d + (self.out.width - 1) * wide
        inside = self.left.kept(d, wide) + self.right.kept(d, narrow) + self.out.kept(wide, d)
        return Residuals(inside + (8 / number + 1) * wide, wide + narrow + d, before)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """x [batch, length, d_model], transformed; the shape stays. The state: inputs of both, and of the third."""
        segment, ahead = seen.tokens.segment, centred(node.config, seen)
        d = x.shape[-1]
        wide = int(self.left.outputs * d)
        first, second = seen.state or (
            jnp.zeros((len(x), self._before(), d), x.dtype),
            jnp.zeros((len(x), self.out.width - 1, wide), x.dtype),
        )
        left = self.left(node.node("left"), first, x, segment, ahead)
        right = self.right(node.node("right"), first, x, segment, ahead)
        right = jnp.pad(right, ((0, 0), (0, 0), (0, wide - right.shape[-1])))
        hidden = norms.apply(node.node("norm"), left + right)
        y = self.out(node.node("out"), second, hidden, segment, ahead)
        y = jnp.pad(y, ((0, 0), (0, 0), (0, d - y.shape[-1])))
        shown = segment != 0
        return Out(y, state=(last(first, x, shown), last(second, hidden, shown)))

    def _before(self) -> int:
        return max(self.left.width, self.right.width) - 1


ENCODER = Branches(Conv(1, 4, relu=True), Conv(3, 0.5, relu=True), Conv(9, 0.5, separable=True))
DECODER = Branches(Conv(11, 2, separable=True, relu=True), Conv(7, 0.5, separable=True), Conv(7, 1, separable=True))
