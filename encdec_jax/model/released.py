"""Encoder-decoders whose weights are public, in families that `encdec convert` reads. No jax here.

Shapes are those of their config.json files; what `published` is from is said at each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.naming import PARITY, ROUNDED, Named, t5
from encdec_jax.model.released_single import GEMMA2_2B, GEMMA3, GEMMA3_1B, GEMMA3_270M


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
        **GEMMA3,
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


_COMPUTED: dict[str, Any] = {  # PEGASUS's and Marian's changes of BART: positions that nothing declares
    "embedding": "scaled",
    "embedding_norm": False,
    "position": "sinusoidal",
    "position_offset": 0,
    "position_rows": 1024,
}
_FLAN = {"small": (8, 512, 6, 1024, 80e6), "base": (12, 768, 12, 2048, 250e6), "large": (24, 1024, 16, 2816, 780e6)}
_FLAN |= {"xl": (24, 2048, 32, 5120, 3e9), "xxl": (24, 4096, 64, 10_240, 11e9)}
_MT5 = {"small": 300e6, "base": 580e6, "large": 1.2e9, "xl": 3.7e9, "xxl": 13e9}
# No number was to be had but the smallest's, nor files of base and xl: their vocabulary is the others' (unverified).
_UMT5 = {"small": (307e6, "parameters of huggingface.co/stefan-it/umt5-small"), "base": (None, "unverified")}
_UMT5 |= {"xl": (None, "unverified"), "xxl": (None, "vocabulary of Wan-Video/Wan2.1's text encoder")}
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
            **_COMPUTED,
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
            **_COMPUTED,
        ),
        "arXiv 1804.00344; Helsinki-NLP/opus-mt-en-de, whose 298 MB (transformers' page on Marian) are float32",
        298e6 / 4,
        parity=PARITY,
    ),
    "t5gemma-2b-2b": Named(
        ModelConfig(
            "enc_dec",
            256_000,
            GEMMA2_2B,
            replace(GEMMA2_2B, window=4097),
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
    "t5gemma2-270m-270m": _t5gemma2(GEMMA3_270M, "Gemma 3 270M's, from memory (unverified)", 370e6),
    "t5gemma2-1b-1b": _t5gemma2(GEMMA3_1B, "Gemma 3 1B's", 1.7e9),
    "t5gemma2-4b-4b": _t5gemma2(
        StackConfig(34, 2560, 8, 4, 256, 10_240, 1024, 6),
        "Gemma 3 4B's, as RoPE's reach is, from memory (unverified)",
        7e9,
        rope_scaling="linear",
        rope_factor=8.0,
    ),
}
