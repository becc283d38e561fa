"""ModernBERT, an encoder, and its decoder, as Hugging Face stores them. Ettin is both. No jax here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from encdec_jax.errors import require
from encdec_jax.interop.family import FULL, SLIDING, Fields, HFFamily, Row, layer_types, linear, norm, rope_fields
from encdec_jax.model.config import ModelConfig, StackConfig

_TABLE = "model.embeddings.tok_embeddings.weight"
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 50_368,
    "hidden_size": 768,
    "intermediate_size": 1152,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "hidden_activation": "gelu",
    "norm_eps": 1e-5,
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "decoder_bias": True,
    "classifier_bias": False,
    "classifier_activation": "gelu",
    "local_attention": 128,
    "global_attn_every_n_layers": 3,
    "tie_word_embeddings": True,
    "rope_theta": 160_000.0,
    "rope_local_base_freq": 10_000.0,
}
_OLDER = {"global_rope_theta": "rope_theta", "local_rope_theta": "rope_local_base_freq"}


def _read(encoder: bool, data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """ModernBERT (arXiv 2412.13663); its decoder (Ettin, arXiv 2507.11412), whose windows reach one key less far.

    The first of each so many layers sees all, the others `local_attention` / 2 positions to either side.
    """
    fields = Fields({**data, **{new: data[old] for old, new in _OLDER.items() if old in data}}, **_DEFAULTS)
    for name in ("hidden_activation", "classifier_activation"):
        fields.only(name, "gelu")
    fields.only("classifier_bias", False)
    fields.only("tie_word_embeddings", True)
    scaling = fields["rope_scaling"]  # which scales both kinds of layers there
    require(scaling is None, "rope_scaling", scaling, "null: rope_parameters says it of layers that see all")
    d, heads, layers = (fields.whole(f) for f in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    require(d % heads == 0, "num_attention_heads", heads, f"a divisor of hidden_size = {d}")
    turns, ropes = fields.turns(layers, fields.whole("global_attn_every_n_layers"), first=True), fields.rope(FULL)
    windows: dict[str, Any] = {}
    if turns is not None:
        local = fields.rope(SLIDING)
        require("rope_scaling" not in local, "rope_parameters: sliding_attention: rope_type", local, "default")
        ropes["local_theta"] = local["rope_theta"]
        half = fields.whole("local_attention") // 2
        accepted = "an even number, at least 2"
        require(half > 0 and fields["local_attention"] % 2 == 0, "local_attention", fields["local_attention"], accepted)
        windows = {"window": half + encoder, **turns}
    return ModelConfig(
        "prefix_lm" if encoder else "causal_lm",
        fields.whole("vocab_size"),
        StackConfig(layers, d, heads, heads, d // heads, fields.whole("intermediate_size"), **windows),
        mlp="geglu_exact",
        norm_kind="layer" if fields.flag("norm_bias") else "layer_unbiased",
        norm_epsilon=fields.number("norm_eps"),
        embedding="unscaled",
        embedding_norm=True,
        first_norm=False,
        attention_bias="all" if fields.flag("attention_bias") else "none",
        mlp_bias=fields.flag("mlp_bias"),
        output_transform=True,
        logit_bias=fields.flag("decoder_bias"),
        **ropes,
    )


def _written(encoder: bool, config: ModelConfig) -> dict[str, Any]:
    size, theta = config.decoder, config.local_theta or config.rope_theta
    found = {
        "architectures": ["ModernBertForMaskedLM" if encoder else "ModernBertDecoderForCausalLM"],
        "model_type": "modernbert" if encoder else "modernbert-decoder",
        "vocab_size": config.vocab_size,
        "hidden_size": size.d_model,
        "intermediate_size": size.d_ff,
        "num_hidden_layers": size.n_layers,
        "num_attention_heads": size.n_heads,
        "layer_types": layer_types(config),
        "norm_eps": config.norm_epsilon,
        "norm_bias": config.norm_kind == "layer",
        "attention_bias": config.attention_bias == "all",
        "mlp_bias": config.mlp_bias,
        "decoder_bias": config.logit_bias,
        "rope_parameters": {FULL: rope_fields(config), SLIDING: {"rope_type": "default", "rope_theta": theta}},
        **dict.fromkeys(("bos_token_id", "cls_token_id", "sep_token_id"), 0),  # the library wants numbers
    }
    if size.window:
        found["local_attention"] = 2 * (size.window - encoder)
    return found


def _names(encoder: bool, config: ModelConfig) -> dict[str, Row]:
    layer, head = "model.layers.{i}", "head" if encoder else "lm_head"
    found: dict[str, Row] = {_TABLE: ("embed", "table"), "decoder.bias": ("embed", "logit_bias")}
    found |= norm("model.embeddings.norm", "decoder", "embedding_norm") | norm("model.final_norm", "decoder", "norm")
    found |= {f"{head}.dense.weight": ("transform", "dense"), **norm(f"{head}.norm", "transform", "norm")}
    for name in ("attn", "mlp"):
        found |= norm(f"{layer}.{name}_norm", "decoder", f"{name}_norm")
    for kind, suffix in (("weight", ""), ("bias", "_bias")):
        if encoder:
            found[f"{layer}.attn.Wqkv.{kind}"] = tuple(("decoder", "attn", f"{one}{suffix}") for one in "qkv")
        found[f"{layer}.mlp.Wi.{kind}"] = tuple(("decoder", "mlp", f"{one}{suffix}") for one in ("gate", "up"))
    apart = {} if encoder else {f"attn.{one}_proj": ("attn", one) for one in "qkv"}
    for name, (sub, matrix) in {**apart, "attn.Wo": ("attn", "o"), "mlp.Wo": ("mlp", "down")}.items():
        found |= linear(f"{layer}.{name}", "decoder", sub, matrix)
    return found


MODERNBERTS: dict[str, HFFamily] = {
    name: HFFamily(
        partial(_read, encoder),
        partial(_written, encoder),
        partial(_names, encoder),
        {"decoder.weight": _TABLE},
        objective="masked_lm" if encoder else "prefix_lm",
    )
    for name, encoder in {"modernbert": True, "modernbert-decoder": False}.items()
}
