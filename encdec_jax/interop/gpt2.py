"""GPT-2 as Hugging Face stores it: matrices with their inputs first, three projections in one. No jax here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from encdec_jax.errors import require
from encdec_jax.interop.bart import ACTIVATIONS
from encdec_jax.interop.family import Fields, HFFamily, Row, linear, norm
from encdec_jax.model.config import ModelConfig, StackConfig

_LAYER = "transformer.h.{i}"
_NAMES: dict[str, Row] = {
    "transformer.wte.weight": ("embed", "table"),
    "transformer.wpe.weight": ("decoder", "positions", "learned", "table"),
    f"{_LAYER}.attn.c_attn.weight": tuple(("decoder", "attn", name) for name in "qkv"),
    f"{_LAYER}.attn.c_attn.bias": tuple(("decoder", "attn", f"{name}_bias") for name in "qkv"),
    **linear(f"{_LAYER}.attn.c_proj", "decoder", "attn", "o"),
    **linear(f"{_LAYER}.mlp.c_fc", "decoder", "mlp", "up"),
    **linear(f"{_LAYER}.mlp.c_proj", "decoder", "mlp", "down"),
    **norm(f"{_LAYER}.ln_1", "decoder", "attn_norm"),
    **norm(f"{_LAYER}.ln_2", "decoder", "mlp_norm"),
    **norm("transformer.ln_f", "decoder", "norm"),
    "lm_head.weight": ("head", "table"),
}
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 50_257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def _read(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """GPT-2 (Radford et al. 2019): learned positions, LayerNorm in front of sublayers, biases everywhere."""
    fields = Fields(data, **_DEFAULTS)
    fields.only("scale_attn_weights", True)
    for name in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        fields.only(name, False)
    d, heads = fields.whole("n_embd"), fields.whole("n_head")
    require(d % heads == 0, "n_head", heads, f"a divisor of n_embd = {d}")
    d_ff = 4 * d if fields["n_inner"] is None else fields.whole("n_inner")
    return ModelConfig(
        "causal_lm",
        fields.whole("vocab_size"),
        StackConfig(fields.whole("n_layer"), d, heads, heads, d // heads, d_ff),
        mlp=fields.one_of("activation_function", ACTIVATIONS),
        norm_kind="layer",
        norm_epsilon=fields.number("layer_norm_epsilon"),
        position="learned",
        position_rows=fields.whole("n_positions"),
        embedding="unscaled",
        attention_bias="all",
        mlp_bias=True,
        tie="all" if fields.flag("tie_word_embeddings") else "inputs",
    )


def _written(config: ModelConfig) -> dict[str, Any]:
    size, back = config.decoder, {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    require(config.mlp in back, "model.mlp", config.mlp, "one of " + ", ".join(back))
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.position_rows,
        "n_embd": size.d_model,
        "n_layer": size.n_layers,
        "n_head": size.n_heads,
        "n_inner": size.d_ff,
        "activation_function": back[config.mlp],
        "layer_norm_epsilon": config.norm_epsilon,
        "tie_word_embeddings": config.tie == "all",
        "bos_token_id": None,
    }


GPT2 = HFFamily(
    _read,
    _written,
    lambda _: _NAMES,
    {"lm_head.weight": "transformer.wte.weight"},
    ("transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias"),  # of old files: the mask
    inputs_first=True,
    prefix="transformer.",
)
