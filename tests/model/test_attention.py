from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encdec_jax.model.parts.norms import rms
from encdec_jax.model.parts.positions import rope
from encdec_jax.model.softmax import attention


def inputs(heads: int, kv_heads: int, queries: int = 9, keys: int = 13, dim: int = 8, dtype=jnp.float32):
    random = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(random.normal(size=(2, length, h, dim)), dtype)
        for length, h in ((queries, heads), (keys, kv_heads), (keys, kv_heads))
    )
    mask = random.random((2, queries, keys)) < 0.6
    mask[:, :, 0] = True
    return q, k, v, jnp.asarray(mask)


def oracle(q, k, v, mask):
    """JAX's own, with an independent treatment of groups, masks and softmax."""
    return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], implementation="xla")


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (4, 1)])
def test_parity_with_an_independent_implementation(heads, kv_heads):
    q, k, v, mask = inputs(heads, kv_heads)
    np.testing.assert_allclose(attention(q, k, v, mask), oracle(q, k, v, mask), rtol=0, atol=2e-6)

    def loss(function):
        return jax.grad(lambda *qkv: (function(*qkv, mask) ** 2).sum(), argnums=(0, 1, 2))(q, k, v)

    for ours, theirs in zip(loss(attention), loss(oracle), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_softmax_is_float32_under_bfloat16():
    """Scores of 64 and 64.25, which bfloat16 can't tell apart, still weigh differently."""
    dtype = jnp.bfloat16
    q = jnp.asarray([16.0, 2.0, 0.0, 0.0], dtype).reshape(1, 1, 1, 4)
    k = jnp.asarray([[8.0, 0.0, 0.0, 0.0], [8.0, 0.25, 0.0, 0.0]], dtype).reshape(1, 2, 1, 4)
    v = jnp.asarray([[0.0] * 4, [1.0] * 4], dtype).reshape(1, 2, 1, 4)
    out = attention(q, k, v, jnp.ones((1, 1, 2), bool))
    assert out.dtype == dtype
    np.testing.assert_allclose(out.astype(jnp.float32), 1 / (1 + np.exp(-0.25)), rtol=2**-8)


def test_products_accumulate_in_float32_under_bfloat16():
    """A CPU does so unasked, and so would hide on it what a TPU rounds."""
    found = str(jax.make_jaxpr(attention)(*inputs(2, 2, dtype=jnp.bfloat16)))
    assert found.count("dot_general[") == found.count("preferred_element_type=float32") == 2


def test_norms_are_float32_under_bfloat16():
    x = inputs(2, 2, dtype=jnp.bfloat16)[0]
    np.testing.assert_array_equal(rms(x, 1e-6), rms(x.astype(jnp.float32), 1e-6))


def test_what_is_hidden_does_not_enter():
    q, k, v, mask = inputs(2, 2)
    mask = mask.at[:, :, 5].set(False)
    spoiled = attention(q, k.at[:, 5].set(1e4), v.at[:, 5].set(1e4), mask)
    np.testing.assert_array_equal(attention(q, k, v, mask), spoiled)


def test_large_scores_stay_finite_and_so_do_rows_that_see_nothing():
    q, k, v, mask = inputs(2, 2)
    out = attention(q * 1e4, k * 1e4, v, mask.at[:, 3].set(False))
    assert bool(jnp.isfinite(out).all())
    gradient = jax.grad(lambda x: attention(x * 1e4, k, v, mask.at[:, 3].set(False)).sum())(q)
    assert bool(jnp.isfinite(gradient).all())


def test_angles_of_far_positions_are_exact():
    position = np.array([[0, 3, 4097, 100_001]])
    cos, sin = rope(jnp.asarray(position), 8, 10_000.0)
    angle = position[0, :, None] * 10_000.0 ** (-np.arange(0, 8, 2) / 8)
    np.testing.assert_allclose(cos[0, :, 0], np.cos(angle), atol=5e-3)
    np.testing.assert_allclose(sin[0, :, 0], np.sin(angle), atol=5e-3)
