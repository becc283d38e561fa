"""Every parameter of a model, declared once: its shape, its logical axes, and which tokens it is applied to.

Initialisation, sharding, weight decay, parameter counts and FLOPs all read this declaration. It is a nested dict whose
paths are the attribute paths of `encdec_jax.model.model.Model`; stacks carry a leading 'layers' axis. No jax here.

Logical axes: 'vocab', 'embed' (d_model), 'heads', 'kv_heads', 'head_dim', 'mlp' (d_ff), 'layers', 'norm' (a scale).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, Union

from encdec_jax.model.config import ModelConfig, StackConfig

Stream = Literal["source", "target"]


@dataclass(frozen=True)
class Param:
    """One parameter.

    Attributes:
      shape: in elements, with 'layers' first in a stack.
      axes: the logical name of each dimension.
      init: how it is drawn: ones, or normal with standard deviation fan_in ** -0.5.
      fan_in: inputs that one output sums over.
      width: the d_model that fan_in grows with, if a model is widened in proportion (a table's: its own d_model).
      group: the part of the ledger it is counted under.
      sees: the streams whose tokens it is applied to, once an entry: merged attention projects the source's states
        to keys and values twice, in the source's own pass and for the target's.
      matmul: whether it is applied as a matrix product (2 FLOPs a weight and token).
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init: Literal["normal", "ones"]
    fan_in: int
    width: int
    group: str
    sees: tuple[Stream, ...]
    matmul: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for dim in self.shape:
            n *= dim
        return n


Tree: TypeAlias = dict[str, Union[Param, "Tree"]]


def model(config: ModelConfig) -> Tree:
    """All parameters of the model of `config`."""
    arch, vocab = config.choices, config.vocab_size
    width = config.decoder.d_model
    streams: tuple[Stream, ...] = ("source", "target") if arch.own_stream else ("target",)
    tree: Tree = {}
    own_source = arch.own_stream and config.tie in ("decoder", "none")
    if own_source:
        source_width = config.encoder.d_model if config.encoder else width
        tree["source_embed"] = {"table": _table(vocab, source_width, "source embedding", ("source",))}
    tree["embed"] = {"table": _table(vocab, width, "target embedding", ("target",) if own_source else streams)}
    if config.encoder is not None:
        encoder = stack(config, config.encoder, "encoder", ("source",), None)
        if arch.reads == "layers":  # nobody reads what the encoder ends with
            del encoder["norm"]
        tree["encoder"] = encoder
    shared = streams if arch.shared == "blocks" else ("target",)
    memory = (config.encoder or config.decoder).d_model if arch.joins == "sublayer" else None
    tree["decoder"] = stack(config, config.decoder, "decoder", shared, memory)
    if config.tie in ("inputs", "none"):
        tree["head"] = {"table": replace(_table(vocab, width, "output head", ("target",)), matmul=True)}
    return tree


def stack(config: ModelConfig, size: StackConfig, side: str, sees: tuple[Stream, ...], memory: int | None) -> Tree:
    """A stack of blocks and its final norm. `memory` is the width that its cross-attention reads, if it has any."""
    layers = _stacked(block(config, size, side, sees, memory), size.n_layers)
    return {"blocks": layers, "norm": _norm(size.d_model, sees)}


def block(config: ModelConfig, size: StackConfig, side: str, sees: tuple[Stream, ...], memory: int | None) -> Tree:
    """One block: self-attention, cross-attention where it has any, MLP, each behind its norm."""
    d = size.d_model
    keys: tuple[Stream, ...] = (*sees, "source") if config.choices.joins == "merged" else sees
    tree: Tree = {"attn_norm": _norm(d, sees), "attn": _attention(size, d, f"{side} self-attention", sees, keys)}
    if memory is not None:
        tree["cross_norm"] = _norm(d, sees)
        tree["cross"] = _attention(size, memory, "cross-attention", sees, ("source",))
        if config.choices.reads == "layers":  # a layer's output is not normalised yet, the encoder's final output is
            tree["memory_norm"] = _norm(memory, ("source",))
    tree["mlp_norm"] = _norm(d, sees)
    tree["mlp"] = _mlp(config, size, sees)
    return tree


def logit_scale(config: ModelConfig) -> float:
    """What logits are multiplied by: (base_width / d_model) ** 0.5 under muP, else 1 (`encdec_jax.train.transfer`)."""
    return (config.base_width / config.decoder.d_model) ** 0.5 if config.base_width else 1.0


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Param]]:
    """(path, parameter) of every leaf, in order."""
    for name, value in tree.items():
        if isinstance(value, Param):
            yield (*path, name), value
        else:
            yield from leaves(value, (*path, name))


def _attention(
    size: StackConfig, memory: int, group: str, queries: tuple[Stream, ...], keys: tuple[Stream, ...]
) -> Tree:
    d, h, kv, dim = size.d_model, size.n_heads, size.n_kv_heads, size.head_dim
    key = Param((memory, kv, dim), ("embed", "kv_heads", "head_dim"), "normal", memory, memory, group, keys)
    return {
        "q": Param((d, h, dim), ("embed", "heads", "head_dim"), "normal", d, d, group, queries),
        "k": key,
        "v": key,
        "o": Param((h, dim, d), ("heads", "head_dim", "embed"), "normal", h * dim, d, group, queries),
    }


def _mlp(config: ModelConfig, size: StackConfig, sees: tuple[Stream, ...]) -> Tree:
    d = size.d_model
    up = Param((d, size.d_ff), ("embed", "mlp"), "normal", d, d, "MLPs", sees)
    down = Param((size.d_ff, d), ("mlp", "embed"), "normal", size.d_ff, d, "MLPs", sees)
    gate: Tree = {"gate": up} if config.mlp == "swiglu" else {}
    return {**gate, "up": up, "down": down}


def _norm(width: int, sees: tuple[Stream, ...]) -> Tree:
    return {"scale": Param((width,), ("norm",), "ones", width, width, "norms", sees, matmul=False)}


def _table(vocab: int, width: int, group: str, sees: tuple[Stream, ...]) -> Param:
    return Param((vocab, width), ("vocab", "embed"), "normal", width, width, group, sees, matmul=False)


def _stacked(tree: Tree, n: int) -> Tree:
    def lead(value: Param | Tree) -> Param | Tree:
        if isinstance(value, Param):
            return replace(value, shape=(n, *value.shape), axes=("layers", *value.axes))
        return {name: lead(v) for name, v in value.items()}

    return {name: lead(value) for name, value in tree.items()}
