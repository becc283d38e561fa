"""Llama, Mistral, Qwen 3 and Gemma as Hugging Face stores them: decoders, of one table. No jax here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from encdec_jax.errors import require
from encdec_jax.interop.family import FULL, SLIDING, Fields, HFFamily, Path, layer_types, linear, rope_fields
from encdec_jax.model.config import ModelConfig, StackConfig

_BLOCK: dict[str, Path] = {
    "input_layernorm": ("attn_norm", "scale"),
    "self_attn.q_proj": ("attn", "q"),
    "self_attn.k_proj": ("attn", "k"),
    "self_attn.v_proj": ("attn", "v"),
    "self_attn.o_proj": ("attn", "o"),
    "self_attn.q_norm": ("attn", "q_scale"),
    "self_attn.k_norm": ("attn", "k_scale"),
    "mlp.gate_proj": ("mlp", "gate"),
    "mlp.up_proj": ("mlp", "up"),
    "mlp.down_proj": ("mlp", "down"),
}
_PRE = {"post_attention_layernorm": ("mlp_norm", "scale")}
_SANDWICH = {  # the name that others give to the norm in front of the MLP is here that behind attention
    "post_attention_layernorm": ("attn_branch_norm", "scale"),
    "pre_feedforward_layernorm": ("mlp_norm", "scale"),
    "post_feedforward_layernorm": ("mlp_branch_norm", "scale"),
}
_WHOLE: dict[str, Path] = {
    "model.embed_tokens.weight": ("embed", "table"),
    "model.norm.weight": ("decoder", "norm", "scale"),
    "lm_head.weight": ("head", "table"),
}


def _names(config: ModelConfig) -> dict[str, Path]:
    block = _BLOCK | (_SANDWICH if config.norm == "sandwich" else _PRE)
    found = {f"model.layers.{{i}}.{name}.weight": ("decoder", *path) for name, path in block.items()}
    for name, (sub, matrix) in _BLOCK.items():
        found |= linear(f"model.layers.{{i}}.{name}", "decoder", sub, matrix) if name.endswith("proj") else {}
    return _WHOLE | found


def stack(fields: Fields, window: int = 0, global_every: int = 0) -> StackConfig:
    """The size of a stack of these families."""
    d, heads = fields.whole("hidden_size"), fields.whole("num_attention_heads")
    key_heads = heads if fields["num_key_value_heads"] is None else fields.whole("num_key_value_heads")
    require(heads % key_heads == 0, "num_key_value_heads", key_heads, f"a divisor of num_attention_heads = {heads}")
    if fields["head_dim"] is None:
        require(d % heads == 0, "hidden_size", d, f"a multiple of num_attention_heads = {heads}, or a head_dim")
    dim = d // heads if fields["head_dim"] is None else fields.whole("head_dim")
    layers, d_ff = fields.whole("num_hidden_layers"), fields.whole("intermediate_size")
    return StackConfig(layers, d, heads, key_heads, dim, d_ff, window, global_every)


def _decoder(fields: Fields, size: StackConfig, **parts: Any) -> ModelConfig:
    tie = "all" if fields.flag("tie_word_embeddings") else "inputs"
    vocab, epsilon = fields.whole("vocab_size"), fields.number("rms_norm_eps")
    return ModelConfig("causal_lm", vocab, size, tie=tie, norm_epsilon=epsilon, **parts)  # type: ignore[arg-type]


_COMMON = {"rms_norm_eps": 1e-6, "attention_bias": False, "mlp_bias": False}
_SILU = {**_COMMON, "hidden_act": "silu", "tie_word_embeddings": False, "rope_theta": 10_000.0}
_LLAMA: dict[str, Any] = {
    **_SILU,
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_QWEN2 = {**_LLAMA, "vocab_size": 151_936, "intermediate_size": 22_016, "use_sliding_window": False}
_MISTRAL = {**_LLAMA, "intermediate_size": 14_336, "num_key_value_heads": 8, "sliding_window": 4096}
_QWEN3 = {
    **_LLAMA,
    "vocab_size": 151_936,
    "intermediate_size": 22_016,
    "num_key_value_heads": 32,
    "head_dim": 128,
    "use_sliding_window": False,
}


def _silu(fields: Fields, size: StackConfig, **parts: Any) -> ModelConfig:
    fields.only("hidden_act", "silu")
    return _decoder(fields, size, embedding="unscaled", **fields.rope(), **parts)


def _biased(fields: Fields) -> str:
    return "all" if fields.flag("attention_bias") else "none"


def _llama(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """Llama 1 to 3 (arXiv 2302.13971, 2407.21783)."""
    fields = Fields(data, **_LLAMA)
    return _silu(fields, stack(fields), attention_bias=_biased(fields), mlp_bias=fields.flag("mlp_bias"))


def _qwen2(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """Qwen 2 (arXiv 2407.10671): Llama with biases of queries, keys and values; without windows."""
    fields = Fields(data, **_QWEN2)
    fields.only("use_sliding_window", False)
    return _silu(fields, stack(fields), attention_bias="qkv")


def _mistral(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """Mistral (arXiv 2310.06825): Llama, where each layer may have a window."""
    fields = Fields(data, **_MISTRAL)
    window = 0 if data.get("sliding_window", 4096) is None else fields.whole("sliding_window")
    return _silu(fields, stack(fields, window))


def _qwen3(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """Qwen 3 (arXiv 2505.09388): Llama with norms of queries and keys, whose scales are learned; without windows."""
    fields = Fields(data, **_QWEN3)
    fields.only("use_sliding_window", False)
    return _silu(fields, stack(fields), attention_bias=_biased(fields), qk_scaled_norm=True)


GEMMA: dict[str, Any] = {
    **_COMMON,
    "vocab_size": 256_000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "rope_theta": 10_000.0,
    "use_bidirectional_attention": False,
}
GEMMA3 = {
    **GEMMA,
    "vocab_size": 262_208,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "sliding_window_pattern": 6,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
}


def gemma_parts(fields: Fields, head_dim: int) -> dict[str, Any]:
    """What all Gemmas of the second generation and later are made of: fields of the model."""
    fields.only("attention_bias", False)
    fields.only("hidden_activation", "gelu_pytorch_tanh")
    scalar = fields.number("query_pre_attn_scalar")
    return {
        "mlp": "geglu",
        "norm": "sandwich",
        "zero_centred": True,
        "score_scale": 0.0 if scalar == head_dim else scalar**-0.5,
        "score_cap": fields.cap("attn_logit_softcapping"),
        "logit_cap": fields.cap("final_logit_softcapping"),
    }


def _gemma2(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """Gemma 2 (arXiv 2408.00118): caps, and a window in every other layer."""
    fields = Fields(data, **GEMMA)
    fields.only("use_bidirectional_attention", False)
    size = stack(fields, *fields.windows(fields.whole("num_hidden_layers"), 2))
    return _decoder(fields, size, **fields.rope(), **gemma_parts(fields, size.head_dim))


def _gemma3(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """Gemma 3's decoder (arXiv 2503.19786): norms of queries and keys for caps, and a base of RoPE for windows."""
    fields = Fields(data, **GEMMA3)
    fields.only("use_bidirectional_attention", False)
    size = stack(fields, *fields.windows(fields.whole("num_hidden_layers"), fields.whole("sliding_window_pattern")))
    return _decoder(fields, size, qk_scaled_norm=True, **two_ropes(fields), **gemma_parts(fields, size.head_dim))


def two_ropes(fields: Fields) -> dict[str, Any]:
    """RoPE of Gemma 3: a base of its own for windows, where nothing scales it."""
    local = fields.rope(SLIDING)
    require("rope_scaling" not in local, "rope_parameters: sliding_attention: rope_type", local, "default")
    return {**fields.rope(FULL), "local_theta": local["rope_theta"]}


def size_fields(size: StackConfig) -> dict[str, Any]:
    """The size of a stack as config.json has it."""
    return {
        "hidden_size": size.d_model,
        "intermediate_size": size.d_ff,
        "num_hidden_layers": size.n_layers,
        "num_attention_heads": size.n_heads,
        "num_key_value_heads": size.n_kv_heads,
        "head_dim": size.head_dim,
    }


def gemma_fields(config: ModelConfig, size: StackConfig) -> dict[str, Any]:
    """What config.json says of a Gemma's parts."""
    scalar = config.score_scale**-2 if config.score_scale else size.head_dim
    return {
        "query_pre_attn_scalar": round(scalar),
        "attn_logit_softcapping": config.score_cap or None,
        "final_logit_softcapping": config.logit_cap or None,
        "sliding_window": size.window or 4096,
    }


def local_fields(config: ModelConfig) -> dict[str, Any]:
    """What config.json says of RoPE in layers with a window, where it has a base of its own."""
    return {"rope_type": "default", "rope_theta": config.local_theta}


def _written(kind: str, cls: str, config: ModelConfig) -> dict[str, Any]:
    theta = rope_fields(config)
    found = {
        "architectures": [cls],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tie == "all",
        "rope_parameters": theta,
        "bos_token_id": None,
        **size_fields(config.decoder),
    }
    if kind in ("llama", "qwen3"):
        found["attention_bias"] = config.attention_bias != "none"
    if kind == "llama":
        found["mlp_bias"] = config.mlp_bias
    if kind == "mistral":
        found["sliding_window"] = config.decoder.window or None
    if kind.startswith("gemma"):
        found |= gemma_fields(config, config.decoder) | {"layer_types": layer_types(config)}
    if kind == "gemma3_text":
        found["rope_parameters"] = {FULL: theta, SLIDING: local_fields(config)}
    return found


def _of(kind: str, cls: str, read: Callable[[Mapping[str, Any], bool], ModelConfig]) -> HFFamily:
    unused = ("model.layers.*.self_attn.rotary_emb.inv_freq",)  # of old files: RoPE's frequencies
    same = {"lm_head.weight": "model.embed_tokens.weight"}
    return HFFamily(read, partial(_written, kind, cls), _names, same, unused)


DECODERS: dict[str, HFFamily] = {
    "llama": _of("llama", "LlamaForCausalLM", _llama),
    "mistral": _of("mistral", "MistralForCausalLM", _mistral),
    "qwen2": _of("qwen2", "Qwen2ForCausalLM", _qwen2),
    "qwen3": _of("qwen3", "Qwen3ForCausalLM", _qwen3),
    "gemma2": _of("gemma2", "Gemma2ForCausalLM", _gemma2),
    "gemma3_text": _of("gemma3_text", "Gemma3ForCausalLM", _gemma3),
}
