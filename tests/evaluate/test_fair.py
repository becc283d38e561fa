from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from encdec_jax.data.packing import Batch
from encdec_jax.evaluate.fair import bits_per_byte, row_nats, suffix_bits, token_nll
from encdec_jax.model.streams import Stream


def test_token_nll_is_the_logarithm_of_the_softmax():
    random = np.random.default_rng(0)
    logits, labels = random.normal(0, 30, (2, 5, 11)), random.integers(0, 11, (2, 5))
    nll, log_z = token_nll(logits, labels)
    expected = -np.take_along_axis(log_softmax(logits, axis=-1), labels[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(nll, expected, rtol=2e-6, atol=2e-5)
    np.testing.assert_allclose(log_z, np.log(np.exp(logits).sum(-1)), rtol=2e-6)


def test_bfloat16_logits_are_scored_in_float32():
    import jax.numpy as jnp

    nll, log_z = token_nll(jnp.ones((1, 3), jnp.bfloat16), jnp.zeros(1, int))
    assert nll.dtype == log_z.dtype == jnp.float32


def test_row_nats_leaves_out_what_weighs_nothing():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(3, 4, 7)).astype(np.float32), random.integers(0, 7, (3, 4))
    weights = np.array([[1, 1, 0, 0]] * 3, np.float32)
    whole = row_nats(logits[:, :2], labels[:, :2], weights[:, :2])
    logits[:, 2:] = 100
    np.testing.assert_allclose(row_nats(logits, labels, weights), whole, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 8, 9])
def test_suffix_bits_are_each_rows_own_whatever_the_batch(rows):
    zeros = np.zeros((rows, 2), np.int32)
    labels = np.arange(2 * rows, dtype=np.int32).reshape(rows, 2)
    batch = Batch(None, Stream(zeros, zeros, zeros, zeros), labels, np.ones((rows, 2), np.float32))
    seen = []

    def score(part: Batch) -> np.ndarray:
        seen.append(len(part.labels))
        return part.labels.sum(axis=-1).astype(np.float32)

    np.testing.assert_allclose(suffix_bits(score, batch, 4)(), labels.sum(axis=-1) / np.log(2))
    assert set(seen) == {4}


def test_bits_per_byte_is_a_ratio_of_sums():
    bits, nbytes = np.array([10.0, 30.0]), np.array([10, 20])
    rate, error = bits_per_byte(bits, nbytes)
    assert rate == pytest.approx(40 / 30)
    # residuals of a ratio: 10 - 4/3 x 10 and 30 - 4/3 x 20
    assert error == pytest.approx(np.sqrt(2 * ((10 / 3) ** 2 + (10 / 3) ** 2)) / 30)


def test_the_standard_error_covers_the_choice_of_rows():
    random = np.random.default_rng(0)
    nbytes = random.integers(50, 200, 20_000)
    bits = nbytes * random.normal(2.0, 0.4, 20_000)
    truth, _ = bits_per_byte(bits, nbytes)
    covered = 0
    for _ in range(400):
        take = random.integers(0, 20_000, 100)
        rate, error = bits_per_byte(bits[take], nbytes[take])
        covered += abs(rate - truth) < 1.96 * error
    assert 0.91 < covered / 400 < 0.98
