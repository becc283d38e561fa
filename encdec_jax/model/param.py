"""One declared parameter: its shape, its logical axes, what it is, and which tokens it is applied to. No jax here.

Logical axes: 'vocab', 'embed' (d_model), 'heads', 'kv_heads', 'head_dim', 'mlp' (d_ff), 'layers', 'norm' (a vector),
'positions' (rows of a table of them), 'buckets' (of distances), 'experts', 'expert_mlp' (an expert's d_ff), 'choices'
(a router's outputs), 'softmaxes', 'context' (d_model, of what stands between
the states and the head), 'taps' (of a convolution).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias, Union

StreamName = Literal["source", "target"]
Role = Literal["matrix", "table", "vector", "bias", "router"]


class Between(NamedTuple):
    """Products between activations, or of them and a constant, that a sublayer computes for each token.

    Attributes:
      flops: of the forward pass.
      gradients: products of that size that the backward pass computes: 2, or 1 with a constant.
      again: as of `Param`.
    """

    flops: float
    gradients: int
    again: tuple[str, ...]


@dataclass(frozen=True)
class Param:
    """One parameter.

    Attributes:
      shape: in elements, with 'layers' first in a stack.
      axes: the logical name of each dimension.
      role: what it is. How it is drawn, whether it decays and how muP scales its learning rate go by it. A 'matrix'
        multiplies activations; a 'table' is looked up by ids; a 'vector' scales, a 'bias' is added; a 'router' is a
        matrix whose outputs choose among experts, computed in float32.
      fan_in: inputs that one output sums over.
      width: the d_model that fan_in grows with, if a model is widened in proportion (a table's: its own d_model).
      group: the part of the ledger it is counted under.
      sees: the streams whose tokens it is applied to, once an entry: merged attention projects the source's states
        to keys and values twice, in the source's own pass and for the target's.
      matmul: whether it is applied as a matrix product (2 FLOPs a weight and token).
      rate: times that it is applied to each token it sees: more than 1 where depth shares it, less than 1 where not
        every token reaches it.
      active: share of its elements that work on any one token.
      stride: tokens that it is applied once to, as the places of a stage (`encdec_jax.model.stages`).
      std: of its initial values, if they are not drawn as its role says.
      own: each layer has its own, even where depth shares the others.
      once: where depth shares it, it is applied once for all layers: to states that are the same for each.
      again: the policies of remat under which the backward pass computes its product once more.
      spare: rows that its product has over those that tokens fill, of a row of so many tokens; None for 1.
      between: of the sublayer that it stands for, what is computed for a token in a row of so many tokens that is no
        product with a parameter and that no edge says; None for nothing.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    role: Role
    fan_in: int
    width: int
    group: str
    sees: tuple[StreamName, ...]
    matmul: bool = True
    rate: float = 1
    active: float = 1
    stride: int = 1
    std: float | None = None
    own: bool = False
    once: bool = False
    again: tuple[str, ...] = ("full",)
    spare: Callable[[int], float] | None = None
    between: Callable[[int], tuple[Between, ...]] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def times(self) -> float:
        """That its sublayer is applied to each token: in as many layers, or repetitions."""
        return self.shape[0] if self.axes[0] == "layers" else self.rate

    @property
    def flops(self) -> float:
        """Of its product with one token's activations: 2 a weight, as often as it is applied."""
        return 2 * self.size * self.rate


def bias(of: Param, dims: int = 1) -> Param:
    """The bias of a matrix: added to its outputs, which are its last dimensions."""
    axes = tuple("norm" if axis == "embed" else axis for axis in of.axes[-dims:])
    return replace(of, shape=of.shape[-dims:], axes=axes, role="bias", fan_in=1, matmul=False, std=None)


Tree: TypeAlias = dict[str, Union[Param, "Tree"]]


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Param]]:
    """(path, parameter) of every leaf, in order."""
    for name, value in tree.items():
        if isinstance(value, Param):
            yield (*path, name), value
        else:
            yield from leaves(value, (*path, name))


def changed(tree: Tree, change: Callable[[Param], Param]) -> Tree:
    """The same tree with `change` of each parameter."""
    return {name: change(value) if isinstance(value, Param) else changed(value, change) for name, value in tree.items()}


def stacked(tree: Tree, n: int, shared: bool = False) -> Tree:
    """The parameters of n layers: stacked along 'layers', or one layer's that all of them share (but for `own`)."""

    def lead(value: Param) -> Param:
        if shared and not value.own:
            return replace(value, again=()) if value.once else replace(value, rate=value.rate * n)
        return replace(value, shape=(n, *value.shape), axes=("layers", *value.axes))

    return changed(tree, lead)


def subtree(tree: Tree, name: str) -> Tree:
    """The inner node `name` of a declaration."""
    node: Any = tree[name]
    assert isinstance(node, dict)
    return node
