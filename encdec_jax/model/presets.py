"""One dial: models of the usual proportions, by architecture, width and depth."""

from __future__ import annotations

from typing import Any

from encdec_jax.errors import require
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import Activation, ModelConfig, StackConfig
from encdec_jax.model.parts.mlp import kind


def mlp_width(d_model: int, mlp: Activation) -> int:
    """The d_ff that gives an MLP about 8 d_model^2 weights: two matrices of 4 d_model, or three of 8/3 where gated."""
    return 8 * round(d_model / 3) if kind(mlp).gated else 4 * d_model


def preset(
    arch: str,
    *,
    d_model: int,
    dec_layers: int,
    enc_layers: int | None = None,
    vocab_size: int,
    head_dim: int = 64,
    mlp: Activation = "swiglu",
    **changes: Any,
) -> ModelConfig:
    """A model with heads that fill d_model, and an MLP of 8 d_model^2 weights a layer (gated: 8/3 d_model wide).

    Args:
      arch: a name of `encdec_jax.model.arch.ARCHS`.
      d_model: width of every stack.
      dec_layers: blocks of the decoder (of the only stack, where there is one).
      enc_layers: blocks of the encoder; as many as the decoder's if None. Only for architectures that have one.
      vocab_size: ids.
      head_dim: at most d_model; the number of heads is d_model / head_dim, rounded down.
      mlp: the feed-forward sublayer.
      **changes: further fields of `ModelConfig`.

    Raises:
      UserError: a value is not accepted.
    """
    require(arch in ARCHS, "arch", arch, "one of " + ", ".join(ARCHS))
    own = ARCHS[arch].own_encoder
    require(own or enc_layers is None, "enc_layers", enc_layers, f"None: {arch} has one stack of blocks")
    head = min(head_dim, d_model)
    width = mlp_width(d_model, mlp)

    def stack(layers: int) -> StackConfig:
        return StackConfig(layers, d_model, d_model // head, d_model // head, head, width)

    encoder = stack(dec_layers if enc_layers is None else enc_layers) if own else None
    return ModelConfig(arch, vocab_size, decoder=stack(dec_layers), encoder=encoder, mlp=mlp, **changes)
