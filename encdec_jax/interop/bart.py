"""BART, mBART, PEGASUS and Marian as Hugging Face stores them: one model with four switches. No jax here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from encdec_jax.errors import require
from encdec_jax.interop.family import Fields, HFFamily, Path, linear, norm
from encdec_jax.model.config import ModelConfig, StackConfig

ACTIVATIONS = {"gelu": "gelu_exact", "gelu_new": "gelu", "relu": "relu", "swish": "silu"}
_SHARED = "model.shared.weight"


@dataclass(frozen=True)
class _Switches:
    """What the library's classes differ in. Fields of the file say none of it.

    Attributes:
      name: of the classes.
      norm: where norms stand.
      learned: positions are a table whose first two rows are of none; else sinusoids.
      embedding_norm, final_norm: norms of what goes into a stack, and of what comes out.
      vocab: rows of the table by default.
      model: behind `name`, that of the class with a head.
    """

    name: str
    norm: str
    learned: bool
    embedding_norm: bool
    final_norm: bool
    vocab: int = 50_265
    model: str = "ForConditionalGeneration"


_KINDS = {
    "bart": _Switches("Bart", "post", True, True, False),
    "mbart": _Switches("MBart", "pre", True, True, True),
    "pegasus": _Switches("Pegasus", "pre", False, False, True),
    "marian": _Switches("Marian", "post", False, False, False, 58_101, "MTModel"),
}
_DEFAULTS: dict[str, Any] = {
    "max_position_embeddings": 1024,
    **{f"{side}_layers": 12 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 4096 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 16 for side in ("encoder", "decoder")},
    "activation_function": "gelu",
    "d_model": 1024,
    "scale_embedding": False,
    "tie_word_embeddings": True,
    "share_encoder_decoder_embeddings": True,
}


def _read(kind: _Switches, data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """The model of a config.json; of old ones, fields that say what another class does are refused."""
    fields = Fields(data, **_DEFAULTS, vocab_size=kind.vocab)
    for name in ("tie_word_embeddings", "share_encoder_decoder_embeddings"):
        fields.only(name, True)
    for name, value in {
        "normalize_before": kind.norm == "pre",
        "add_final_layer_norm": kind.final_norm,
        "normalize_embedding": kind.embedding_norm,
        "static_position_embeddings": not kind.learned,
    }.items():
        require(data.get(name, value) == value, name, data.get(name), f"{value}, as {kind.name} is in the library")
    d, vocab = fields.whole("d_model"), fields.whole("vocab_size")
    decoders = data.get("decoder_vocab_size")
    require(decoders in (None, vocab), "decoder_vocab_size", decoders, f"{vocab}, as vocab_size")
    scaled = fields.flag("scale_embedding")

    def size(side: str) -> StackConfig:
        heads = fields.whole(f"{side}_attention_heads")
        require(d % heads == 0, f"{side}_attention_heads", heads, f"a divisor of d_model = {d}")
        return StackConfig(fields.whole(f"{side}_layers"), d, heads, heads, d // heads, fields.whole(f"{side}_ffn_dim"))

    learned: dict[str, Any] = {
        "position": "learned_unscaled" if scaled else "learned",
        "position_rows": fields.whole("max_position_embeddings") + 2,
        "position_offset": 2,
    }
    parts: dict[str, Any] = learned if kind.learned else {"position": "sinusoidal"}
    return ModelConfig(
        "enc_dec",
        vocab,
        decoder=size("decoder"),
        encoder=size("encoder"),
        mlp=fields.one_of("activation_function", ACTIVATIONS),
        norm=kind.norm,  # type: ignore[arg-type]
        norm_kind="layer",
        norm_epsilon=1e-5,
        final_norm=None if kind.final_norm == (kind.norm == "pre") else kind.final_norm,
        embedding_norm=kind.embedding_norm,
        embedding="scaled" if scaled else "unscaled",
        attention_bias="all",
        mlp_bias=True,
        logit_bias=True,
        target_positions="restart",
        **parts,
    )


def _written(model_type: str, config: ModelConfig) -> dict[str, Any]:
    require(config.encoder is not None, "model.arch", config.arch, "enc_dec")
    assert config.encoder is not None
    kind, back = _KINDS[model_type], {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    require(config.mlp in back, "model.mlp", config.mlp, "one of " + ", ".join(back))
    found = {
        "architectures": [kind.name + kind.model],
        "model_type": model_type,
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": config.decoder.d_model,
        "activation_function": back[config.mlp],
        "scale_embedding": config.embedding == "scaled",
        "decoder_start_token_id": 0,
        "bos_token_id": None,
        "forced_eos_token_id": None,
    }
    if kind.learned:
        found["max_position_embeddings"] = max(config.position_rows - 2, 1)
    for side, size in {"encoder": config.encoder, "decoder": config.decoder}.items():
        found[f"{side}_layers"], found[f"{side}_ffn_dim"] = size.n_layers, size.d_ff
        found[f"{side}_attention_heads"] = size.n_heads
    return found


_ATTENTION = {"attn": ("self_attn", "self_attn_layer_norm"), "cross": ("encoder_attn", "encoder_attn_layer_norm")}


def _names(config: ModelConfig) -> dict[str, Path]:
    found: dict[str, Path] = {_SHARED: ("embed", "table"), "final_logits_bias": ("embed", "logit_bias")}
    for side in ("encoder", "decoder"):
        layer = f"model.{side}.layers.{{i}}"
        for ours, (theirs, normed) in _ATTENTION.items():
            for name in ("q", "k", "v", "out"):
                found |= linear(f"{layer}.{theirs}.{name}_proj", side, ours, name[0])
            found |= norm(f"{layer}.{normed}", side, f"{ours}_norm")
        found |= linear(f"{layer}.fc1", side, "mlp", "up") | linear(f"{layer}.fc2", side, "mlp", "down")
        found |= norm(f"{layer}.final_layer_norm", side, "mlp_norm")
        found |= norm(f"model.{side}.layernorm_embedding", side, "embedding_norm")
        found |= norm(f"model.{side}.layer_norm", side, "norm")
        found[f"model.{side}.embed_positions.weight"] = (side, "positions", config.position, "table")
    return found


BARTS: dict[str, HFFamily] = {
    name: HFFamily(
        partial(_read, kind),
        partial(_written, name),
        _names,
        dict.fromkeys(
            ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"), _SHARED
        ),
        () if kind.learned else ("model.*.embed_positions.weight",),  # sinusoids, which some files hold
        rows=("final_logits_bias",),
    )
    for name, kind in _KINDS.items()
}
