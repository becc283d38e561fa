"""Models whose weights are public, in families that `encdec convert` reads. No jax here.

Shapes are those of their config.json files; what `published` is from is said at each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.naming import LOGITS, PARITY, ROUNDED, Named, t5

NAMES = "its name rounds"
_GEMMA3: dict[str, Any] = {"qk_scaled_norm": True, "rope_theta": 1e6, "local_theta": 1e4}
_GEMMA2_2B = StackConfig(26, 2304, 8, 4, 256, 9216, 4096, 2)
_GEMMA3_270M = StackConfig(18, 640, 4, 1, 256, 2048, window=512, global_every=6)
_GEMMA3_1B = StackConfig(26, 1152, 4, 1, 256, 6912, 512, 6)


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


def _t5gemma2(decoder: StackConfig, shape: str, published: float, **changes: Any) -> Named:
    """T5Gemma 2 (arXiv 2512.14856) of two Gemma 3s: config.json files of its own are not open to everybody.

    The library halves the encoder's window: as many keys behind a query as in front of it, and one more.
    """
    config = ModelConfig(
        "enc_dec_merged",
        262_144,
        decoder,
        replace(decoder, window=decoder.window // 2, ahead=1),
        mlp="geglu",
        norm="sandwich",
        cross_position="none",
        target_positions="restart",
        zero_centred=True,
        **_GEMMA3,
        **changes,
    )
    source = f"arXiv 2512.14856, blog.google/technology/developers/t5gemma-2; the shape is {shape}"
    return Named(config, source, published, ROUNDED, parity=PARITY)


def _t5_gated(layers: int, d_model: int, heads: int, d_ff: int, head_dim: int = 64, **changes: Any) -> ModelConfig:
    """T5 1.1 and what is made of it: GEGLU, and an output head of its own."""
    stack = StackConfig(layers, d_model, heads, heads, head_dim, d_ff)
    return replace(t5(stack, stack), **{"mlp": "geglu", "tie": "inputs", **changes})


def _bart(vocab: int, layers: int, d_model: int, heads: int, d_ff: int, **changes: Any) -> ModelConfig:
    stack = StackConfig(layers, d_model, heads, heads, d_model // heads, d_ff)
    return replace(_BART, vocab_size=vocab, decoder=stack, encoder=stack, **changes)


_BART = ModelConfig(
    "enc_dec",
    50_265,
    StackConfig(12, 1024, 16, 16, 64, 4096),
    StackConfig(12, 1024, 16, 16, 64, 4096),
    mlp="gelu_exact",
    norm="post",
    norm_kind="layer",
    norm_epsilon=1e-5,
    embedding_norm=True,
    embedding="unscaled",
    attention_bias="all",
    mlp_bias=True,
    logit_bias=True,
    position="learned",
    position_rows=1026,
    position_offset=2,
    target_positions="restart",
)


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
_FLAN = {"small": (8, 512, 6, 1024, 80e6), "base": (12, 768, 12, 2048, 250e6), "large": (24, 1024, 16, 2816, 780e6)}
_FLAN |= {"xl": (24, 2048, 32, 5120, 3e9), "xxl": (24, 4096, 64, 10_240, 11e9)}
_MT5 = {"small": 300e6, "base": 580e6, "large": 1.2e9, "xl": 3.7e9, "xxl": 13e9}
# No number was to be had but the smallest's, nor files of base and xl: their vocabulary is the others' (unverified).
_UMT5 = {"small": (307e6, "parameters of huggingface.co/stefan-it/umt5-small"), "base": (None, "unverified")}
_UMT5 |= {"xl": (None, "unverified"), "xxl": (None, "vocabulary of Wan-Video/Wan2.1's text encoder")}
_GPT2 = {"": (12, 768, 12, 124e6), "-medium": (24, 1024, 16, 355e6), "-large": (36, 1280, 20, 774e6)}
_GPT2 |= {"-xl": (48, 1600, 25, 1558e6)}
RELEASED: dict[str, Named] = {
    **{
        f"flan-t5-{name}": Named(_t5_gated(*shape), "arXiv 2210.11416", told, ROUNDED, parity=PARITY)
        for name, (*shape, told) in _FLAN.items()
    },
    **{
        f"mt5-{name}": Named(
            _t5_gated(*_FLAN[name][:4], vocab_size=250_112), "arXiv 2010.11934", told, ROUNDED, parity=PARITY
        )
        for name, told in _MT5.items()
    },
    **{
        f"umt5-{name}": Named(
            _t5_gated(*_FLAN[name][:4], vocab_size=256_384, position="t5_by_layer"),
            f"arXiv 2304.09151, mT5's shapes; {where}",
            told,
            parity=PARITY,
        )
        for name, (told, where) in _UMT5.items()
    },
    "ul2": Named(_t5_gated(32, 4096, 16, 16_384, 256, mlp="swiglu"), "arXiv 2205.05131", 20e9, ROUNDED, parity=PARITY),
    "transformer-base": Named(
        replace(
            _bart(37_000, 6, 512, 8, 2048, mlp="relu", embedding="scaled", embedding_norm=False, logit_bias=False),
            position="sinusoidal_pairs",
            position_rows=1024,
            position_offset=0,
            attention_bias="none",
        ),
        "arXiv 1706.03762; about 37,000 ids, for which its table 3 has 65M",
        parity="torch.nn.Transformer, which has more biases and norms: logits, gradient (tests/interop/test_parity.py)",
    ),
    "bart-base": Named(_bart(50_265, 6, 768, 12, 3072), "facebookresearch/fairseq", 140e6, parity=PARITY),
    "bart-large": Named(_BART, "facebookresearch/fairseq", 406e6, parity=PARITY),
    "mbart-large": Named(
        replace(_BART, vocab_size=250_027, norm="pre", embedding="scaled", position="learned_unscaled"),
        "arXiv 2001.08210; facebookresearch/fairseq",
        610e6,
        parity=PARITY,
    ),
    "pegasus-large": Named(
        _bart(
            96_103,
            16,
            1024,
            16,
            4096,
            norm="pre",
            mlp="relu",
            embedding="scaled",
            embedding_norm=False,
            position="sinusoidal",
            position_offset=0,
            position_rows=1024,
        ),
        "arXiv 1912.08777",
        568e6,
        parity=PARITY,
    ),
    "opus-mt-en-de": Named(
        _bart(
            58_101,
            6,
            512,
            8,
            2048,
            mlp="silu",
            embedding="scaled",
            embedding_norm=False,
            position="sinusoidal",
            position_offset=0,
            position_rows=512,
        ),
        "arXiv 1804.00344; Helsinki-NLP/opus-mt-en-de, whose 298 MB (transformers' page on Marian) are float32",
        298e6 / 4,
        parity=PARITY,
    ),
    **{
        f"gpt2{name}": Named(_gpt2(*shape), "openai/gpt-2", told, parity=PARITY)
        for name, (*shape, told) in _GPT2.items()
    },
    "t5gemma-2b-2b": Named(
        ModelConfig(
            "enc_dec",
            256_000,
            _GEMMA2_2B,
            replace(_GEMMA2_2B, window=4097),
            mlp="geglu",
            norm="sandwich",
            zero_centred=True,
            score_cap=50.0,
            logit_cap=30.0,
            tie="decoder",
            cross_position="none",
        ),
        "arXiv 2504.06225",
        parity=PARITY,
    ),
    "t5gemma2-270m-270m": _t5gemma2(_GEMMA3_270M, "Gemma 3 270M's, from memory (unverified)", 370e6),
    "t5gemma2-1b-1b": _t5gemma2(_GEMMA3_1B, "Gemma 3 1B's", 1.7e9),
    "t5gemma2-4b-4b": _t5gemma2(
        StackConfig(34, 2560, 8, 4, 256, 10_240, 1024, 6),
        "Gemma 3 4B's, as RoPE's reach is, from memory (unverified)",
        7e9,
        rope_scaling="linear",
        rope_factor=8.0,
    ),
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
        _gemma(256_000, _GEMMA2_2B, score_cap=50.0, logit_cap=30.0),
        "arXiv 2408.00118, table 2",
        2_614_636_800,
        parity=LOGITS,
    ),
    "gemma3-270m": Named(_gemma(262_144, _GEMMA3_270M, **_GEMMA3), "its model card", 270e6, parity=PARITY),
    "gemma3-1b": Named(
        _gemma(262_144, _GEMMA3_1B, **_GEMMA3),
        "arXiv 2503.19786, table 1",
        1_000e6,
        parity=PARITY,
    ),
}
