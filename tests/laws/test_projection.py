import numpy as np
import pytest
from losses import TRUTH, scattered, study
from scipy.optimize import nnls

from encdec_jax.errors import UserError
from encdec_jax.laws.forms import FORMS
from encdec_jax.laws.projection import nonnegative, project


def test_a_known_law_is_recovered():
    found = project(FORMS["chinchilla3"], *study())
    assert found.converged
    assert found.params == pytest.approx(TRUTH, rel=1e-3)
    assert found.objective < 1e-12


def test_a_law_of_three_exponents_is_recovered():
    form = FORMS["encdec_d"]
    truth = np.array([900.0, 300.0, 1.4, 0.18, 0.26, 0.3])
    columns = scattered(form, np.random.default_rng(1), 20)
    found = project(form, columns, form.predict(truth, columns))
    assert list(found.params.values()) == pytest.approx(truth, rel=1e-2)


def test_no_parameters_nearby_do_better():
    columns, loss = study(0.01)
    form = FORMS["chinchilla3"]
    found = project(form, columns, loss)
    best = np.array(list(found.params.values()))
    random = np.random.default_rng(0)
    for scale in (1e-3, 1e-2):
        others = best * np.exp(scale * random.standard_normal((200, 5)))
        objective = ((form.predict(others, columns) / loss - 1) ** 2).sum(1)
        assert objective.min() >= found.objective * (1 - 1e-9)
    assert found.residuals == pytest.approx(loss / form.predict(best, columns) - 1)


def test_non_negative_least_squares_are_scipys():
    random = np.random.default_rng(0)
    basis = random.standard_normal((50, 4, 9)) + 0.3
    weights = random.uniform(0.5, 2, 9)
    ours = nonnegative(basis, weights)
    for one, found in zip(basis, ours, strict=True):
        assert found == pytest.approx(nnls((one * np.sqrt(weights)).T, np.sqrt(weights))[0], abs=1e-8)
    assert (ours == 0).any()


def test_what_the_points_do_not_show_is_named():
    rising = project(FORMS["saturating"], {"c": np.geomspace(1e18, 1e20, 9)}, np.geomspace(2, 2.2, 9))
    assert not rising.converged
    assert rising.edges


def test_laws_that_are_no_sums_are_refused():
    with pytest.raises(UserError, match="kaplan"):
        project(FORMS["kaplan"], *study())
