"""Published models by name: their shapes, where these are from, how many parameters they have, what is missing here.

`encdec count --preset NAME` counts them. T5-Efficient's names ('t5-efficient-small-el16-dl8') are read, not listed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from encdec_jax.errors import require
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ExpertConfig, ModelConfig, StackConfig
from encdec_jax.model.naming import PARITY, ROUNDED, T5_VOCAB, Named, t5
from encdec_jax.model.released import RELEASED
from encdec_jax.model.released_single import SINGLE


def named(name: str) -> Named:
    """A published model.

    Args:
      name: one of `NAMED`, or 't5-efficient-' and a name of arXiv 2109.10686.

    Raises:
      UserError: there is none of that name.
    """
    if name.startswith(EFFICIENT):
        return efficient(name)
    accepted = f"one of {', '.join(NAMED)}, or {EFFICIENT}SIZE-..., as in {EFFICIENT}small-el16-dl8"
    require(name in NAMED, "preset", name, accepted)
    return NAMED[name]


def efficient(name: str) -> Named:
    """A model of Tay et al. 2021 (arXiv 2109.10686) by its name: a size, and what differs from it.

    'nl' layers of both stacks, 'el' of the encoder, 'dl' of the decoder, 'ff' d_ff, 'dm' d_model, 'kv' head_dim, 'nh'
    heads, each with the number behind it, taken as it stands; 'skv' for keys and values of one projection.

    Raises:
      UserError: it is no such name, or shares heads ('sh'), which no part here does.
    """
    size, *changes = name.removeprefix(EFFICIENT).split("-")
    require(size in SIZES, "preset", name, f"{EFFICIENT} and one of {', '.join(SIZES)}")
    stack, published = SIZES[size]
    found: dict[str, int] = {}
    for change in changes:
        require(change != "sh", "preset", name, "no 'sh': there is no part that shares heads here")
        if change == "skv" and changes.count(change) == 1:
            continue
        key, digits = change[:2], change[2:]
        accepted = f"behind the size {', '.join(LETTERS)} with a number, each once, as in {EFFICIENT}small-el16-dl8"
        fits = key in LETTERS and key not in found and re.fullmatch("[1-9][0-9]{0,8}", digits) is not None
        require(fits, "preset", name, accepted)
        found[key] = int(digits)
    require("nl" not in found or not {"el", "dl"} & set(found), "preset", name, "nl, or el and dl, not both")
    both = found.get("nl", stack.n_layers)
    shape: dict[str, Any] = {field: found[key] for key, field in LETTERS.items() if field and key in found}
    like = replace(stack, **shape, n_kv_heads=found.get("nh", stack.n_heads))
    config = t5(replace(like, n_layers=found.get("el", both)), replace(like, n_layers=found.get("dl", both)))
    config = replace(config, tied_kv="skv" in changes)
    return Named(config, "arXiv 2109.10686", None if changes else published, ROUNDED, parity=PARITY)


EFFICIENT = "t5-efficient-"
LETTERS = {"nl": "", "el": "", "dl": "", "ff": "d_ff", "dm": "d_model", "kv": "head_dim", "nh": "n_heads"}
# One stack, and published parameters. The paper's table gives tiny, mini and small heads of 32; only heads of 64 have
# its own numbers of parameters (with 32 they are 14.0M, 26.5M and 51.0M).
SIZES: dict[str, tuple[StackConfig, float]] = {
    "tiny": (StackConfig(4, 256, 4, 4, 64, 1024), 16e6),
    "mini": (StackConfig(4, 384, 8, 8, 64, 1536), 31e6),
    "small": (StackConfig(6, 512, 8, 8, 64, 2048), 60e6),
    "base": (StackConfig(12, 768, 12, 12, 64, 3072), 220e6),
    "large": (StackConfig(24, 1024, 16, 16, 64, 4096), 738e6),
    "xl": (StackConfig(24, 1024, 32, 32, 128, 16384), 3e9),
    "xxl": (StackConfig(24, 1024, 128, 128, 128, 65536), 11e9),
}
BASE = SIZES["base"][0]
T5 = {"small": "small", "base": "base", "large": "large", "3b": "xl", "11b": "xxl"}  # names of the sizes in T5's paper
# RedLLM's sizes (arXiv 2510.26622): a decoder, and the layers of each stack of the encoder-decoder beside it.
REDLLM: dict[str, tuple[StackConfig, int]] = {
    "150m": (StackConfig(8, 1024, 8, 8, 128, 4096), 3),
    "1b": (StackConfig(16, 2048, 16, 16, 128, 8192), 7),
    "2b": (StackConfig(20, 2560, 20, 20, 128, 10_240), 9),
    "4b": (StackConfig(24, 3072, 24, 24, 128, 12_288), 10),
    "8b": (StackConfig(32, 4096, 32, 32, 128, 16_384), 14),
}
_DECLLM = ModelConfig("causal_lm", 32_768, REDLLM["150m"][0], qk_norm=True, v_norm=True)
_ROE = StackConfig(20, 1024, 6, 3, 64, 4096)


def _redllm(stack: StackConfig) -> ModelConfig:
    """RedLLM with such stacks: what its attention gives is normalised too."""
    return replace(_DECLLM, arch="enc_dec", decoder=stack, encoder=stack, mixed_norm=True)


def _shared(steps: int, **changes: Any) -> ModelConfig:
    """T5 base, each stack one layer that is applied so many times."""
    one = replace(BASE, n_layers=steps, distinct=1)
    return replace(t5(one, one), **changes)


# Zhang et al.'s grid: what the target reads, the source's final states or each layer's; and whether the source predicts
# too. None that sees all of itself can: EncDec has a causal encoder then, and of PrefixLM there is no such model.
ZHANG = {
    "encdec-top": "enc_dec",
    "encdec-top-source": "enc_dec_causal",
    "encdec-layers": "layerwise",
    "encdec-layers-source": "layerwise_causal",
    "prefixlm-top": "enc_dec_shared",
    "prefixlm-layers": "prefix_lm",
    "causallm-top": "causal_lm_top",
    "causallm-top-source": "causal_lm_top",
    "causallm-layers": "causal_lm",
    "causallm-layers-source": "causal_lm",
}
ZHANG_SOURCE = "arXiv 2202.00528; its sizes were not to be had: Transformer base's here, LMs twice as deep (unverified)"


def _zhang(arch: str) -> ModelConfig:
    """Transformer base, whose parts it has, as an architecture of the grid."""
    base, choices = RELEASED["transformer-base"].config, ARCHS[arch]
    one = replace(base.decoder, n_layers=base.decoder.n_layers * (1 if choices.own_encoder else 2))
    positions = base.target_positions if choices.own_stream else "behind"
    encoder = one if choices.own_encoder else None
    return replace(base, arch=arch, decoder=one, encoder=encoder, target_positions=positions)


NAMED: dict[str, Named] = {
    **{
        f"t5-{name}": Named(
            t5(SIZES[size][0], SIZES[size][0]), "arXiv 1910.10683", SIZES[size][1], ROUNDED, parity=PARITY
        )
        for name, size in T5.items()
    },
    **{
        f"decllm-{name}": Named(replace(_DECLLM, decoder=size), "arXiv 2510.26622")
        for name, (size, _) in REDLLM.items()
    },
    **{
        f"redllm-{name}": Named(
            _redllm(replace(size, n_layers=layers)), "arXiv 2510.26622, beside DecLLM's of that name"
        )
        for name, (size, layers) in REDLLM.items()
    },
    "albert-t5-base": Named(
        _shared(12),
        "arXiv 2207.10551 (ALBERT); tensorflow/mesh",
        lacks=("an embedding through 128 dimensions",),
    ),
    "universal-t5-base": Named(
        _shared(24, block="stepped"),
        "arXiv 2207.10551 (Universal Transformer); tensorflow/mesh",
        lacks=("a use before and one behind",),
    ),
    "switch-base-128": Named(
        replace(t5(BASE, BASE), experts=ExpertConfig(128, every=2, capacity=1.25)),
        "arXiv 2101.03961, Switch-Base; google/flaxformer",
        7e9,
        f"{ROUNDED}, from memory (unverified)",
        ("noise of the router's inputs; as much room as 2.0 in evaluation",),
    ),
    "moe-base-32": Named(
        replace(
            t5(replace(BASE, d_ff=1536), replace(BASE, d_ff=1536)),
            experts=ExpertConfig(32, every=4, chosen=2, capacity=1.0),
        ),
        "arXiv 2102.11972 (MoE Transformer); its code's capacity of 2.0 holds both choices",
        lacks=("MLPs of 3,072 between its experts; second choices dropped at random",),
    ),
    "mos-t5-base": Named(replace(t5(BASE, BASE), softmaxes=15), "arXiv 2207.10551 (MoS-Transformer); tensorflow/mesh"),
    **{
        f"{block}-t5-base": Named(
            replace(t5(BASE, BASE), block=block, position="sinusoidal"),
            "arXiv 1901.10430; arXiv 2207.10551: tensorflow/mesh's width, fairseq's block",
        )
        for block in ("lightweight", "dynamic")
    },
    "performer-t5-base": Named(
        replace(t5(BASE, BASE), block="performer", position="sinusoidal"),
        "arXiv 2009.14794; arXiv 2207.10551 (Performer), which attentions it replaces there is unverified: here "
        "self-attention",
        lacks=("random features that are drawn anew",),
    ),
    "funnel-t5-base": Named(
        replace(t5(BASE, BASE), block="funnel"),
        "arXiv 2006.03236; arXiv 2207.10551 (Funnel Transformer): tensorflow/mesh's stages of 4 layers in the encoder",
        lacks=("means behind a stage's first attention, where these are its queries, as in the paper",),
    ),
    "mixer-t5-base": Named(
        replace(t5(BASE, BASE), block="mixer", position="none", position_rows=512, target_positions="restart"),
        "arXiv 2105.01601; arXiv 2207.10551 (MLP-Mixer), where it stands there is unverified: here in both stacks",
        lacks=("hidden units beside those of the positions, and biases",),
    ),
    "evolved-t5-base": Named(
        replace(t5(replace(BASE, n_layers=6), replace(BASE, n_layers=6)), block="evolved"),
        "arXiv 1901.11117; arXiv 2207.10551 (Evolved Transformer); tensorflow/mesh",
        lacks=("twice the heads in a block's first attention; Swish in its decoder",),
    ),
    "roe-330m": Named(
        ModelConfig(
            "enc_dec", T5_VOCAB, replace(_ROE, n_layers=10), _ROE, mlp="gelu", mlp_bias=True, cross_position="none"
        ),
        "arXiv 2501.16273; microsoft/encoder-decoder-slm",
        330e6,
    ),
    "roe-330m-residual": Named(
        ModelConfig(
            "enc_dec_residual",
            T5_VOCAB,
            replace(_ROE, n_layers=10),
            _ROE,
            mlp="gelu",
            mlp_bias=True,
            cross_position="none",
        ),
        "arXiv 2501.16273, a variant of roe-330m; its form is ours (unverified)",
    ),
    "yoco-3b": Named(
        ModelConfig("causal_lm", 100_288, StackConfig(26, 3072, 24, 8, 128, 8192, window=1024), block="yoco"),
        "arXiv 2405.05254 (YOCO-3B, sliding windows); the shape is from memory (unverified)",
    ),
    "double-decoder-100m": Named(
        ModelConfig(
            "double_decoder",
            32_000,
            StackConfig(4, 832, 13, 13, 64, 3328),
            StackConfig(8, 832, 13, 13, 64, 3328),
            mlp="gelu",
        ),
        "arXiv 2605.18807; 8 + 4 layers of its widest width in 64s (unverified)",
        lacks=("blocks of random lengths",),
    ),
    "palm-base": Named(
        ModelConfig("prefix_lm", T5_VOCAB, BASE, mlp="gelu", norm_kind="layer", position="separate", block="palm"),
        "arXiv 2304.04052 (PALM); the shape is T5 base's decoder, the paper's was not to be had (unverified)",
    ),
    **{
        f"zhang-{name}": Named(_zhang(arch), ZHANG_SOURCE, objective="prefix_lm", source_loss=name.endswith("-source"))
        for name, arch in ZHANG.items()
    },
    **RELEASED,
    **SINGLE,
}
