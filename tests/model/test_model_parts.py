"""Parts against what their sources say in numbers."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from support import example, logits, model_config, parameters, tokens

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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qk_norm": True, "qk_scaled_norm": True}, "model.qk_scaled_norm = True is not accepted"),
        ({"embedding": "plain", "base_width": 8}, "model.embedding = 'plain' is not accepted"),
        ({"position_buckets": 6}, "model.position_buckets = 6 is not accepted: a multiple of 4"),
        ({"position_range": 32}, "model.position_range = 32 is not accepted"),
    ],
)
def test_parts_that_do_not_go_together(changes, message):
    with pytest.raises(UserError, match=message):
        model_config("enc_dec", **changes)
