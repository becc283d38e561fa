"""Families of models as Hugging Face stores them: their configuration, and one table of names each. No jax here.

A row of a family's table is the name of a tensor, with {i} for the number of the layer, and the path of the parameter.
A matrix is stored [outputs, inputs] there, and here with its inputs first, heads and head_dim apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from encdec_jax.errors import require
from encdec_jax.model.config import ModelConfig, StackConfig

Path = tuple[str, ...]


@dataclass(frozen=True)
class HFFamily:
    """One family.

    Attributes:
      read: the model of a config.json, given whether the output head is a table of its own.
      write: what of config.json a model decides.
      names: its table.
      same: tensors that are others' copies, by name.
      unused: tensors that are stored and enter nothing.
    """

    read: Callable[[Mapping[str, Any], bool], ModelConfig]
    write: Callable[[ModelConfig], dict[str, Any]]
    names: Callable[[ModelConfig], dict[str, Path]]
    same: Mapping[str, str]
    unused: tuple[str, ...] = ()

    def tensors(self, config: ModelConfig) -> Iterator[tuple[str, Path, int | None]]:
        """(name, path, number of the layer, None for a parameter that is no layer's) of each tensor of a model."""
        for name, path in self.names(config).items():
            if "{i}" not in name:
                yield name, path, None
                continue
            stack = config.encoder if path[0] == "encoder" else config.decoder
            assert stack is not None
            for i in range(stack.n_layers):
                yield name.format(i=i), path, i


_FORWARD = {"relu": "relu", "gated-gelu": "geglu"}  # T5 1.0, and 1.1


def _t5(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """T5 (arXiv 1910.10683): biases of distance, scores that are not scaled, RMSNorm, and no biases else.

    Of T5 1.0 the head is the embedding table, times d_model^-0.5; T5 1.1 has one of its own, and no factor. The library
    takes the factor to be there unless a file says that the tables are apart.
    """
    scaled = data.get("scale_decoder_outputs", data.get("tie_word_embeddings", True) is not False)
    where = "with" if apart else "without"
    accepted = f"{str(not apart).lower()}, {where} an lm_head of its own; T5 1.0 has neither, T5 1.1 has both"
    require(scaled is not apart, "tie_word_embeddings", bool(scaled), accepted)
    forward, epsilon = data.get("feed_forward_proj", "relu"), data.get("layer_norm_epsilon", 1e-6)
    require(forward in _FORWARD, "feed_forward_proj", forward, "one of " + ", ".join(_FORWARD))
    require(epsilon == 1e-6, "layer_norm_epsilon", epsilon, "1e-06")

    def number(name: str, default: int | None = None) -> int:
        found = data.get(name)
        found = default if found is None else found
        require(type(found) is int and found > 0, name, found, "a whole number above 0")
        return int(found or 0)

    heads = number("num_heads", 8)
    layers = number("num_layers", 6)
    stack = StackConfig(layers, number("d_model", 512), heads, heads, number("d_kv", 64), number("d_ff", 2048))
    return ModelConfig(
        "enc_dec",
        number("vocab_size", 32128),
        decoder=replace(stack, n_layers=number("num_decoder_layers", layers)),
        encoder=stack,
        mlp=_FORWARD[forward],  # type: ignore[arg-type]
        tie="inputs" if apart else "all",
        position="t5",
        score_scale=1.0,
        embedding="plain",
        position_buckets=number("relative_attention_num_buckets", 32),
        position_range=number("relative_attention_max_distance", 128),
    )


def _mt5(data: Mapping[str, Any], apart: bool) -> ModelConfig:
    """mT5 (arXiv 2010.11934) is T5 1.1 with other defaults in the library, where its logits never have the factor."""
    defaults = {"vocab_size": 250_112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"}
    return _t5({**defaults, **data, "scale_decoder_outputs": False}, apart)


def _t5_config(config: ModelConfig) -> dict[str, Any]:
    stack, apart = config.decoder, config.tie != "all"
    forward = {ours: theirs for theirs, ours in _FORWARD.items()}
    require(config.mlp in forward, "model.mlp", config.mlp, "one of " + ", ".join(forward))
    require(config.encoder is not None, "model.arch", config.arch, "enc_dec")
    assert config.encoder is not None
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": stack.d_model,
        "d_kv": stack.head_dim,
        "d_ff": stack.d_ff,
        "num_heads": stack.n_heads,
        "num_layers": config.encoder.n_layers,
        "num_decoder_layers": stack.n_layers,
        "feed_forward_proj": forward[config.mlp],
        "layer_norm_epsilon": 1e-6,
        "relative_attention_num_buckets": config.position_buckets,
        "relative_attention_max_distance": config.position_range,
        "tie_word_embeddings": not apart,
        "scale_decoder_outputs": not apart,
    }


def _t5_names(config: ModelConfig) -> dict[str, Path]:
    wide = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if config.mlp == "geglu" else {"up": "wi", "down": "wo"}
    four = {name: name for name in "qkvo"}
    found: dict[str, Path] = {"shared.weight": ("embed", "table")}
    for side in ("encoder", "decoder"):
        subs = [("SelfAttention", "attn", four), ("EncDecAttention", "cross", four), ("DenseReluDense", "mlp", wide)]
        if side == "encoder":
            del subs[1]
        for place, (theirs, ours, matrices) in enumerate(subs):
            layer = f"{side}.block.{{i}}.layer.{place}"
            for name, matrix in matrices.items():
                found[f"{layer}.{theirs}.{matrix}.weight"] = (side, "blocks", ours, name)
            found[f"{layer}.layer_norm.weight"] = (side, "blocks", f"{ours}_norm", "scale")
        bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        found[bias] = (side, "positions", "t5", "bias")
        found[f"{side}.final_layer_norm.weight"] = (side, "norm", "scale")
    if config.tie != "all":
        found["lm_head.weight"] = ("head", "table")
    return found


_T5 = HFFamily(
    _t5,
    _t5_config,
    _t5_names,
    dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"), "shared.weight"),
    ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
)
FAMILIES: dict[str, HFFamily] = {"t5": _T5, "mt5": replace(_T5, read=_mt5)}
