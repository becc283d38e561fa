"""The feed-forward sublayer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from encdec_jax.model.config import Activation
from encdec_jax.model.edge import Reads
from encdec_jax.model.lazy import jax, tanh_keeps
from encdec_jax.model.param import Param, Tree, bias
from encdec_jax.model.parts.again import again, lean
from encdec_jax.model.parts.sublayer import Residuals, Scope
from encdec_jax.model.seen import Out, Seen

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node


class Kind(NamedTuple):
    """One kind of MLP.

    Attributes:
      of: its activation.
      gated: whether the activation multiplies a second product (Shazeer, arXiv 2002.05202).
      kept: numbers a token and unit of d_ff that the backward pass keeps; a boolean is a quarter of a float32.
    """

    of: Callable[[Array], Array]
    gated: bool
    kept: float


def _tanh(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=True)


def _exact(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


def _square(x: Array) -> Array:
    return jax.nn.relu(x) ** 2


def kind(name: Activation) -> Kind:
    """The MLP that `model.mlp` names."""
    tanh = 4 + tanh_keeps()
    return {
        "swiglu": Kind(lambda x: jax.nn.silu(x), True, 6),
        "gelu": Kind(_tanh, False, tanh),
        "gelu_exact": Kind(_exact, False, 4),
        "relu": Kind(lambda x: jax.nn.relu(x), False, 1.25),
        "relu2": Kind(_square, False, 2.25),
        "silu": Kind(lambda x: jax.nn.silu(x), False, 4),
        "geglu": Kind(_tanh, True, tanh + 2),
        "geglu_exact": Kind(_exact, True, 6),
    }[name]


@dataclass(frozen=True)
class MLP:
    """One of `kind`."""

    reads: tuple[Reads, ...] = ()
    options: ClassVar[tuple[str, ...]] = ("mlp",)

    def group(self, scope: Scope) -> str:
        """All MLPs are counted together."""
        return "MLPs"

    def declare(self, scope: Scope) -> Tree:
        """Its two or three matrices, and their biases."""
        d, d_ff, sees = scope.size.d_model, scope.size.d_ff, scope.streams
        up = Param((d, d_ff), ("embed", "mlp"), "matrix", d, d, self.group(scope), sees)
        # It only adds to the residual: at the end of a period no gradient needs what it gives, nor does remat.
        down = Param((d_ff, d), ("mlp", "embed"), "matrix", d_ff, d, self.group(scope), sees, again=())
        gate = {"gate": up} if kind(scope.config.mlp).gated else {}
        matrices = {**gate, "up": up, "down": down}
        biases = {f"{name}_bias": bias(one) for name, one in matrices.items()} if scope.config.mlp_bias else {}
        return {**matrices, **biases}

    def kept(self, scope: Scope, tensor: int, length: int) -> Residuals:
        """The products and what the activation's derivative reads."""
        mlp, d_ff = kind(scope.config.mlp), scope.size.d_ff / tensor
        products = 2 if mlp.gated else 1
        return Residuals((products + 1 if lean(scope.config) else mlp.kept) * d_ff, products * d_ff)

    def __call__(self, node: Node, x: Array, seen: Seen) -> Out:
        """x [batch, length, d_model], transformed; the shape stays."""
        from encdec_jax.model.product import product

        def of(name: str, x: Array) -> Array:
            return node.biased(f"{name}_bias", product(x, node.weight(name)))

        mlp, up = kind(node.config.mlp), of("up", x)
        if mlp.gated:
            return Out(of("down", again(node.config, lambda gate, up: mlp.of(gate) * up)(of("gate", x), up)))
        return Out(of("down", again(node.config, mlp.of)(up)))
