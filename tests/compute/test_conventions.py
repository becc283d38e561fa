"""The conventions against numbers that their authors published, and against the ledger."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console
from support import model_config

from encdec_jax.compute.conventions import CONVENTIONS, restate
from encdec_jax.compute.ledger import count
from encdec_jax.compute.products import SCORES
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.errors import UserError
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.presets import preset
from encdec_jax.tables.conventions import print_restated, restated_json
from encdec_jax.train.config import TrainConfig


def run_of(model: ModelConfig, length: int, batch: int = 1) -> RunConfig:
    return RunConfig(
        model=model,
        data=DataConfig(length=length),
        objective=ObjectiveConfig("causal_lm" if model.arch == "causal_lm" else "prefix_lm"),
        train=TrainConfig(tokens=10 * batch * length, batch_size=batch),
    )


def llama2_7b(length: int, batch: int) -> RunConfig:
    stack = StackConfig(n_layers=32, d_model=4096, n_heads=32, n_kv_heads=32, head_dim=128, d_ff=11008)
    return run_of(ModelConfig("causal_lm", 32000, decoder=stack, tie="inputs"), length, batch)


@pytest.mark.parametrize(
    ("length", "weights", "attention", "before"),
    [(8192, 1299.00, 211.11, 1721.22), (129024, 20459.32, 52367.54, 125194.40)],
)
def test_maxtext_gives_its_own_published_figures(length, weights, attention, before):
    """TFLOPs of llama2-7b with 4 rows a device, from the table of MaxText's pull request #1988."""
    run = llama2_7b(length, batch=4)
    told, exact = restate(run, "maxtext"), count(run).train_flops
    assert told.parts["learnable weights"] * 4 == pytest.approx(weights * 1e12, rel=1e-5)
    assert told.parts["attention"] * 4 == pytest.approx(attention * 1e12, rel=3e-5)
    assert exact.dense == pytest.approx(before * 1e12, rel=1e-5)  # what it was before the halving
    assert told.update / exact.dense - 1 == pytest.approx(-0.12 if length == 8192 else -0.42, abs=0.005)


def test_maxtext_is_exact_on_a_causal_model_but_for_the_diagonal():
    run = run_of(model_config("causal_lm"), 12, batch=3)
    told, groups = restate(run, "maxtext"), count(run).train_flops.by("group")
    scores = sum(part.mask for group, part in groups.items() if group.endswith(SCORES))
    rest = sum(part.mask for group, part in groups.items() if not group.endswith(SCORES))
    assert told.parts["learnable weights"] * 3 == rest
    assert told.parts["attention"] * 3 == scores * 12 / 13  # half the square against the triangle with its diagonal


# Layers, d_model, d_ff, heads, key size, FLOPs over 6 N D: Chinchilla's Table A4 (arXiv 2203.15556, appendix F).
TABLE_A4 = [
    (10, 640, 2560, 10, 64, 1.03),
    (20, 1024, 4096, 16, 64, 1.10),
    (24, 1280, 5120, 10, 128, 1.08),
    (26, 1792, 7168, 14, 128, 1.04),
    (28, 2048, 8192, 16, 128, 1.03),
    (40, 3584, 14336, 28, 128, 0.99),
]


@pytest.mark.parametrize(("layers", "d", "ff", "heads", "dim", "ratio"), TABLE_A4, ids=lambda v: str(v))
def test_chinchilla_gives_its_published_ratios_without_lookups_and_logits(layers, d, ff, heads, dim, ratio):
    model = ModelConfig("causal_lm", 32000, decoder=StackConfig(layers, d, heads, heads, dim, ff), mlp="gelu")
    parts = restate(run_of(model, 2048), "chinchilla").parts
    blocks = sum(flops for part, flops in parts.items() if part not in ("embeddings", "final logits"))
    n = count(run_of(model, 2048)).params.total + layers * d * d  # Gopher's relative positions are parameters too
    assert blocks / (6 * n * 2048) == pytest.approx(ratio, abs=0.0051)
    assert parts["embeddings"] == parts["final logits"] == 3 * 2 * 2048 * 32000 * d


def test_kaplan_is_its_table_1():
    """N = 2 d_model n_layer (2 d_attn + d_ff); C_forward = 2 N + 2 n_layer n_ctx d_attn a token."""
    stack = StackConfig(n_layers=12, d_model=768, n_heads=12, n_kv_heads=12, head_dim=64, d_ff=3072)
    told = restate(run_of(ModelConfig("causal_lm", 50257, decoder=stack, mlp="gelu"), 1024), "kaplan")
    n = 2 * 768 * 12 * (2 * 768 + 3072)
    assert told.parts["6 x non-embedding parameters"] / 1024 == 6 * n
    assert told.token == 3 * (2 * n + 2 * 12 * 1024 * 768)


def test_levanter_by_hand():
    """Forward FLOPs a token of llama2-7b at 4096: gated MLP, qkv, output, attention with its mask, head."""
    attention = 4 * 4096 * 4096 + 3 * 4096 * 32
    forward = 32 * (6 * 4096 * 11008 + 6 * 4096**2 + 2 * 4096**2 + attention) + 2 * 4096 * 32000
    assert restate(llama2_7b(4096, 1), "levanter").token == 3 * forward


def test_levanter_takes_heads_to_fill_d_model():
    wide = StackConfig(n_layers=1, d_model=16, n_heads=4, n_kv_heads=2, head_dim=64, d_ff=24)
    parts = restate(run_of(ModelConfig("causal_lm", 64, decoder=wide), 8), "levanter").parts
    assert parts["qkv_proj"] == 3 * 8 * 2 * 16 * (4 * 4 + 2 * 2 * 4)


def test_6nd_charges_an_encoder_decoder_for_weights_that_a_token_never_meets():
    """GPT-3's table of compute (arXiv 2005.14165, appendix D) gives T5 3 FLOPs a parameter and token, not 6."""
    model = preset("enc_dec", d_model=512, dec_layers=6, vocab_size=64)
    run = run_of(model, 128)
    exact = count(run).train_flops.mask
    assert restate(run, "6ND").row == 6 * count(run).params.total * 128
    assert restate(run, "6ND").update / exact == pytest.approx(2, rel=0.1)
    decoder = run_of(preset("causal_lm", d_model=512, dec_layers=6, vocab_size=64), 128)
    assert restate(decoder, "6ND").update / count(decoder).train_flops.mask == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("arch", ARCHS)
def test_itemised_conventions_follow_the_streams(arch):
    """Their products of weights are the ledger's, over every architecture; full attention is its dense count."""
    run = run_of(model_config(arch), 12, batch=2)
    groups = count(run).train_flops.by("group")
    blocks = sum(part.mask for group, part in groups.items() if not (group.endswith(SCORES) or group == "output head"))
    scores = sum(part.dense for group, part in groups.items() if group.endswith(SCORES))
    chinchilla = restate(run, "chinchilla")
    assert (chinchilla.parts["attention projections"] + chinchilla.parts["dense blocks"]) * 2 == pytest.approx(blocks)
    assert chinchilla.parts["key @ query logits"] * 2 * 2 == pytest.approx(scores)
    head = 3 * 2 * 64 * 16 * (6 if ARCHS[arch].own_stream else 12)
    assert restate(run, "maxtext").parts["learnable weights"] * 2 == pytest.approx(blocks + 2 * head)
    for name in CONVENTIONS:
        told = restate(run, name)
        assert told.run == pytest.approx(told.token * 12 * 2 * 10)


def test_maxtext_halves_only_what_is_causal():
    attention = {arch: restate(run_of(model_config(arch), 12), "maxtext").parts["attention"] for arch in ARCHS}
    pair = 3 * 4 * 2 * 4 * 6  # of one pair in both layers
    assert attention["enc_dec"] == pair * (36 + 36 / 2 + 36)
    assert attention["enc_dec_causal"] == pair * (36 / 2 + 36 / 2 + 36)
    assert attention["coordinated"] == attention["enc_dec"]
    assert attention["prefix_lm"] == attention["causal_lm"] == pair * 144 / 2


def test_json_and_table_say_the_same():
    run = run_of(model_config("enc_dec"), 12, batch=2)
    data = json.loads(json.dumps(restated_json(run, "kaplan")))
    assert data["run"] == restate(run, "kaplan").run == sum(data["parts"].values()) * 2 * 10
    assert data["over_ledger"]["mask"] == pytest.approx(data["update"] / count(run).train_flops.mask)
    console = Console(width=140, record=True, file=StringIO())
    print_restated(run, console, "kaplan")
    text = console.export_text()
    for expected in (*data["parts"], "ledger, mask", f"{data['run']:.4g}", "2001.08361"):
        assert expected in text


def test_unknown_conventions_are_refused():
    with pytest.raises(UserError, match="as = 'palm' is not accepted: one of 6ND, kaplan"):
        restate(run_of(model_config("causal_lm"), 12), "palm")
