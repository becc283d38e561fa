"""Prefill, decoding and caches: counted as `encdec_jax.infer` really computes and holds them, and by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import SMALL, example, model_config

from encdec_jax.compute import witness
from encdec_jax.compute.ledger import count
from encdec_jax.compute.products import SCORES
from encdec_jax.compute.quantities import decode_flops
from encdec_jax.compute.serving import BYTES, cache_bytes, decode, prefill
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.errors import UserError
from encdec_jax.infer import kv_cache as infer
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.model import graph, initial
from encdec_jax.model.streams import Stream, mask, opened
from encdec_jax.train.config import TrainConfig

SOURCE, CAPACITY = 7, 5
DEEPER = replace(SMALL, n_layers=3)
every_arch = pytest.mark.parametrize("arch", ARCHS)


def stream(length: int) -> Stream:
    ids = jax.ShapeDtypeStruct((1, length), jnp.int32)
    return Stream(ids, ids, ids, jax.ShapeDtypeStruct((1, length), jnp.bool_))


def inference_agrees(config: ModelConfig) -> None:
    model, params = graph(config), jax.eval_shape(lambda key: initial(config, key), jax.random.key(0))

    def taken_up(params, source):
        return infer.prefill(model, params, source, CAPACITY)

    def fed(params, cache, token):
        return infer.decode(model, params, cache, token)

    held = jax.eval_shape(taken_up, params, stream(SOURCE))
    assert witness.flops(taken_up, params, stream(SOURCE)) == prefill(config, SOURCE).dense
    assert witness.flops(fed, params, held, stream(1)) == decode(config, SOURCE, 0, CAPACITY).dense
    parts = [() if part is None else jax.tree.leaves(part.kv) for part in held]
    own, cross, context = (sum(leaf.size * leaf.dtype.itemsize for leaf in part) for part in parts)
    expected = cache_bytes(config, SOURCE, CAPACITY, config.dtype)
    assert (own + context, cross) == (expected.own, expected.cross)


@pytest.mark.parametrize("scan", [True, False])
@every_arch
def test_the_ledger_is_what_inference_computes_and_holds(arch: str, scan: bool) -> None:
    inference_agrees(model_config(arch, scan=scan))


@pytest.mark.parametrize("arch", ["enc_dec", "layerwise", "coordinated", "causal_lm"])
def test_whatever_blocks_are_made_of(arch: str) -> None:
    changes = {"mlp": "gelu", "qk_norm": True, "tie": "none", "dtype": "bfloat16"}
    inference_agrees(model_config(arch, **changes))


def test_keys_that_half_of_the_layers_share() -> None:
    """YOCO: one of the upper layers' keys is held, and a source goes no further up than the layer that makes them."""
    config = model_config("causal_lm", decoder=replace(SMALL, n_layers=6), block="yoco")
    inference_agrees(config)
    inference_agrees(replace(config, scan=False))
    inference_agrees(model_config("prefix_lm", block="palm", position="separate"))
    plain = replace(config, block="standard")
    assert cache_bytes(config, SOURCE, CAPACITY, "int8").own * 6 == cache_bytes(plain, SOURCE, CAPACITY, "int8").own * 4
    assert prefill(config, SOURCE).mask * 6 == prefill(plain, SOURCE).mask * 4


@pytest.mark.parametrize("scan", [True, False])
def test_layers_that_make_the_same_keys_of_a_source_hold_them_once(scan: bool) -> None:
    one = model_config("enc_dec", decoder=replace(SMALL, n_layers=4, distinct=1), scan=scan)
    two = replace(one, decoder=replace(one.decoder, distinct=2, cross_every=2))
    for config in (one, two):
        inference_agrees(config)
        assert cache_bytes(config, SOURCE, CAPACITY, "int8").cross == 2 * SOURCE * SMALL.n_kv_heads * SMALL.head_dim
    inference_agrees(replace(one, arch="enc_dec_merged"))  # joined to keys of its own, each layer's are others


def test_a_window_keeps_what_it_sees() -> None:
    local = replace(SMALL, n_layers=3, window=3, global_every=3)
    inference_agrees(model_config("causal_lm", decoder=local))
    inference_agrees(model_config("enc_dec_shared", decoder=local, scan=False))
    inference_agrees(model_config("double_decoder", block_length=3, encoder=replace(SMALL, window=4)))
    a_layer = 2 * 2 * 6 * BYTES["int8"]
    found = cache_bytes(model_config("causal_lm", decoder=local), 1000, 200, "int8")
    assert (found.own, found.cross) == (a_layer * (2 * 3 + 1200), 0)


def test_stages_of_a_source() -> None:
    inference_agrees(model_config("enc_dec", encoder=DEEPER, block="funnel", position="t5"))
    inference_agrees(model_config("enc_dec", encoder=replace(SMALL, n_layers=6), block="funnel", scan=False))


@pytest.mark.parametrize("arch", ["causal_lm", "enc_dec", "double_decoder"])
def test_all_tokens_of_a_target_are_what_each_costs(arch: str) -> None:
    """With a window a step's cost does not grow for ever, and with blocks it falls."""
    size = SMALL if arch == "double_decoder" else replace(SMALL, window=3)
    config = model_config(arch, decoder=size, block_length=3)
    steps = sum(decode(config, SOURCE, step, CAPACITY).mask for step in range(CAPACITY))
    assert decode_flops(config, SOURCE, CAPACITY) == pytest.approx(steps, rel=1e-12)


def test_unequal_depths() -> None:
    inference_agrees(model_config("enc_dec", encoder=DEEPER))


@every_arch
def test_mask_flops_of_decoding_are_the_keys_that_the_real_mask_shows(arch: str) -> None:
    source, target = example(arch, np.ones((1, SOURCE), int), np.ones((1, CAPACITY), int))
    shown = mask(target, target)[0].sum(axis=-1)[-CAPACITY:]
    if source is not None:
        shown += mask(target, opened(source))[0].sum(axis=-1)
    for step, keys in enumerate(shown):
        scores = [e.mask for e in decode(model_config(arch), SOURCE, step, CAPACITY).entries if SCORES in e.group]
        stacks = 2 if ARCHS[arch].context else 1
        assert sum(scores) == stacks * 4 * SMALL.n_layers * SMALL.n_heads * SMALL.head_dim * int(keys)


@every_arch
def test_a_forward_pass_is_a_prefill_and_every_target_token(arch: str) -> None:
    """But for the source's merged keys, which training projects twice where the two passes make the same ones."""
    config = model_config(arch)
    halves = RunConfig(
        config,
        DataConfig(source_length=SOURCE, target_length=CAPACITY),
        ObjectiveConfig("seq2seq"),
        train=TrainConfig(batch_size=1),
    )
    steps = sum(decode(config, SOURCE, step, CAPACITY).mask for step in range(CAPACITY))
    head = 0 if ARCHS[arch].own_stream else 2 * SOURCE * 64 * SMALL.d_model  # pairs are scored from the row's beginning
    keys = 2 * SMALL.n_layers * 2 * SMALL.d_model * SMALL.n_kv_heads * SMALL.head_dim * SOURCE
    again = keys if arch == "coordinated" else 0
    assert (
        prefill(config, SOURCE).mask + steps
        == count(halves, segments=((SOURCE, CAPACITY, 1.0),)).forward.mask - head - again
    )


def test_an_encoder_decoder_projects_the_source_once_and_for_all() -> None:
    config = model_config("enc_dec")
    keys = 2 * 2 * SMALL.d_model * SMALL.n_kv_heads * SMALL.head_dim * SMALL.n_layers
    assert prefill(config, SOURCE).by("group")["cross-attention"].mask == keys * SOURCE
    assert set(prefill(config, SOURCE).by("stream")) == {"source"}
    taken = decode(config, SOURCE, 0, CAPACITY)
    assert set(taken.by("stream")) == {"target"}
    assert taken.by("group")["cross-attention"].mask == 2 * 2 * SMALL.d_model * 4 * SMALL.head_dim * SMALL.n_layers


def test_bytes_of_a_cache_by_hand() -> None:
    """2 layers x 2 key heads of 6 x keys and values, 7 source and 5 target tokens."""
    a_token = 2 * 2 * 2 * 6
    for dtype, size in {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5}.items():
        for arch in ARCHS:
            found = cache_bytes(model_config(arch), SOURCE, CAPACITY, dtype)
            own = CAPACITY if ARCHS[arch].own_stream else SOURCE + CAPACITY
            stacks, times = (2, 3) if ARCHS[arch].context else (1, 1)
            assert found.own == stacks * own * a_token * size
            assert found.total == times * (SOURCE + CAPACITY) * a_token * size
    assert set(BYTES) == {"float32", "bfloat16", "int8", "int4"}


def test_what_cannot_be_is_refused() -> None:
    config = model_config("enc_dec")
    with pytest.raises(UserError, match=r"step = 5 is not accepted: a token in \[0, 5\)"):
        decode(config, SOURCE, 5, 5)
    with pytest.raises(UserError, match="source = -1 is not accepted"):
        prefill(config, -1)
    with pytest.raises(UserError, match="dtype = 'fp8' is not accepted: one of float32"):
        cache_bytes(config, 1, 1, "fp8")
