"""Public models of one stack: language models, and ModernBERT's encoders. No jax here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.naming import LOGITS, PARITY, Named

NAMES = "its name rounds"
GEMMA3: dict[str, Any] = {"qk_scaled_norm": True, "rope_theta": 1e6, "local_theta": 1e4}
GEMMA2_2B = StackConfig(26, 2304, 8, 4, 256, 9216, 4096, 2)
GEMMA3_270M = StackConfig(18, 640, 4, 1, 256, 2048, window=512, global_every=6)
GEMMA3_1B = StackConfig(26, 1152, 4, 1, 256, 6912, 512, 6)


def _llama(layers: int, d_model: int, heads: int, d_ff: int) -> ModelConfig:
    stack = StackConfig(layers, d_model, heads, heads, d_model // heads, d_ff)
    return ModelConfig("causal_lm", 32_000, stack, tie="inputs", embedding="unscaled")


_LLAMA3 = ModelConfig(
    "causal_lm",
    128_256,
    StackConfig(32, 4096, 32, 8, 128, 14_336),
    rope_theta=5e5,
    norm_epsilon=1e-5,
    tie="inputs",
    embedding="unscaled",
)


def _qwen3(layers: int, d_model: int, d_ff: int) -> ModelConfig:
    stack = StackConfig(layers, d_model, 16, 8, 128, d_ff)
    base = ModelConfig("causal_lm", 151_936, stack, rope_theta=1e6, embedding="unscaled")
    return replace(base, qk_scaled_norm=True)


def _gemma(vocab: int, decoder: StackConfig, **changes: Any) -> ModelConfig:
    base = ModelConfig("causal_lm", vocab, decoder, mlp="geglu", norm="sandwich", zero_centred=True)
    return replace(base, **changes)


def _gpt2(layers: int, d_model: int, heads: int) -> ModelConfig:
    return ModelConfig(
        "causal_lm",
        50_257,
        StackConfig(layers, d_model, heads, heads, d_model // heads, 4 * d_model),
        mlp="gelu",
        norm_kind="layer",
        norm_epsilon=1e-5,
        embedding="unscaled",
        attention_bias="all",
        mlp_bias=True,
        position="learned",
    )


def _modernbert(arch: str, layers: int, d_model: int, d_ff: int, heads: int) -> ModelConfig:
    window = 65 if ARCHS[arch].source_open else 64
    size = StackConfig(layers, d_model, heads, heads, d_model // heads, d_ff, window, 3)
    return ModelConfig(
        arch,
        50_368,
        replace(size, global_first=True),
        rope_theta=160_000.0,
        local_theta=10_000.0,
        mlp="geglu_exact",
        norm_kind="layer_unbiased",
        norm_epsilon=1e-5,
        embedding="unscaled",
        embedding_norm=True,
        first_norm=False,
        output_transform=True,
        logit_bias=True,
    )


_MODERNBERT = {"modernbert-base": (22, 768, 1152, 12, 149e6), "modernbert-large": (28, 1024, 2624, 16, 395e6)}
_ETTIN_SOURCE = "arXiv 2507.11412; ModernBERT's parts"
_ETTIN = {"17m": (7, 256, 384, 4, 17e6), "32m": (10, 384, 576, 6, 32e6), "68m": (19, 512, 768, 8, 68e6)}
_ETTIN |= {"150m": (22, 768, 1152, 12, 150e6), "400m": (28, 1024, 2624, 16, 400e6), "1b": (28, 1792, 3840, 28, 1e9)}
_GPT2 = {"": (12, 768, 12, 124e6), "-medium": (24, 1024, 16, 355e6), "-large": (36, 1280, 20, 774e6)}
_GPT2 |= {"-xl": (48, 1600, 25, 1558e6)}
SINGLE: dict[str, Named] = {
    **{
        f"gpt2{name}": Named(_gpt2(*shape), "openai/gpt-2", told, parity=PARITY)
        for name, (*shape, told) in _GPT2.items()
    },
    **{
        name: Named(_modernbert("prefix_lm", *shape), "arXiv 2412.13663", told, parity=PARITY, objective="masked_lm")
        for name, (*shape, told) in _MODERNBERT.items()
    },
    **{
        f"ettin-{kind}{name}": Named(
            _modernbert(arch, *shape),
            _ETTIN_SOURCE,
            told,
            NAMES,
            parity=parity,
            objective="masked_lm" if kind else None,
        )
        for kind, arch, parity in (("encoder-", "prefix_lm", PARITY), ("", "causal_lm", LOGITS))
        for name, (*shape, told) in _ETTIN.items()
    },
    "llama-7b": Named(_llama(32, 4096, 32, 11_008), "arXiv 2302.13971", 6.7e9, parity=PARITY),
    "llama-13b": Named(_llama(40, 5120, 40, 13_824), "arXiv 2302.13971", 13.0e9, parity=PARITY),
    "llama-33b": Named(_llama(60, 6656, 52, 17_920), "arXiv 2302.13971", 32.5e9, parity=PARITY),
    "llama-65b": Named(_llama(80, 8192, 64, 22_016), "arXiv 2302.13971", 65.2e9, parity=PARITY),
    "llama3-8b": Named(_LLAMA3, "arXiv 2407.21783", 8e9, parity=PARITY),
    "llama3.1-8b": Named(
        replace(_LLAMA3, rope_scaling="llama3", rope_factor=8.0, rope_original=8192),
        "arXiv 2407.21783",
        8e9,
        parity=PARITY,
    ),
    "mistral-7b": Named(
        replace(_LLAMA3, vocab_size=32_000, rope_theta=1e4, decoder=replace(_LLAMA3.decoder, window=4096)),
        "arXiv 2310.06825",
        7e9,
        NAMES,
        parity=LOGITS,
    ),
    "qwen3-0.6b": Named(_qwen3(28, 1024, 3072), "arXiv 2505.09388", 0.6e9, parity=LOGITS),
    "qwen3-1.7b": Named(_qwen3(28, 2048, 6144), "arXiv 2505.09388", 1.7e9, NAMES, parity=LOGITS),
    "gemma2-2b": Named(
        _gemma(256_000, GEMMA2_2B, score_cap=50.0, logit_cap=30.0),
        "arXiv 2408.00118, table 2",
        2_614_636_800,
        parity=LOGITS,
    ),
    "gemma3-270m": Named(_gemma(262_144, GEMMA3_270M, **GEMMA3), "its model card", 270e6, parity=PARITY),
    "gemma3-1b": Named(
        _gemma(262_144, GEMMA3_1B, **GEMMA3),
        "arXiv 2503.19786, table 1",
        1_000e6,
        parity=PARITY,
    ),
}
