"""Small models of every family, their tensors drawn by name, and another library's logits of them.

python tests/interop/hf_cases.py [NAME ...]    # with torch and transformers: write golden/NAME.json anew
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

GOLDEN = Path(__file__).with_name("golden")
VOCAB, KEPT = 23, 3  # ids; positions of each row whose logits a golden file holds: its last ones
SOURCE, TARGET = (25, 14), (17, 12)  # tokens of each row, beyond windows and T5's last bucket


class Case(NamedTuple):
    """A model of transformers: its class, its configuration's class, and the latter's arguments."""

    model: str
    config: str
    arguments: dict


def t5(**changes: object) -> dict:
    sizes = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 5}
    distances = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12}
    return {**sizes, **distances, "dropout_rate": 0.0, "layer_norm_epsilon": 1e-5, **changes}


def decoder(**changes: object) -> dict:
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 5, "num_attention_heads": 6}
    return {**sizes, "num_key_value_heads": 2, "pad_token_id": 0, "rms_norm_eps": 1e-3, **changes}


def rope(kind: str) -> dict:
    bounds = {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if kind == "llama3" else {}
    reach = {"factor": 8.0, "original_max_position_embeddings": 10}
    return {"rope_type": kind, "rope_theta": 50.0, **reach, **bounds}


def bart(**changes: object) -> dict:
    encoder = {"encoder_layers": 3, "encoder_ffn_dim": 40, "encoder_attention_heads": 4}
    decoder = {"decoder_layers": 2, "decoder_ffn_dim": 36, "decoder_attention_heads": 6}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    return {"d_model": 24, "max_position_embeddings": 30, **encoder, **decoder, **ids, **changes}


def modernbert(**changes: object) -> dict:
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 8, "num_attention_heads": 4}
    ropes = {"full_attention": {"rope_theta": 500.0}, "sliding_attention": {"rope_theta": 20.0}}
    ids = {**dict.fromkeys(("pad_token_id", "cls_token_id"), 0), **dict.fromkeys(("eos_token_id", "sep_token_id"), 1)}
    return {**sizes, **ids, "bos_token_id": 2, "norm_eps": 1e-3, "rope_parameters": ropes, **changes}


ORIGINAL = {"d_model": 24, "nhead": 4, "num_encoder_layers": 3, "num_decoder_layers": 2, "dim_feedforward": 40}
GEMMA = {"vocab_size": VOCAB, "head_dim": 6, "sliding_window": 4, "query_pre_attn_scalar": 3}
SIGHT = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56}
CASES = {
    "t5": Case("T5ForConditionalGeneration", "T5Config", t5(feed_forward_proj="relu")),
    "t5-1.1": Case(
        "T5ForConditionalGeneration", "T5Config", t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    ),
    "ul2": Case(
        "T5ForConditionalGeneration", "T5Config", t5(feed_forward_proj="gated-silu", tie_word_embeddings=False)
    ),
    "mt5": Case("MT5ForConditionalGeneration", "MT5Config", t5(feed_forward_proj="gated-gelu")),
    "umt5": Case(
        "UMT5ForConditionalGeneration", "UMT5Config", t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    ),
    "llama": Case("LlamaForCausalLM", "LlamaConfig", decoder(rope_parameters={"rope_theta": 500.0})),
    "llama-3.1": Case("LlamaForCausalLM", "LlamaConfig", decoder(rope_parameters=rope("llama3"), head_dim=8)),
    "llama-yarn": Case("LlamaForCausalLM", "LlamaConfig", decoder(rope_parameters=rope("yarn"), head_dim=8)),
    "llama-tied": Case("LlamaForCausalLM", "LlamaConfig", decoder(tie_word_embeddings=True, head_dim=6)),
    "mistral": Case("MistralForCausalLM", "MistralConfig", decoder(sliding_window=4)),
    "qwen3": Case("Qwen3ForCausalLM", "Qwen3Config", decoder(head_dim=6, tie_word_embeddings=True)),
    "gemma2": Case(
        "Gemma2ForCausalLM",
        "Gemma2Config",
        decoder(head_dim=6, sliding_window=4, query_pre_attn_scalar=3, attn_logit_softcapping=2.0),
    ),
    "gemma3": Case(
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        decoder(
            head_dim=8,
            sliding_window=4,
            query_pre_attn_scalar=8,
            sliding_window_pattern=3,
            num_hidden_layers=7,
            rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}},
        ),
    ),
    "t5gemma": Case(
        "T5GemmaForConditionalGeneration",
        "T5GemmaConfig",
        {
            "encoder": decoder(**GEMMA, num_hidden_layers=3, attn_logit_softcapping=2.0),
            "decoder": decoder(**GEMMA, hidden_size=18, intermediate_size=20, attn_logit_softcapping=2.0),
        },
    ),
    "t5gemma2": Case(
        "T5Gemma2ForConditionalGeneration",
        "T5Gemma2Config",
        {
            "encoder": {
                "text_config": decoder(**GEMMA, sliding_window_pattern=2, num_hidden_layers=3),
                "vision_config": SIGHT,
                "vocab_size": VOCAB,
            },
            "decoder": decoder(**GEMMA, sliding_window_pattern=3, intermediate_size=20),
        },
    ),
    **{
        name.lower(): Case(
            f"{name}{'MTModel' if name == 'Marian' else 'ForConditionalGeneration'}", f"{name}Config", fields
        )
        for name, fields in {
            "Bart": bart(),
            "MBart": bart(scale_embedding=True),
            "Pegasus": bart(activation_function="relu", scale_embedding=True),
            "Marian": bart(activation_function="swish", scale_embedding=True),
        }.items()
    },
    "transformer": Case("", "", ORIGINAL),
    "gpt2": Case("GPT2LMHeadModel", "GPT2Config", {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 20}),
    "qwen2": Case("Qwen2ForCausalLM", "Qwen2Config", decoder()),
    "modernbert": Case("ModernBertForMaskedLM", "ModernBertConfig", modernbert(local_attention=6)),
    "modernbert-biased": Case(
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        modernbert(norm_bias=True, attention_bias=True, mlp_bias=True, decoder_bias=False, num_hidden_layers=3),
    ),
    "modernbert-decoder": Case(
        "ModernBertDecoderForCausalLM", "ModernBertDecoderConfig", modernbert(local_attention=8)
    ),
    "llama-biased": Case("LlamaForCausalLM", "LlamaConfig", decoder(attention_bias=True, mlp_bias=True)),
}
APART = {"t5-1.1", "ul2", "mt5", "umt5"}  # an output head of their own, though the library ties it unless they differ
ZERO_CENTRED = {"gemma2", "gemma3", "t5gemma", "t5gemma2"}


def drawn(case: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor that follows from its name: large enough, and norms far enough from 1, that no part goes unseen.

    Biases of norms are around 0: around 1, the states of all of BART's positions come out alike.
    """
    uniform = np.random.default_rng(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    if len(shape) == 1:
        centre = "norm" in name and not name.endswith("bias") and case not in ZERO_CENTRED
        return (uniform / 2 + centre).astype(np.float32)
    scale = 1.0 if "bias" in name else 2.5 * shape[-1] ** -0.5
    return (uniform * scale).astype(np.float32)


def padded(lengths: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids [rows, longest], and which of them are tokens."""
    ids = np.random.default_rng(seed).integers(2, VOCAB, (len(lengths), max(lengths)))
    shown = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return np.where(shown, ids, 0), shown


def last(logits: np.ndarray) -> np.ndarray:
    """Of logits [rows, target, vocab], those that a golden file holds: [rows, kept, vocab]."""
    return np.stack([row[n - KEPT : n] for row, n in zip(logits, TARGET, strict=True)])


def theirs(name: str) -> object:
    """The model of a case, its tensors as `drawn`."""
    import torch
    import transformers

    case = CASES[name]
    if name == "transformer":
        from torch_model import Original

        model = Original(**case.arguments).eval()
    else:
        config = getattr(transformers, case.config)(vocab_size=VOCAB, attn_implementation="eager", **case.arguments)
        model = getattr(transformers, case.model)(config).eval()
    if name in APART:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    if hasattr(model, "final_logits_bias"):
        shape = tuple(model.final_logits_bias.shape)
        bias = torch.tensor(drawn(name, "final_logits_bias", shape), requires_grad=True)  # a buffer that is added
        model.final_logits_bias = torch.nn.Buffer(bias)
    for tensor, weight in model.named_parameters():
        if name in ("pegasus", "marian") and "embed_positions" in tensor:
            continue
        weight.data = torch.tensor(drawn(name, stored(tensor), tuple(weight.shape)))
    return model


def stored(tensor: str) -> str:
    """A tensor's name in files, from which T5Gemma 2's leave a part out."""
    return tensor.replace(".text_model.", ".")


def their_logits(model: object) -> object:
    """A torch tensor [rows, target, vocab]."""
    import torch

    (source, read), (target, written) = padded(SOURCE, 1), padded(TARGET, 2)
    if not model.config.is_encoder_decoder:
        return model(torch.tensor(target), attention_mask=torch.tensor(written.astype(int))).logits
    given = {"input_ids": torch.tensor(source), "attention_mask": torch.tensor(read.astype(int))}
    return model(**given, decoder_input_ids=torch.tensor(target)).logits


def their_gradients(model: object) -> dict[str, np.ndarray]:
    """Behind a backward pass, of each tensor that entered it and is learnt, or is added as BART's bias of logits is."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {stored(tensor): weight.grad.numpy() for tensor, weight in named if weight.grad is not None}


def main() -> None:
    """Write the golden files of the cases that are named, or of all."""
    for name in sys.argv[1:] or CASES:
        model = theirs(name)
        logits = last(their_logits(model).detach().numpy())
        config = {key: value for key, value in model.config.to_dict().items() if not key.startswith("_")}
        config.pop("transformers_version", None)
        held = {"config": config, "logits": [[f"{x:.7g}" for x in row] for row in logits.reshape(-1, VOCAB)]}
        held["logits"] = [" ".join(row) for row in held["logits"]]
        (GOLDEN / f"{name}.json").write_text(json.dumps(held, indent=1) + "\n")
        print(name, np.abs(logits).max())


if __name__ == "__main__":
    main()
