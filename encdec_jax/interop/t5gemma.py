"""T5Gemma and T5Gemma 2, without its images, as Hugging Face stores them: encoder-decoders of Gemmas. No jax here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from encdec_jax.errors import require
from encdec_jax.interop.decoders import (
    GEMMA,
    GEMMA3,
    gemma_fields,
    gemma_parts,
    local_fields,
    size_fields,
    stack,
    two_ropes,
)
from encdec_jax.interop.family import FULL, SLIDING, Fields, HFFamily, Path, layer_types, rope_fields
from encdec_jax.model.config import ModelConfig, StackConfig

_BLOCK: dict[str, Path] = {
    "pre_self_attn_layernorm": ("attn_norm", "scale"),
    "post_self_attn_layernorm": ("attn_branch_norm", "scale"),
    "self_attn.q_proj": ("attn", "q"),
    "self_attn.k_proj": ("attn", "k"),
    "self_attn.v_proj": ("attn", "v"),
    "self_attn.o_proj": ("attn", "o"),
    "self_attn.q_norm": ("attn", "q_scale"),
    "self_attn.k_norm": ("attn", "k_scale"),
    "pre_cross_attn_layernorm": ("cross_norm", "scale"),
    "post_cross_attn_layernorm": ("cross_branch_norm", "scale"),
    "cross_attn.q_proj": ("cross", "q"),
    "cross_attn.k_proj": ("cross", "k"),
    "cross_attn.v_proj": ("cross", "v"),
    "cross_attn.o_proj": ("cross", "o"),
    "pre_feedforward_layernorm": ("mlp_norm", "scale"),
    "post_feedforward_layernorm": ("mlp_branch_norm", "scale"),
    "mlp.gate_proj": ("mlp", "gate"),
    "mlp.up_proj": ("mlp", "up"),
    "mlp.down_proj": ("mlp", "down"),
}
_HEAD, _TABLE = "lm_head.out_proj.weight", "model.decoder.embed_tokens.weight"
_SHARED = "model.encoder.embed_tokens.weight"


_BOTH: dict[str, Path] = {_HEAD: ("head", "table")}
for _stack in ("encoder", "decoder"):
    _BOTH[f"model.{_stack}.norm.weight"] = (_stack, "norm", "scale")
    _BOTH |= {f"model.{_stack}.layers.{{i}}.{name}.weight": (_stack, *path) for name, path in _BLOCK.items()}
_FIRST = _BOTH | {_SHARED: ("source_embed", "table"), _TABLE: ("embed", "table")}
_SECOND = _BOTH | {_SHARED: ("embed", "table")}


def _side(fields: Fields, every: int) -> tuple[StackConfig, dict[str, Any]]:
    """The size of a stack, and what both must have alike."""
    size = stack(fields, *fields.windows(fields.whole("num_hidden_layers"), every))
    vocab, epsilon = fields.whole("vocab_size"), fields.number("rms_norm_eps")
    return size, {"vocab_size": vocab, "norm_epsilon": epsilon, **gemma_parts(fields, size.head_dim)}


def _alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    require(one.keys() == other.keys(), "decoder: what is here", list(other), f"{list(one)}, as the encoder's")
    for name, value in one.items():
        require(other[name] == value, f"decoder: what is here {name}", other[name], f"{value}, as the encoder's")


def _t5gemma(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """T5Gemma (arXiv 2504.06225): two Gemma 2s with cross-attention, without RoPE there, and a table each.

    The library's encoder sees keys one position farther away than its decoder.
    """
    whole = Fields(data, tie_word_embeddings=True)
    found = []
    for side in ("encoder", "decoder"):
        fields = whole.within(side, **GEMMA)
        size, parts = _side(fields, 2)
        found.append((size, parts | fields.rope()))
    (encoder, parts), (decoder, others) = found
    _alike(parts, others)
    encoder = replace(encoder, window=encoder.window + 1) if encoder.window else encoder
    tie = "decoder" if whole.flag("tie_word_embeddings") else "none"
    return ModelConfig("enc_dec", decoder=decoder, encoder=encoder, tie=tie, cross_position="none", **parts)  # type: ignore[arg-type]


def _t5gemma2(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """T5Gemma 2 (arXiv 2512.14856): two Gemma 3s, one table, and the source's keys merged into self-attention.

    The library's encoder halves the window: as many keys to either side as the decoder sees in front, one more behind.
    """
    whole = Fields(data, tie_word_embeddings=True)
    whole.only("tie_word_embeddings", True)
    found = []
    for fields in (whole.within("encoder").within("text_config", **GEMMA3), whole.within("decoder", **GEMMA3)):
        size, parts = _side(fields, fields.whole("sliding_window_pattern"))
        found.append((size, parts | two_ropes(fields)))
    (encoder, parts), (decoder, others) = found
    _alike(parts, others)
    w = encoder.window
    encoder = replace(encoder, window=(w + 1) // 2, ahead=(w + 1) % 2) if w else encoder
    others = {"qk_scaled_norm": True, "cross_position": "none", "target_positions": "restart", **parts}
    return ModelConfig("enc_dec_merged", decoder=decoder, encoder=encoder, **others)


def _module(config: ModelConfig, side: str, window: int, theta: dict[str, Any]) -> dict[str, Any]:
    size = config.decoder if config.encoder is None or side == "decoder" else config.encoder
    return {
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": theta,
        "layer_types": layer_types(config, side),
        **size_fields(size),
        **gemma_fields(config, size),
        **({"sliding_window": window} if window > 0 else {}),
    }


def _t5gemma_config(config: ModelConfig) -> dict[str, Any]:
    require(config.encoder is not None, "model.arch", config.arch, "enc_dec")
    assert config.encoder is not None
    theta = rope_fields(config)
    windows = {"encoder": config.encoder.window - 1, "decoder": config.decoder.window}
    return {
        "architectures": ["T5GemmaForConditionalGeneration"],
        "model_type": "t5gemma",
        "is_encoder_decoder": True,
        "tie_word_embeddings": config.tie == "decoder",
        "vocab_size": config.vocab_size,
        **{side: _module(config, side, window, theta) for side, window in windows.items()},
    }


def _t5gemma2_config(config: ModelConfig) -> dict[str, Any]:
    require(config.encoder is not None, "model.arch", config.arch, "enc_dec_merged")
    assert config.encoder is not None
    both = {FULL: rope_fields(config), SLIDING: local_fields(config)}
    window = 2 * config.encoder.window - 1 + config.encoder.ahead
    return {
        "architectures": ["T5Gemma2ForConditionalGeneration"],
        "model_type": "t5gemma2",
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "encoder": {"text_config": _module(config, "encoder", window, both)},
        "decoder": _module(config, "decoder", config.decoder.window, both),
    }


T5GEMMAS: dict[str, HFFamily] = {
    "t5gemma": HFFamily(_t5gemma, _t5gemma_config, lambda _: _FIRST, {_HEAD: _TABLE}),
    "t5gemma2": HFFamily(
        _t5gemma2,
        _t5gemma2_config,
        lambda _: _SECOND,
        dict.fromkeys((_HEAD, _TABLE), _SHARED),
        # What an image is, and what stands behind one.
        ("model.encoder.vision_tower.*", "model.encoder.multi_modal_projector.*", "*.eoi_embedding"),
    ),
}
