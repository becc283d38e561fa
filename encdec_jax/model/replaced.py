"""Blocks with something else in place of self-attention, made of the standard one. No jax here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from encdec_jax.errors import require
from encdec_jax.model.edge import Reads
from encdec_jax.model.parts.attention import Attention
from encdec_jax.model.parts.branches import DECODER, ENCODER, GatedUnit
from encdec_jax.model.parts.convolution import Convolution
from encdec_jax.model.parts.features import FeatureAttention
from encdec_jax.model.parts.positions import POSITIONS, rotated
from encdec_jax.model.parts.sublayer import Scope
from encdec_jax.model.parts.token_mixing import TokenMixing
from encdec_jax.model.sub import BlockSpec, Sub, placed

STAGES = 3  # of a Funnel Transformer's encoder (Dai et al., section 3; B4-4-4 in Tay et al., arXiv 2207.10551)


def lightweight(scope: Scope, standard: BlockSpec) -> BlockSpec:
    """The standard block with a convolution in place of self-attention."""
    return _in_place(scope, standard, placed(scope.config, "conv", Convolution()))


def dynamic(scope: Scope, standard: BlockSpec) -> BlockSpec:
    """The same, with a kernel for each position."""
    return _in_place(scope, standard, placed(scope.config, "conv", Convolution(dynamic=True)))


def evolved(scope: Scope, standard: BlockSpec) -> BlockSpec:
    """An Evolved Transformer's block, which stands for two standard layers (So et al., arXiv 1901.11117).

    The decoder's first attention has as many heads as its second, where the paper's has twice as many; MLPs are of one
    kind, where its encoder has ReLU and its decoder Swish.

    Raises:
      UserError: norms do not stand in front of sublayers, or as `lightweight`.
    """
    config = scope.config
    accepted = f"'pre', where norms stand with model.block = {config.block!r}"
    require(config.norm == "pre", "model.norm", config.norm, accepted)
    _apart(scope)
    attn, *cross, feed = standard
    if scope.side == "encoder":
        return placed(config, "gated", GatedUnit()), placed(config, "branches", ENCODER), attn, feed
    first = [
        replace(sub, name=f"first_{sub.name}", in_norm="first_norm", beside=sub is not attn) for sub in (attn, *cross)
    ]
    return (*first, placed(config, "branches", DECODER), attn, *cross, feed)


def performer(scope: Scope, standard: BlockSpec) -> BlockSpec:
    """The standard block with attention by random features in place of self-attention.

    Raises:
      UserError: as `_apart`, or something is asked of its softmax, or of pairs of tokens.
    """
    config, size = scope.config, scope.size
    accepted = "0, because model.block = 'performer' has no softmax and no scores of pairs to change"
    for name in ("score_cap", "sinks", "attention_dropout", "mixed_norm"):
        require(not getattr(config, name), f"model.{name}", getattr(config, name), accepted)
    require(size.window == 0, f"model.{scope.side}.window", size.window, accepted)
    position = POSITIONS[config.position]
    accepted = "one without biases of scores, which model.block = 'performer' has none of"
    require(not position.biased, "model.position", config.position, accepted)
    turned = rotated(config, size.head_dim)
    accepted = "an even number: RoPE turns pairs"
    require(not position.pairs or turned % 2 == 0, f"model.{scope.side}.head_dim", turned, accepted)
    _apart(scope)
    sub = placed(config, "attn", FeatureAttention(standard[0].layer.reads))
    return tuple(sub if one.name == "attn" else one for one in standard)


def funnel(scope: Scope, layer: int, standard: BlockSpec) -> BlockSpec:
    """The standard block at its stage of a Funnel Transformer's encoder (Dai et al., arXiv 2006.03236), or behind one.

    A third of the encoder's layers reads all tokens, the next places of 2 and the last places of 4. Where a stage
    begins, means of the places before go on, and are the queries; keys and values are made of what was not yet pooled
    (section 2.2). There is no decoder that restores the length: the target's reads the last stage. Unverified, and so
    ours: a token that is left over belongs to the last place, and there is no first token that stands apart.

    Raises:
      UserError: as `_apart`, the source does not see all of itself, or its layers are no three stages.
    """
    config, size = scope.config, scope.size
    arch = config.choices
    opened = arch.source_open and arch.own_encoder and arch.reads == "final"
    accepted = f"'standard', because {config.arch} does not read final states of an encoder that sees its whole source"
    require(opened, "model.block", config.block, accepted)
    _apart(scope)
    if scope.side == "decoder":
        return tuple(_strided(sub, lambda one: (1, 2 ** (STAGES - 1) if one.memory else 1)) for sub in standard)
    accepted = f"a multiple of {STAGES}, the stages of model.block = 'funnel'"
    require(size.n_layers % STAGES == 0, "model.encoder.n_layers", size.n_layers, accepted)
    require(
        size.window == 0, "model.encoder.window", size.window, "0, because model.block = 'funnel' has stages instead"
    )
    stage, place = divmod(layer, size.n_layers // STAGES)
    steps = 2**stage
    return tuple(_strided(sub, lambda _: (steps, steps // 2 if stage and not place else steps)) for sub in standard)


def _strided(sub: Sub, strides: Callable[[Reads], tuple[int, int]]) -> Sub:
    layer = sub.layer
    if not isinstance(layer, Attention):
        return sub
    return replace(sub, layer=replace(layer, reads=tuple(one._replace(strides=strides(one)) for one in layer.reads)))


def mixer(scope: Scope, standard: BlockSpec) -> BlockSpec:
    """The standard block with MLP-Mixer's token mixing in place of self-attention.

    Raises:
      UserError: as `_apart`, or there are windows.
    """
    window, accepted = scope.size.window, "0, because the hidden units of model.block = 'mixer' would see two windows"
    require(window == 0, f"model.{scope.side}.window", window, accepted)
    _apart(scope)
    reads = tuple(one._replace(position="none", whole=True) for one in standard[0].layer.reads)
    sub = placed(scope.config, "mixing", TokenMixing(reads))
    return tuple(sub if one.name == "attn" else one for one in standard)


def _in_place(scope: Scope, standard: BlockSpec, sub: Sub) -> BlockSpec:
    """The standard block with another sublayer in place of self-attention.

    Raises:
      UserError: as `_apart`, heads do not divide d_model, or there are windows.
    """
    _apart(scope)
    config, size = scope.config, scope.size
    accepted = f"0, because model.block = {config.block!r} sees as far as model.kernel_width"
    require(size.window == 0, f"model.{scope.side}.window", size.window, accepted)
    accepted = f"a divisor of d_model = {size.d_model}, whose channels they share (model.block = {config.block!r})"
    require(size.d_model % size.n_heads == 0, f"model.{scope.side}.n_heads", size.n_heads, accepted)
    return tuple(sub if one.name == "attn" else one for one in standard)


def _apart(scope: Scope) -> None:
    """Nothing, where the decoder reads the source in a sublayer of its own.

    Raises:
      UserError: self-attention is its way to the source.
    """
    config = scope.config
    accepted = f"'standard', because {config.arch} reads the source in its self-attention"
    require(config.choices.joins != "merged", "model.block", config.block, accepted)
