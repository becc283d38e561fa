import numpy as np
import pytest
from losses import CHINCHILLA, FEW, TRUTH, study

from encdec_jax.errors import UserError
from encdec_jax.laws.fit import fit
from encdec_jax.laws.forms import FORMS
from encdec_jax.study.bias import diagnose
from encdec_jax.study.curves import Curve

ASYMMETRIC = TRUTH | {"alpha": 0.46, "beta": 0.16, "A": 4000.0, "B": 40.0}
EVEN = TRUTH | {"alpha": 0.31, "beta": 0.31}


def law(truth):
    columns, _ = study()
    return fit(CHINCHILLA, columns, CHINCHILLA.predict(np.array(list(truth.values())), columns), starts=FEW)


FITTED = law(ASYMMETRIC)


def curves(truth, width, drift=0.0) -> list[Curve]:
    """Grids of half-width `width` in ln(N), off the optimum by `drift` more at each budget."""
    derived = CHINCHILLA.derived(np.array(list(truth.values())))
    found = []
    for i, budget in enumerate((1e18, 1e19, 1e20, 1e21)):
        best = derived["G"] * (budget / 6) ** derived["n_exponent"]
        n = best * np.exp(np.linspace(-width, width, 9) + drift * i)
        found.append(Curve("enc_dec", budget, n, budget / 6 / n, np.ones(9), np.ones(9), 0.0, 0.0))
    return found


def test_the_miss_of_a_centred_grid_is_the_derived_one_and_leaves_the_exponent():
    found = diagnose(curves(ASYMMETRIC, 0.5), FITTED)
    w = np.linspace(-0.5, 0.5, 9)
    derived = (0.46 - 0.16) / 6 * (w**4).mean() / (w**2).mean()
    assert found.miss == pytest.approx(np.full(4, derived), rel=0.02)
    assert found.by_width == pytest.approx(found.miss, abs=1e-5)
    assert found.exponent == pytest.approx(0, abs=1e-5)


def test_wider_grids_miss_by_more_and_symmetric_laws_are_not_missed():
    narrow, wide = (diagnose(curves(ASYMMETRIC, width), FITTED).miss[0] for width in (1.0, 2.0))
    assert wide > 3 * narrow > 0
    assert diagnose(curves(EVEN, 2.0), law(EVEN)).miss == pytest.approx(np.zeros(4), abs=1e-4)


def test_grids_that_drift_bend_the_exponent():
    found = diagnose(curves(ASYMMETRIC, 1.5, drift=0.2), FITTED)
    assert abs(found.exponent) > 0.003
    assert found.centre == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-3)
    assert found.by_width == pytest.approx(np.full(4, found.by_width[0]), rel=1e-4)


def test_what_cannot_be_diagnosed_is_refused():
    with pytest.raises(UserError, match="kaplan"):
        diagnose(curves(TRUTH, 1.0), fit(FORMS["kaplan"], *study(), starts=FORMS["kaplan"].grid()[:5]))
    few = curves(TRUTH, 1.0)[0]
    short = Curve("enc_dec", 1e18, few.n[:2], few.d[:2], few.loss[:2], few.seeds[:2], 0.0, 0.0)
    with pytest.raises(UserError, match="3 sizes"):
        diagnose([short], FITTED)
