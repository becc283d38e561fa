"""Parts against what their sources say in numbers."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import SMALL, example, logits, model_config, parameters, tokens

from encdec_jax.errors import UserError
from encdec_jax.model.parts.mlp import kind
from encdec_jax.model.parts.positions import buckets, slopes
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
    """Where every layer has one, its base is all; where none has, it is nothing."""
    local = model_config("causal_lm", decoder=replace(SMALL, window=9), rope_theta=50.0)
    other = replace(local, rope_theta=10_000.0, local_theta=50.0)
    params, (_, target) = parameters(local), example("causal_lm", tokens(0, 1, 7), tokens(1, 1, 5))
    one = logits(local, params, None, target, 5)
    np.testing.assert_array_equal(logits(other, params, None, target, 5), one)
    assert np.abs(one - logits(replace(other, local_theta=0.0), params, None, target, 5)).max() > 1e-3
    whole = replace(local, decoder=SMALL)
    np.testing.assert_array_equal(
        logits(replace(whole, local_theta=9.0), params, None, target, 5), logits(whole, params, None, target, 5)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qk_norm": True, "qk_scaled_norm": True}, "model.qk_scaled_norm = True is not accepted"),
        ({"embedding": "plain", "base_width": 8}, "model.embedding = 'plain' is not accepted"),
        ({"embedding": "unscaled", "base_width": 8}, "model.embedding = 'unscaled' is not accepted"),
        ({"local_theta": 0.5}, "model.local_theta = 0.5 is not accepted: at least 1, or 0"),
        ({"norm_epsilon": 0.0}, "model.norm_epsilon = 0.0 is not accepted"),
        ({"position_buckets": 6}, "model.position_buckets = 6 is not accepted: a multiple of 4"),
        ({"position_range": 32}, "model.position_range = 32 is not accepted"),
    ],
)
def test_parts_that_do_not_go_together(changes, message):
    with pytest.raises(UserError, match=message):
        model_config("enc_dec", **changes)
