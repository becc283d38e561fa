"""The original Transformer, by the names of torch.nn.Transformer's state dict. No jax here.

That module has no tables and no config.json. Here its tensors stand as they are named there, beside embed.weight, the
table of ids; source_embed.weight, head.weight and head.bias where `tie` and `head_bias` say so. config.json holds
"model_type": "transformer", vocab_size, the module's arguments, and those three fields and `scale_embedding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from encdec_jax.errors import require
from encdec_jax.interop.family import Fields, HFFamily, Row, linear, norm
from encdec_jax.model.config import ModelConfig, StackConfig

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu_exact"}
_POSITIONS = {"interleaved": "sinusoidal_pairs", "halves": "sinusoidal"}
_DEFAULTS: dict[str, Any] = {
    "d_model": 512,
    "nhead": 8,
    "num_encoder_layers": 6,
    "num_decoder_layers": 6,
    "dim_feedforward": 2048,
    "activation": "relu",
    "layer_norm_eps": 1e-5,
    "norm_first": False,
    "bias": True,
    "tie": "all",
    "head_bias": False,
    "scale_embedding": True,
    "positions": "interleaved",
}


def _read(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """Vaswani et al. 2017 (arXiv 1706.03762), with a norm behind each stack, as torch has it: behind the last one."""
    fields = Fields(data, **_DEFAULTS)
    d, heads, d_ff = (fields.whole(name) for name in ("d_model", "nhead", "dim_feedforward"))
    require(d % heads == 0, "nhead", heads, f"a divisor of d_model = {d}")
    first, biased = fields.flag("norm_first"), fields.flag("bias")

    def size(side: str) -> StackConfig:
        return StackConfig(fields.whole(f"num_{side}_layers"), d, heads, heads, d // heads, d_ff)

    return ModelConfig(
        "enc_dec",
        fields.whole("vocab_size"),
        decoder=size("decoder"),
        encoder=size("encoder"),
        mlp=fields.one_of("activation", _ACTIVATIONS),
        norm="pre" if first else "post",
        norm_kind="layer" if biased else "layer_unbiased",
        norm_epsilon=fields.number("layer_norm_eps"),
        final_norm=None if first else True,
        tie=fields.one_of("tie", {name: name for name in ("all", "inputs", "decoder", "none")}),
        embedding="scaled" if fields.flag("scale_embedding") else "unscaled",
        position=fields.one_of("positions", _POSITIONS),
        target_positions="restart",
        attention_bias="all" if biased else "none",
        mlp_bias=biased,
        logit_bias=fields.flag("head_bias"),
    )


def _written(config: ModelConfig) -> dict[str, Any]:
    require(config.encoder is not None, "model.arch", config.arch, "enc_dec")
    assert config.encoder is not None
    size = config.decoder
    found = {
        "architectures": ["Transformer"],
        "model_type": "transformer",
        "vocab_size": config.vocab_size,
        "d_model": size.d_model,
        "nhead": size.n_heads,
        "num_encoder_layers": config.encoder.n_layers,
        "num_decoder_layers": size.n_layers,
        "dim_feedforward": size.d_ff,
        "layer_norm_eps": config.norm_epsilon,
        "norm_first": config.norm == "pre",
        "bias": config.mlp_bias,
        "tie": config.tie,
        "head_bias": config.logit_bias,
        "scale_embedding": config.embedding == "scaled",
    }
    for name, ours, known in (("activation", "mlp", _ACTIVATIONS), ("positions", "position", _POSITIONS)):
        back = {value: theirs for theirs, value in known.items()}
        value = getattr(config, ours)
        require(value in back, f"model.{ours}", value, "one of " + ", ".join(back))
        found[name] = back[value]
    return found


_SUBS = {
    "encoder": {"attn": "self_attn", "mlp": ""},
    "decoder": {"attn": "self_attn", "cross": "multihead_attn", "mlp": ""},
}


def _names(config: ModelConfig) -> dict[str, Row]:
    head = "head" if config.tie in ("inputs", "none") else "embed"
    found: dict[str, Row] = {"embed.weight": ("embed", "table"), "source_embed.weight": ("source_embed", "table")}
    found |= {"head.weight": ("head", "table"), "head.bias": (head, "logit_bias")}
    for side, subs in _SUBS.items():
        layer = f"{side}.layers.{{i}}"
        for place, (ours, theirs) in enumerate(subs.items(), 1):
            found |= norm(f"{layer}.norm{place}", side, f"{ours}_norm")
            if theirs:
                for kind, suffix in (("weight", ""), ("bias", "_bias")):
                    found[f"{layer}.{theirs}.in_proj_{kind}"] = tuple((side, ours, f"{one}{suffix}") for one in "qkv")
                found |= linear(f"{layer}.{theirs}.out_proj", side, ours, "o")
        found |= linear(f"{layer}.linear1", side, "mlp", "up") | linear(f"{layer}.linear2", side, "mlp", "down")
        found |= norm(f"{side}.norm", side, "norm")
    return found


ORIGINAL = HFFamily(_read, _written, _names, {})
