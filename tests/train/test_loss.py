import numpy as np
import pytest

from encdec_jax.train.loss import weighted_sums


def test_the_z_loss_is_of_the_square_of_log_z():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(3, 5, 7)).astype(np.float32), random.integers(0, 7, (3, 5))
    weights = random.random((3, 5)).astype(np.float32)
    total, nll = weighted_sums(logits, labels, weights, 0.1)
    log_z = np.log(np.exp(logits).sum(-1))
    chosen = np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    assert float(nll) == pytest.approx(((log_z - chosen) * weights).sum(), rel=1e-5)
    assert float(total - nll) == pytest.approx(0.1 * (log_z**2 * weights).sum(), rel=1e-5)


def test_smoothing_is_the_cross_entropy_with_the_smoothed_labels():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(3, 5, 7)).astype(np.float32), random.integers(0, 7, (3, 5))
    weights = random.random((3, 5)).astype(np.float32)
    aim, nll = weighted_sums(logits, labels, weights, 0.0, 0.2)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    smoothed = 0.8 * np.eye(7)[labels] + 0.2 / 7
    assert float(aim) == pytest.approx(-(smoothed * logs * weights[..., None]).sum(), rel=1e-5)
    assert float(nll) == float(weighted_sums(logits, labels, weights, 0.0)[1])
