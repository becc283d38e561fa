"""Whether the parts of a model go together, asked when its edges are first derived: before any compute. No jax here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import MISSING, fields

from encdec_jax.errors import require
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.edge import Edge
from encdec_jax.model.parts.positions import POSITIONS, Position, rotated
from encdec_jax.model.parts.sublayer import Sublayer

ALWAYS = {  # what every model reads, whatever its parts; a base may be the size itself, and then changes nothing
    "norm_kind", "norm_epsilon", "embedding", "logit_cap", "residual_dropout", "embedding_dropout", "dtype",
    "base_width", "base_depth", "experts",
}  # fmt: skip
_ATTENTION = "a layer with attention (model.block)"
_T5 = "positions 't5' or 't5_by_layer' (model.position)"
_ROPE = "a layer that turns by model.rope_theta (model.position, cross_position, local_theta)"
READERS = {  # what would read a field
    "qk_norm": _ATTENTION,
    "qk_scaled_norm": _ATTENTION,
    "v_norm": _ATTENTION,
    "mixed_norm": _ATTENTION,
    "score_cap": _ATTENTION,
    "score_scale": _ATTENTION,
    "sinks": _ATTENTION,
    "tied_kv": _ATTENTION,
    "attention_bias": _ATTENTION,
    "attention_dropout": _ATTENTION,
    "rope_theta": _ROPE,
    "rope_share": "RoPE (model.position, cross_position)",
    "rope_scaling": _ROPE,
    "rope_factor": _ROPE,
    "rope_original": _ROPE,
    "local_theta": "RoPE in a layer with a window",
    "position": "a layer with attention, or a position that is added to embeddings",
    "position_buckets": _T5,
    "position_range": _T5,
    "position_rows": "learned positions, or model.block 'mixer'",
    "position_offset": "learned positions (model.position)",
    "target_positions": "a position that is not relative within the target alone (model.position)",
    "cross_position": "attention to a source, if it is another value than 'same' says",
    "block_length": "an architecture that sees by blocks (double_decoder)",
    "kernel_width": "a convolution (model.block 'lightweight' or 'dynamic')",
    "random_features": "model.block 'performer'",
    "final_norm": "norms that null does not say (model.norm)",
    "mlp": "an MLP",
    "window": "a layer without a way to see all (global_every)",
    "global_every": "as many layers",
    "global_first": "other layers than without it (global_every)",
    "ahead": "a layer with a window that sees what follows",
    "cross_every": "a decoder whose layers read a source",
}


def check_positions(config: ModelConfig) -> None:
    """Nothing, where `POSITIONS` has the positions that are named.

    Raises:
      UserError: it does not.
    """
    for name, position in (("position", config.position), ("cross_position", config.cross_position)):
        known = position in POSITIONS or (name, position) == ("cross_position", "same")
        require(known, f"model.{name}", position, "one of " + ", ".join(POSITIONS))
    placed = config.choices.source_open or not POSITIONS[config.position].restarts
    require(
        placed, "model.position", config.position, f"another, because {config.arch} does not tell source from target"
    )


def check_edges(config: ModelConfig, edges: Sequence[Edge]) -> None:
    """Nothing, where a model's parts go with its edges.

    Raises:
      UserError: one does not.
    """
    for edge in edges:
        position = POSITIONS[edge.reads.position]
        turned = rotated(config, edge.head_dim)
        if position.pairs and config.rope_share == 1:
            require(turned % 2 == 0, f"model.{edge.path[0]}.head_dim", turned, "an even number: RoPE turns pairs")
        elif position.pairs:
            accepted = f"a share of head_dim = {edge.head_dim} that is an even number, at least 2: RoPE turns pairs"
            require(turned >= 2 and turned % 2 == 0, "model.rope_share", config.rope_share, accepted)
        if config.attention == "splash":
            accepted = "'plain' or 'auto', because splash attention "
            known = edge.reads.fused is not None
            require(
                known,
                "model.attention",
                "splash",
                accepted + "has no sliding windows, blocks or mixing over positions here",
            )
            require(not position.biased, "model.attention", "splash", accepted + "takes no bias of positions")
    fused_alone = config.attention in ("splash", "cudnn")
    for name in ("score_cap", "sinks", "attention_dropout"):
        accepted = f"'plain' or 'auto', because fused attention has no model.{name}"
        require(not (fused_alone and getattr(config, name)), "model.attention", config.attention, accepted)
    reads = config.choices.joins is None or any(edge.reads.memory for edge in edges)
    every, accepted = config.decoder.cross_every, "the layers there are: none would read the source"
    fits = reads or every == 1
    require(fits, "model.decoder.cross_every", every, f"at most {config.decoder.n_layers}, {accepted}")
    require(reads, "model.block", config.block, f"one whose layers read the source, as {config.arch} does")


def check_read(
    config: ModelConfig, layers: Iterable[Sublayer], edges: Sequence[Edge], declared: Callable[[ModelConfig], object]
) -> None:
    """Nothing, where all that is not at its default is read: runs that differ in nothing would have two ids.

    Args:
      config: the model.
      layers: its sublayers.
      edges: what they look at.
      declared: what a configuration declares: its parameters and its layers.

    Raises:
      UserError: a field is read by no part, and nothing is declared by it.
    """
    looked = {edge.reads.position for edge in edges}
    position = POSITIONS[config.position]
    for side in ("decoder", *(("encoder",) if config.encoder else ())):
        read = any(edge.path[0] == side and edge.reads.position == config.position for edge in edges)
        accepted = f"one without biases of scores, because no layer of the {side} has them (model.block)"
        require(read or not position.biased, "model.position", config.position, accepted)
    held = {config.position} - looked if type(position).embed is not Position.embed else set()
    parts = [*layers, *(POSITIONS[name] for name in looked | held)]
    known = ALWAYS.union(*(getattr(part, "options", ()) for part in parts))
    if any(edge.reads.memory and POSITIONS[edge.reads.position].biased for edge in edges):
        known.add("target_positions")
    for side, part in (("", config), ("decoder.", config.decoder), ("encoder.", config.encoder)):
        for field in fields(part) if part else ():
            value, default = getattr(part, field.name), field.default
            same = default is MISSING or value == default or field.metadata.get("execution")
            if same or field.name in known or declared(config) != declared(_without(config, side, field.name, default)):
                continue
            reader = READERS.get(field.name)
            accepted = f"{default!r}, because nothing in this model reads it" + (f": {reader} would" if reader else "")
            require(False, f"model.{side}{field.name}", value, accepted)


def _without(config: ModelConfig, side: str, name: str, default: object) -> ModelConfig:
    """The same with a field at its default, whatever others say to that."""
    made = copy(config)
    stack = copy(getattr(config, side[:-1])) if side else made
    object.__setattr__(stack, name, default)
    if side:
        object.__setattr__(made, side[:-1], stack)
    return made
