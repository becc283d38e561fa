"""Whether the parts of a model go together, asked when its edges are first derived: before any compute. No jax here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from encdec_jax.errors import require
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.edge import Edge
from encdec_jax.model.parts.positions import POSITIONS, rotated

OF_ATTENTION = {  # what nothing but attention reads
    "qk_norm", "qk_scaled_norm", "v_norm", "mixed_norm", "score_cap", "score_scale", "sinks", "tied_kv",
    "attention_bias", "attention_dropout",
}  # fmt: skip


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
    _check_read(config, edges)
    fused_alone = config.attention in ("splash", "cudnn")
    for name in ("score_cap", "sinks", "attention_dropout"):
        accepted = f"'plain' or 'auto', because fused attention has no model.{name}"
        require(not (fused_alone and getattr(config, name)), "model.attention", config.attention, accepted)
    reads = config.choices.joins is None or any(edge.reads.memory for edge in edges)
    every, accepted = config.decoder.cross_every, "the layers there are: none would read the source"
    fits = reads or every == 1
    require(fits, "model.decoder.cross_every", every, f"at most {config.decoder.n_layers}, {accepted}")
    require(reads, "model.block", config.block, f"one whose layers read the source, as {config.arch} does")


def _check_read(config: ModelConfig, edges: Sequence[Edge]) -> None:
    """Nothing, where some layer reads what is asked of attention and of its scores."""
    attends = any(not edge.reads.whole for edge in edges)
    for field in fields(config):
        value, why = getattr(config, field.name), f"because no layer has attention (model.block = {config.block!r})"
        read = attends or field.name not in OF_ATTENTION
        require(read or value == field.default, f"model.{field.name}", value, f"{field.default!r}, {why}")
    for side in ("decoder", *(("encoder",) if config.encoder else ())):
        read = any(edge.path[0] == side and edge.reads.position == config.position for edge in edges)
        accepted = f"one without biases of scores, because no layer of the {side} has them (model.block)"
        require(read or not POSITIONS[config.position].biased, "model.position", config.position, accepted)
