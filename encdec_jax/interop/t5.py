"""T5, T5 1.1, UL2, mT5 and UMT5 as Hugging Face stores them. No jax here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from encdec_jax.errors import require
from encdec_jax.interop.family import Fields, HFFamily, Path
from encdec_jax.model.config import ModelConfig, StackConfig

_FORWARD = {"relu": "relu", "gated-gelu": "geglu", "gated-silu": "swiglu"}  # T5 1.0, 1.1, and UL2

_DEFAULTS: dict[str, Any] = {
    "vocab_size": 32_128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "feed_forward_proj": "relu",
    "layer_norm_epsilon": 1e-6,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
}
_MULTILINGUAL: dict[str, Any] = {
    "vocab_size": 250_112,
    "d_ff": 1024,
    "num_layers": 8,
    "num_heads": 6,
    "feed_forward_proj": "gated-gelu",
}


def _t5(data: Mapping[str, Any], apart: bool, position: Any = "t5", **defaults: Any) -> ModelConfig:
    """T5 (arXiv 1910.10683): biases of distance, scores that are not scaled, RMSNorm, and no biases else.

    Of T5 1.0 the head is the embedding table, times d_model^-0.5; T5 1.1 has one of its own, and no factor. The library
    takes the factor to be there unless a file says that the tables are apart.
    """
    fields = Fields(data, **{**_DEFAULTS, **defaults})
    scaled = data.get("scale_decoder_outputs", data.get("tie_word_embeddings", True) is not False)
    where = "with" if apart else "without"
    accepted = f"{str(not apart).lower()}, {where} an lm_head of its own; T5 1.0 has neither, T5 1.1 has both"
    require(scaled is not apart, "tie_word_embeddings", bool(scaled), accepted)
    heads, layers = fields.whole("num_heads"), fields.whole("num_layers")
    size = StackConfig(layers, fields.whole("d_model"), heads, heads, fields.whole("d_kv"), fields.whole("d_ff"))
    below = layers if fields["num_decoder_layers"] is None else fields.whole("num_decoder_layers")
    return ModelConfig(
        "enc_dec",
        fields.whole("vocab_size"),
        decoder=replace(size, n_layers=below),
        encoder=size,
        mlp=fields.one_of("feed_forward_proj", _FORWARD),
        tie="inputs" if apart else "all",
        position=position,
        score_scale=1.0,
        embedding="plain",
        norm_epsilon=fields.number("layer_norm_epsilon"),
        position_buckets=fields.whole("relative_attention_num_buckets"),
        position_range=fields.whole("relative_attention_max_distance"),
    )


def _mt5(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """mT5 (arXiv 2010.11934) is T5 1.1 with other defaults in the library, where its logits never have the factor."""
    return _t5({**data, "scale_decoder_outputs": False}, apart, **_MULTILINGUAL)


def _umt5(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """UMT5 (arXiv 2304.09151): mT5 with a table of biases for each layer, and with the factor where T5 has it."""
    return _t5(data, apart, "t5_by_layer", **_MULTILINGUAL)


def _t5_config(config: ModelConfig) -> dict[str, Any]:
    stack, apart = config.decoder, config.tie != "all"
    forward = {ours: theirs for theirs, ours in _FORWARD.items()}
    require(config.mlp in forward, "model.mlp", config.mlp, "one of " + ", ".join(forward))
    require(config.encoder is not None, "model.arch", config.arch, "enc_dec")
    assert config.encoder is not None
    kind = "UMT5" if config.position == "t5_by_layer" else "T5"
    return {
        "architectures": [f"{kind}ForConditionalGeneration"],
        "model_type": kind.lower(),
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": stack.d_model,
        "d_kv": stack.head_dim,
        "d_ff": stack.d_ff,
        "num_heads": stack.n_heads,
        "num_layers": config.encoder.n_layers,
        "num_decoder_layers": stack.n_layers,
        "feed_forward_proj": forward[config.mlp],
        "layer_norm_epsilon": config.norm_epsilon,
        "relative_attention_num_buckets": config.position_buckets,
        "relative_attention_max_distance": config.position_range,
        "tie_word_embeddings": not apart,
        "scale_decoder_outputs": not apart,
        "decoder_start_token_id": 0,
    }


def _t5_names(config: ModelConfig) -> dict[str, Path]:
    wide = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if config.mlp != "relu" else {"up": "wi", "down": "wo"}
    four = {name: name for name in "qkvo"}
    found: dict[str, Path] = {"shared.weight": ("embed", "table")}
    for side in ("encoder", "decoder"):
        subs = [("SelfAttention", "attn", four), ("EncDecAttention", "cross", four), ("DenseReluDense", "mlp", wide)]
        if side == "encoder":
            del subs[1]
        for place, (theirs, ours, matrices) in enumerate(subs):
            layer = f"{side}.block.{{i}}.layer.{place}"
            for name, matrix in matrices.items():
                found[f"{layer}.{theirs}.{matrix}.weight"] = (side, ours, name)
            found[f"{layer}.layer_norm.weight"] = (side, f"{ours}_norm", "scale")
        bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        found[bias] = (side, "positions", "t5", "bias")
        found[bias.replace("block.0", "block.{i}")] = (side, "attn", "bias")
        found[f"{side}.final_layer_norm.weight"] = (side, "norm", "scale")
    return found | {"lm_head.weight": ("head", "table")}


_T5 = HFFamily(
    _t5,
    _t5_config,
    _t5_names,
    dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"), "shared.weight"),
    ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
)
T5S: dict[str, HFFamily] = {"t5": _T5, "mt5": replace(_T5, read=_mt5), "umt5": replace(_T5, read=_umt5)}
