"""A sublayer among its norms. No jax here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.parts.sublayer import Sublayer


@dataclass(frozen=True)
class Sub:
    """A sublayer f in its block: x becomes out_norm(x + scale * branch_norm(f(in_norm(x)))).

    Attributes:
      name: of its node in the declaration.
      layer: f.
      in_norm, branch_norm, out_norm: names of the norms' nodes; None for no norm.
      memory_norm: the same, of the source's states that it reads; it may be in_norm.
      scale: of the residual branch.
      beside: f reads the x that the sublayer before it has read.
    """

    name: str
    layer: Sublayer
    in_norm: str | None = None
    branch_norm: str | None = None
    out_norm: str | None = None
    memory_norm: str | None = None
    scale: float = 1.0
    beside: bool = False


BlockSpec: TypeAlias = tuple[Sub, ...]


def placed(config: ModelConfig, name: str, layer: Sublayer) -> Sub:
    """A sublayer among its norms, by `model.norm`."""
    norm = f"{name}_norm"
    if config.norm == "post":
        return Sub(name, layer, out_norm=norm)
    return Sub(name, layer, in_norm=norm, branch_norm=f"{name}_branch_norm" if config.norm == "sandwich" else None)
