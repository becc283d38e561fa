"""Parts against what their sources say in numbers."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import SMALL, example, logits, model_config, parameters, tokens

from encdec_jax.errors import UserError
from encdec_jax.model.declare import edges
from encdec_jax.model.parts.mlp import kind
from encdec_jax.model.parts.positions import apply_rope, buckets, rope, slopes
from encdec_jax.model.softmax import attention


def test_t5s_buckets():
    """Of distances, as in the public weights: those seen in one direction, and those of either."""
    assert buckets(32, 128)[[0, 15, 16, 20, 32, 64, 113]].tolist() == [0, 15, 16, 17, 21, 26, 31]
    assert buckets(16, 128)[[1, 7, 8, 16, 32, 64, 91, 128]].tolist() == [1, 7, 8, 10, 12, 14, 15, 15]


@pytest.mark.parametrize(
    ("heads", "wanted"),
    [(8, 2.0 ** -np.arange(1, 9)), (6, [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])],
)
def test_alibis_slopes(heads, wanted):
    np.testing.assert_allclose(slopes(heads), wanted)


def test_activations():
    x = jnp.asarray([-2.0, 0.5, 3.0])
    np.testing.assert_array_equal(kind("relu").of(x), [0, 0.5, 3])
    np.testing.assert_array_equal(kind("relu2").of(x), [0, 0.25, 9])
    np.testing.assert_allclose(kind("gelu_exact").of(x), [-0.045500264, 0.34573123, 2.9959503], rtol=1e-6)
    np.testing.assert_allclose(kind("geglu").of(x), kind("gelu").of(x))


def test_scores_are_scaled_then_capped_then_biased():
    one = jnp.ones((1, 1, 1, 4))
    keys = jnp.asarray([3.0, -1.0])[None, :, None, None] * one
    values, bias = jnp.asarray([1.0, 0.0])[None, :, None, None] * one, jnp.asarray([0.5, 0.0])[None, None, None]
    found = attention(one, keys, values, jnp.ones((1, 1, 2), bool), bias=bias, scale=1.0, cap=5.0)[0, 0, 0, 0]
    scores = 5 * np.tanh(np.array([12.0, -4.0]) / 5) + [0.5, 0]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(scores[1] - scores[0])), rtol=1e-6)


def test_a_sink_is_a_key_that_gives_nothing():
    """Each head of a group has its own: as one more key with that score and a value of 0."""
    draw = np.random.default_rng(0).standard_normal
    q, k, v = (jnp.asarray(draw(shape), jnp.float32) for shape in ((1, 3, 4, 6), (1, 5, 2, 6), (1, 5, 2, 6)))
    sinks, mask = jnp.asarray([0.5, -2.0, 3.0, 40.0]), jnp.ones((1, 3, 5), bool)
    found = attention(q, k, v, mask, scale=0.7, sinks=sinks)
    scores = 0.7 * np.einsum("qhd,shd->hqs", q[0], np.repeat(k[0], 2, axis=1))
    both = np.concatenate([scores, np.broadcast_to(sinks[:, None, None], (4, 3, 1))], axis=2)
    shares = np.exp(both) / np.exp(both).sum(axis=2, keepdims=True)
    wanted = np.einsum("hqs,shd->qhd", shares[:, :, :5], np.repeat(v[0], 2, axis=1))
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-7)


SCALED = {  # transformers 5's frequencies and factors for head_dim 16, theta 500, factor 8, 50 positions
    "llama3": (
        [1, 0.414189816, 0.0685529858, 0.0121561559, 0.00559017016, 0.0025707141, 0.00118217699, 0.000543639821],
        1,
    ),
    "yarn": (
        [1, 0.325736493, 0.0881142616, 0.0121561559, 0.00559017016, 0.0025707141, 0.00118217699, 0.000543639821],
        1.2079441541679836,
    ),
}


@pytest.mark.parametrize("kind", SCALED)
def test_scaled_rope_turns_as_another_librarys(kind):
    config = model_config("causal_lm", rope_scaling=kind, rope_factor=8.0, rope_original=50)
    frequency, factor = SCALED[kind]
    cos, sin = rope(jnp.ones((1, 1), jnp.int32), 16, 500.0, config)
    np.testing.assert_allclose(cos[0, 0, 0], factor * np.cos(frequency), rtol=1e-6)
    np.testing.assert_allclose(sin[0, 0, 0], factor * np.sin(frequency), rtol=1e-5)
    linear = replace(config, rope_scaling="linear", rope_original=0)
    one, other = rope(jnp.full((1, 1), 8), 16, 500.0, linear), rope(jnp.ones((1, 1)), 16, 500.0)
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_rope_turns_the_first_numbers_of_a_head():
    x = jnp.arange(1.0, 9.0).reshape(1, 1, 1, 8)
    turn = rope(jnp.full((1, 1), 3), 4, 100.0)
    found = apply_rope(x, turn)
    np.testing.assert_array_equal(found[..., 4:], x[..., 4:])
    np.testing.assert_array_equal(found[..., :4], apply_rope(x[..., :4], turn))
    assert np.abs(found[..., :4] - x[..., :4]).min() > 0.01


def test_a_position_behind_the_learned_ones_is_no_number():
    source, target = example("enc_dec", tokens(0, 1, 7), tokens(1, 1, 5))
    fits = model_config("enc_dec", position="learned", position_rows=12)
    assert np.isfinite(logits(fits, parameters(fits), source, target, 5)).all()
    short = replace(fits, position_rows=11)
    assert np.isnan(logits(short, parameters(short), source, target, 5)[0, -1]).all()


def test_scales_held_less_one_begin_at_zero_and_norm_alike():
    """RMSNorm with its epsilon, of queries, keys and the stream, is the same function either way."""
    held = model_config("causal_lm", qk_scaled_norm=True, norm_epsilon=0.5)
    centred = replace(held, zero_centred=True)
    params = parameters(centred)
    scales = [leaf for path, leaf in nnx.to_flat_state(params) if path[-1] in ("scale", "q_scale", "k_scale")]
    assert len(scales) == 5
    assert not any(np.abs(leaf[...]).max() for leaf in scales)
    _, target = example("causal_lm", tokens(0, 1, 7), tokens(1, 1, 5))
    one = logits(held, parameters(held), None, target, 5)
    np.testing.assert_array_equal(logits(centred, params, None, target, 5), one)
    assert np.abs(one - logits(replace(held, norm_epsilon=1e-6), parameters(held), None, target, 5)).max() > 0.1


def test_windows_have_a_base_of_rope_of_their_own():
    """Where every layer has one, its base is all; where none has, it is refused."""
    local = model_config("causal_lm", decoder=replace(SMALL, window=9), rope_theta=50.0)
    other = replace(local, rope_theta=10_000.0, local_theta=50.0)
    params, (_, target) = parameters(local), example("causal_lm", tokens(0, 1, 7), tokens(1, 1, 5))
    one = logits(local, params, None, target, 5)
    np.testing.assert_array_equal(logits(other, params, None, target, 5), one)
    assert np.abs(one - logits(replace(other, local_theta=0.0), params, None, target, 5)).max() > 1e-3
    with pytest.raises(UserError, match=r"model\.local_theta = 50\.0 is not accepted: 0\.0, because nothing in this"):
        edges(replace(other, decoder=SMALL))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qk_norm": True, "qk_scaled_norm": True}, "model.qk_scaled_norm = True is not accepted"),
        ({"embedding": "plain", "base_width": 8}, "model.embedding = 'plain' is not accepted"),
        ({"embedding": "unscaled", "base_width": 8}, "model.embedding = 'unscaled' is not accepted"),
        ({"position": "separate", "target_positions": "restart"}, "model.target_positions = 'restart' is not accepted"),
        ({"local_theta": 0.5}, "model.local_theta = 0.5 is not accepted: at least 1, or 0"),
        ({"norm_epsilon": 0.0}, "model.norm_epsilon = 0.0 is not accepted"),
        ({"position_buckets": 6}, "model.position_buckets = 6 is not accepted: a multiple of 4"),
        ({"rope_share": 0.5}, "model.rope_share = 0.5 is not accepted: a share of head_dim = 6"),
        ({"rope_share": 0.5, "position": "t5"}, "model.rope_share = 0.5 is not accepted: 1.0, because nothing"),
        ({"rope_scaling": "linear", "rope_factor": 2.0, "position": "none"}, "model.rope_scaling = 'linear' is not"),
        ({"rope_scaling": "linear"}, "model.rope_factor = 1.0 is not accepted: above 1"),
        ({"rope_factor": 2.0}, "model.rope_factor = 2.0 is not accepted: 1, because"),
        ({"rope_scaling": "yarn", "rope_factor": 2.0}, "model.rope_original = 0 is not accepted: at least 1"),
        ({"rope_scaling": "linear", "rope_factor": 2.0, "rope_original": 9}, "model.rope_original = 9 is not"),
        ({"score_cap": 3.0, "attention": "splash"}, "model.attention = 'splash' is not accepted: 'plain' or 'auto'"),
        ({"sinks": True, "attention": "cudnn"}, "model.attention = 'cudnn' is not accepted: 'plain' or 'auto'"),
        ({"position_range": 32}, "model.position_range = 32 is not accepted"),
    ],
)
def test_parts_that_do_not_go_together(changes, message):
    with pytest.raises(UserError, match=message):
        edges(model_config("enc_dec", **changes))


def test_the_positions_of_one_stream_do_not_begin_again():
    with pytest.raises(UserError, match="because in causal_lm source and target are one stream"):
        model_config("causal_lm", target_positions="restart")
