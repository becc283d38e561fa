import numpy as np
import pytest
from losses import CHINCHILLA, TRUTH

from encdec_jax.errors import UserError
from encdec_jax.laws.envelope import envelope


def learning_curves(sizes=40, points=60):
    n = np.repeat(np.geomspace(1e7, 1e11, sizes), points)
    d = np.tile(np.geomspace(1e8, 1e13, points), sizes)
    loss = CHINCHILLA.predict(np.array(list(TRUTH.values())), {"n": n, "d": d})
    return np.repeat(np.arange(sizes), points), 6 * n * d, n, d, loss


def test_the_exponents_of_the_envelope_are_the_laws():
    found = envelope(*learning_curves())
    assert found.n_law.slope == pytest.approx(0.28 / 0.62, abs=0.01)
    assert found.d_law.slope == pytest.approx(0.34 / 0.62, abs=0.01)
    assert found.inside.sum() > 500
    assert not found.inside[[0, -1]].any()  # only the smallest size, and only the largest


def test_no_run_is_better_than_the_envelope():
    run, compute, n, d, loss = learning_curves()
    found = envelope(run, compute, n, d, loss)
    at = np.interp(np.log(compute), np.log(found.compute), np.log(found.loss))
    assert (np.log(loss) >= at - 1e-3).all()
    assert found.n * found.d * 6 == pytest.approx(found.compute, rel=1e-6)


def test_the_order_of_the_rows_does_not_matter():
    rows = learning_curves(10, 20)
    order = np.random.default_rng(0).permutation(len(rows[0]))
    assert envelope(*(values[order] for values in rows)).n_law.slope == envelope(*rows).n_law.slope


def test_one_size_shows_nothing():
    with pytest.raises(UserError, match="no size has the best learning curve anywhere between"):
        envelope(*learning_curves(1))
    run, compute, n, d, loss = learning_curves(3, 5)
    with pytest.raises(UserError, match="loss"):
        envelope(run, compute, n, d, -loss)
