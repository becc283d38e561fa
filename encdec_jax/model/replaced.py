"""Blocks with something else in place of self-attention, made of the standard one. No jax here."""

from __future__ import annotations

from dataclasses import replace

from encdec_jax.errors import require
from encdec_jax.model.parts.branches import DECODER, ENCODER, GatedUnit
from encdec_jax.model.parts.convolution import Convolution
from encdec_jax.model.parts.features import FeatureAttention
from encdec_jax.model.parts.positions import POSITIONS, rotated
from encdec_jax.model.parts.sublayer import Scope
from encdec_jax.model.parts.token_mixing import TokenMixing
from encdec_jax.model.sub import BlockSpec, Sub, placed


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
      UserError: as `_apart`, or heads do not divide d_model.
    """
    _apart(scope)
    config, size = scope.config, scope.size
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
