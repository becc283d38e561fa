"""What must hold of every value of the core: a new position, norm, pattern or sublayer is a row here."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache, partial
from typing import Literal, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sublayers  # noqa: F401  (registers them)
from flax import nnx
from support import SMALL, concat, covering, example, logits, model_config, mostly_slow, stream, tokens
from support import parameters as drawn
from traced import abstract_batch, computed

from encdec_jax.compute.ledger import count
from encdec_jax.compute.products import SCORES
from encdec_jax.compute.witness import flops
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.evaluate.fair import row_nats
from encdec_jax.infer import kv_cache
from encdec_jax.model import declare
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.blocks import BLOCKS
from encdec_jax.model.config import ExpertConfig, ModelConfig, StackConfig
from encdec_jax.model.model import graph
from encdec_jax.model.param import leaves
from encdec_jax.model.parts.positions import POSITIONS
from encdec_jax.model.zoo import NAMED
from encdec_jax.train.config import TrainConfig
from encdec_jax.train.step import forward

S, T = 7, 5
CLOSE = {"atol": 3e-5, "rtol": 2e-5}
DEEP = replace(SMALL, n_layers=5)
LOCAL = replace(DEEP, window=3, global_every=2)


def model(arch: str, size: StackConfig = DEEP, **changes: object) -> ModelConfig:
    """A model whose stacks are of one size, but for what either alone reads."""
    if not ARCHS[arch].own_encoder:
        return model_config(arch, decoder=size, **changes)
    return model_config(arch, decoder=replace(size, ahead=0), encoder=replace(size, cross_every=1), **changes)


T5 = {"score_scale": 1.0, "embedding": "plain"}
BIASED = {
    "attention_bias": "all",
    "mlp_bias": True,
    "norm_kind": "layer",
    "norm_epsilon": 1e-5,
    "embedding": "unscaled",
}

CONFIGS = {
    "windows": model("enc_dec", LOCAL),
    "windows, merged": model("enc_dec_shared", LOCAL),
    "windows, one stream": model("prefix_lm", LOCAL, norm="sandwich"),
    "windows, layerwise": model("layerwise", LOCAL),
    "windows, coordinated": model("coordinated", LOCAL),
    "post-norm": model("enc_dec", norm="post", norm_kind="layer"),
    "no RoPE across": model("enc_dec", cross_position="none", mlp="gelu"),
    "no positions": model("causal_lm", position="none", norm_kind="layer"),
    "every other layer reads": model("enc_dec", replace(DEEP, cross_every=2)),
    "a user's positions": model("enc_dec", position="tests' own"),
    "a user's positions, merged": model("enc_dec_shared", position="tests' own", cross_position="same"),
    "a user's positions, one stream": model("prefix_lm", LOCAL, position="tests' own"),
    "depth shares one layer": model("enc_dec", replace(DEEP, distinct=1)),
    "depth shares a cycle": model("layerwise", replace(LOCAL, n_layers=4, distinct=2, cross_every=2)),
    "depth shares, but for a user's sublayer": model("prefix_lm", replace(DEEP, distinct=1), block="tests' own"),
    "merged, every other layer": model("enc_dec_shared", replace(DEEP, cross_every=2)),
    "ALBERT": model("enc_dec", replace(DEEP, distinct=1), mlp="gelu"),
    "Universal Transformer": model("enc_dec", replace(DEEP, distinct=1), block="stepped"),
    "Return of the Encoder": replace(
        model("enc_dec", replace(SMALL, n_layers=2, d_model=24), mlp="gelu", cross_position="none"),
        encoder=replace(SMALL, n_layers=4, d_model=24),
    ),
    "T5Gemma 2": model(
        "enc_dec_merged",
        LOCAL,
        norm="sandwich",
        mlp="geglu",
        cross_position="none",
        qk_scaled_norm=True,
        zero_centred=True,
        local_theta=20.0,
        target_positions="restart",
    ),
    "windows that reach farther ahead": model("enc_dec_merged", replace(LOCAL, ahead=1)),
    "windows that reach farther ahead, one stream": model("prefix_lm", replace(LOCAL, ahead=2)),
    "a base of RoPE for windows, merged": model("enc_dec_shared", LOCAL, local_theta=20.0),
    "Llama": model("causal_lm", embedding="unscaled", norm_epsilon=1e-2, tie="inputs"),
    "merged, an encoder of its own": model("enc_dec_merged", replace(DEEP, cross_every=2)),
    "merged, post-norm": model("enc_dec_merged", norm="post"),
    "merged, a user's positions in self-attention alone": model(
        "enc_dec_merged", position="tests' own", cross_position="none"
    ),
    "one layer in six reads": model("enc_dec", replace(SMALL, n_layers=6, cross_every=6)),
    "residual connections from encoder to decoder": replace(
        model("enc_dec_residual", SMALL, cross_position="none"), encoder=replace(SMALL, n_layers=4)
    ),
    "YOCO": model("causal_lm", replace(SMALL, n_layers=6, window=3), block="yoco"),
    "YOCO, a prefix, an odd depth": model("prefix_lm", DEEP, block="yoco", norm="sandwich", qk_scaled_norm=True),
    "PALM": model("prefix_lm", SMALL, block="palm", position="separate", norm_kind="layer", mlp="gelu"),
    "separate positions, two streams": model("enc_dec", SMALL, position="separate"),
    "double decoder": model("double_decoder", SMALL, block_length=4),
    "double decoder, positions in itself alone": replace(
        model("double_decoder", SMALL, block_length=3, cross_position="none", qk_scaled_norm=True),
        encoder=replace(SMALL, n_layers=3, window=4),
    ),
    "T5 1.0": model("enc_dec", SMALL, mlp="relu", position="t5", position_buckets=8, position_range=9, **T5),
    "T5's positions and soft-caps, merged": model(
        "enc_dec_shared", SMALL, position="t5", score_cap=2.0, logit_cap=3.0, score_scale=0.3
    ),
    "T5's positions, one stream": model(
        "prefix_lm", replace(SMALL, window=3), position="t5", position_buckets=4, position_range=5, qk_scaled_norm=True
    ),
    "T5's positions by layer, merged and not with the source": model(
        "enc_dec_merged", LOCAL, position="t5_by_layer", cross_position="none", position_buckets=8, position_range=9
    ),
    "UMT5": model("enc_dec", SMALL, position="t5_by_layer", position_buckets=8, position_range=9, **T5),
    "ALiBi": model("causal_lm", replace(SMALL, n_heads=6), position="alibi", mlp="relu2"),
    "learned positions": model(
        "enc_dec", SMALL, position="learned", position_rows=S + T, mlp="gelu_exact", embedding="plain"
    ),
    "mBART": model(
        "enc_dec",
        SMALL,
        position="learned_unscaled",
        position_rows=S + 2,
        position_offset=2,
        target_positions="restart",
        norm_kind="layer",
        attention_bias="all",
        mlp_bias=True,
        logit_bias=True,
        embedding_norm=True,
    ),
    "sinusoids and RedLLM's norms": model(
        "enc_dec", SMALL, position="sinusoidal", mlp="geglu", tie="inputs", qk_norm=True, v_norm=True, mixed_norm=True
    ),
    "GPT-2": model("causal_lm", SMALL, position="learned", position_rows=S + T, mlp="gelu", **BIASED),
    "BART": model(
        "enc_dec",
        SMALL,
        position="learned",
        position_rows=S + T,
        mlp="gelu_exact",
        norm="post",
        embedding_norm=True,
        logit_bias=True,
        **BIASED,
    ),
    "biases, merged, a final norm behind post-norm": model(
        "enc_dec_shared", SMALL, norm="post", final_norm=True, mlp="silu", **BIASED
    ),
    "biases, layer by layer": model("coordinated", LOCAL, embedding_norm=True, tie="none", logit_bias=True, **BIASED),
    "biases of queries, keys and values, no final norm, two tables, RoPE across, muP and CompleteP": model(
        "layerwise",
        SMALL,
        attention_bias="qkv",
        final_norm=False,
        position="sinusoidal_pairs",
        cross_position="rope",
        tie="decoder",
        base_width=8,
        base_depth=1,
    ),
    "a part of each head turns, by llama3's rule": model(
        "enc_dec", replace(SMALL, head_dim=8), rope_share=0.75, rope_scaling="llama3", rope_factor=4.0, rope_original=6
    ),
    "YaRN, sinks": model(
        "enc_dec_shared", SMALL, rope_scaling="yarn", rope_factor=3.0, rope_original=4, rope_theta=20.0, sinks=True
    ),
    "sinks and caps, one stream": model(
        "prefix_lm", SMALL, rope_scaling="linear", rope_factor=2.0, sinks=True, score_cap=2.0
    ),
    "keys and values of one projection": model("enc_dec", SMALL, tied_kv=True, attention_bias="all"),
    "keys and values of one projection, merged, with sinks": model(
        "coordinated", SMALL, tied_kv=True, sinks=True, attention_bias="qkv", v_norm=True, position="none"
    ),
    "LayerNorm without biases": model(
        "prefix_lm", SMALL, norm_kind="layer_unbiased", mlp="geglu_exact", mlp_bias=True, embedding_norm=True
    ),
    "ModernBERT": model(
        "prefix_lm",
        replace(SMALL, n_layers=4, window=3, global_every=3, global_first=True),
        local_theta=20.0,
        norm_kind="layer_unbiased",
        mlp="geglu_exact",
        embedding="unscaled",
        embedding_norm=True,
        first_norm=False,
        output_transform=True,
        logit_bias=True,
    ),
    "no first norm, merged layer by layer, a transform of all softmaxes": model(
        "coordinated", SMALL, first_norm=False, output_transform=True, softmaxes=2, norm_kind="layer"
    ),
    "lightweight convolution": model("enc_dec", block="lightweight", kernel_width=3, position="none"),
    "dynamic convolution": model("enc_dec", SMALL, block="dynamic", position="sinusoidal", norm="post"),
    "dynamic convolution, one stream": model("prefix_lm", replace(SMALL, n_layers=3), block="dynamic", kernel_width=5),
    "dynamic convolution, layerwise": model("layerwise", block="dynamic", kernel_width=3),
    "lightweight convolution, causal encoder": model("enc_dec_causal", SMALL, block="lightweight", kernel_width=7),
    "Evolved Transformer": model("enc_dec", SMALL, block="evolved", mlp="relu"),
    "Evolved Transformer, one stream": model("causal_lm", replace(SMALL, n_layers=1), block="evolved", mlp="silu"),
    "Evolved Transformer, layerwise": model("layerwise", SMALL, block="evolved", norm_kind="layer"),
    "Performer": model("enc_dec", block="performer", random_features=24),
    "Performer, one stream": model("prefix_lm", SMALL, block="performer", random_features=9),
    "Performer, causal encoder": model(
        "enc_dec_causal", SMALL, block="performer", random_features=8, position="learned", attention_bias="all"
    ),
    "Performer, layerwise, scores times 1": model("layerwise", block="performer", score_scale=1.0, tied_kv=True),
    "Funnel": model("enc_dec", replace(SMALL, n_layers=3), block="funnel", position="t5"),
    "Funnel, RoPE, depth shares the decoder": model_config(
        "enc_dec",
        decoder=replace(DEEP, distinct=1),
        encoder=replace(SMALL, n_layers=6),
        block="funnel",
        norm="post",
        attention_bias="all",
        tied_kv=True,
    ),
    "MLP-Mixer": model("enc_dec", SMALL, block="mixer", position_rows=16, position="none"),
    "MLP-Mixer, one stream": model("prefix_lm", SMALL, block="mixer", position_rows=16),
    "MLP-Mixer, layerwise": model("layerwise", SMALL, block="mixer", position_rows=16, target_positions="restart"),
    "mixture of softmaxes": model("enc_dec", SMALL, softmaxes=3, embedding="plain", logit_cap=4.0),
    "mixture of softmaxes, one stream": model("prefix_lm", SMALL, softmaxes=2, tie="inputs"),
    "Switch Transformer, room for all": model(
        "enc_dec", replace(SMALL, n_layers=4), mlp="relu", experts=ExpertConfig(4, every=2, capacity=4.0)
    ),
    "two experts of five, dropless": model("prefix_lm", experts=ExpertConfig(5, chosen=2, z_loss=1e-3)),
    "experts, shared by both streams and by depth": model(
        "enc_dec_shared", replace(DEEP, distinct=1), mlp="geglu", experts=ExpertConfig(3, chosen=3)
    ),
}


# Of execution, and of training alone: tests/identities/test_model.py, tests/model/test_kernels.py, tests/train.
ELSEWHERE = {"arch", "dtype", "attention_dropout", "residual_dropout", "embedding_dropout", "balance"}


def test_no_value_is_left_out() -> None:
    """Of each choice all values, of each number another than its default, and all kinds of layers and positions."""
    missing = []
    for kind in (ModelConfig, StackConfig, ExpertConfig):
        held = [one for config in CONFIGS.values() for one in parts(config) if isinstance(one, kind)]
        for field in fields(kind):
            taken = {getattr(one, field.name) for one in held}
            hint = get_type_hints(kind)[field.name]
            wanted = {*get_args(hint)} if get_origin(hint) is Literal else {False, True} if hint is bool else set()
            wanted |= {"block": {*BLOCKS}, "position": {*POSITIONS} - {"local_rope"}}.get(field.name, set())
            changes = isinstance(field.default, (int, float)) and taken <= {field.default}
            if field.name not in ELSEWHERE and not field.metadata.get("execution"):
                missing += [(field.name, value) for value in wanted - taken] + ([field.name] if changes else [])
    assert missing == []


def test_no_published_model_is_left_out() -> None:
    """Its kind of layers is in a row of its architecture, and so is each of its parts, by the test above.

    The identities of every architecture of standard layers are in test_model.py.
    """
    rows = {(config.arch, config.block) for config in CONFIGS.values()} | {(arch, "standard") for arch in ARCHS}
    assert {(found.config.arch, found.config.block) for found in NAMED.values()} <= rows


def parts(config: ModelConfig) -> list[object]:
    stacks = [stack for stack in (config.encoder, config.decoder) if stack is not None]
    return [config, config.experts, *stacks]


@cache
def parameters(config: ModelConfig) -> nnx.State:
    """As drawn, but for scales and biases, which begin as ones and zeros: of them no part could be missed."""
    params = drawn(config)
    noise = np.random.default_rng(7)
    for _, leaf in nnx.to_flat_state(params):
        if leaf.role in ("vector", "bias"):
            leaf[...] += jnp.asarray(0.2 * noise.standard_normal(leaf.shape), jnp.float32)
    return params


every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
# What compiles much is slow but for a few rows, which have each choice between them.
each_choice = pytest.mark.parametrize("config", mostly_slow(CONFIGS.values(), covering(CONFIGS), CONFIGS))


@every
def test_the_declaration_is_the_model(config: ModelConfig) -> None:
    declared = {path: (param.shape, param.axes) for path, param in leaves(declare.model(config))}
    held = {path: (leaf[...].shape, leaf.axes) for path, leaf in nnx.to_flat_state(parameters(config))}
    assert held == declared


@each_choice
def test_every_parameter_gets_a_gradient(config: ModelConfig) -> None:
    length = 2 * S if config.block == "funnel" else S  # of one place alone no query chooses
    source, target = example(config.arch, tokens(0, 2, length), tokens(1, 2, T))
    grads = jax.jit(jax.grad(lambda p: (logits(config, p, source, target, T) ** 2).mean()))(parameters(config))
    for path, leaf in nnx.to_flat_state(grads):
        assert np.abs(leaf[...]).max() > 0, path


def run(config: ModelConfig, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.asarray(logits(config, parameters(config), *example(config.arch, source, target), T))


@each_choice
def test_scanned_is_unrolled(config: ModelConfig) -> None:
    params, given = parameters(config), example(config.arch, tokens(0, 2, S), tokens(1, 2, T))
    one, other = (logits(replace(config, scan=scan), params, *given, T) for scan in (True, False))
    np.testing.assert_allclose(one, other, **CLOSE)


@each_choice
def test_packed_is_alone(config: ModelConfig) -> None:
    pairs = [(tokens(i, 2, S), tokens(10 + i, 2, T)) for i in range(2)]
    streams = [example(config.arch, *pair, segment=i + 1) for i, pair in enumerate(pairs)]
    sources = [source for source, _ in streams if source is not None]
    target = concat(*(target for _, target in streams))
    whole = target.tokens.shape[1]
    both = logits(config, parameters(config), concat(*sources) if sources else None, target, whole)
    for i, pair in enumerate(pairs):
        end = (i + 1) * whole // 2
        np.testing.assert_allclose(both[:, end - T : end], run(config, *pair), **CLOSE)


@each_choice
def test_cached_is_uncached(config: ModelConfig) -> None:
    source, target = tokens(0, 2, S), tokens(1, 2, T)
    params, model = parameters(config), graph(config)
    held = jax.jit(partial(kv_cache.prefill, model, capacity=T))(
        params, stream(source, 0, ARCHS[config.arch].source_open)
    )
    step = jax.jit(partial(kv_cache.decode, model))
    found = []
    for i in range(T):
        out, held = step(params, held, stream(target[:, i : i + 1], S + i))
        found.append(out)
    np.testing.assert_allclose(np.concatenate(found, axis=1), run(config, source, target), **CLOSE)


@each_choice
def test_causality_by_gradient(config: ModelConfig) -> None:
    """Nothing that follows has an influence, and the token itself has."""
    config = replace(config, tie="inputs")
    params = parameters(config)
    source, target = example(config.arch, np.arange(S)[None], S + np.arange(T)[None])

    def scores(table: jax.Array) -> jax.Array:
        changed = jax.tree.map(lambda leaf: leaf, params)
        changed["embed"]["table"][...] = table
        return logits(config, changed, source, target, T)[0] @ jax.random.normal(jax.random.key(3), (64,))

    @jax.jit
    def jacobian(table: jax.Array) -> jax.Array:
        back = jax.vjp(scores, table)[1]
        return jax.lax.map(lambda one: back(one)[0], jnp.eye(T))  # no vmap: JAX has none of a ragged product's gradient

    by_position = np.abs(jacobian(params["embed"]["table"][...])).max(axis=-1)[:, : S + T]
    for i in range(T):
        assert by_position[i, S + i] > 1e-8
        assert (by_position[i, S + i + 1 :] == 0).all()


@every
@pytest.mark.parametrize("scan", [True, False])
def test_the_ledger_is_what_the_step_computes(config: ModelConfig, scan: bool) -> None:
    config = replace(config, scan=scan)
    objective = ObjectiveConfig("causal_lm" if config.arch == "causal_lm" else "prefix_lm")
    train = RunConfig(config, DataConfig(length=S + T), objective, train=TrainConfig(batch_size=2))
    ledger = count(train)
    params, batch = jax.eval_shape(partial(drawn, config)), abstract_batch(train)
    passed = flops(lambda params, batch: forward(graph(config), params, batch, row_nats)[0], params, batch)
    assert passed == ledger.forward.dense
    assert computed(train) == ledger.train_flops.dense
    assert all(e.mask <= e.dense for e in ledger.forward.entries if SCORES in e.group)
