import numpy as np
import pytest
from losses import CHINCHILLA, FEW, TRUTH, scattered, study
from scipy.optimize import minimize

from encdec_jax.errors import UserError
from encdec_jax.laws import fit as fits
from encdec_jax.laws.fit import fit, refit
from encdec_jax.laws.forms import FORMS
from encdec_jax.laws.joint import joint
from encdec_jax.laws.solve import Problem, minimise

NOISY = study(0.01)
FITTED = fit(CHINCHILLA, *NOISY)


def test_a_known_law_is_recovered():
    found = fit(CHINCHILLA, *study())
    assert found.converged
    assert found.params == pytest.approx(TRUTH, rel=1e-4)
    assert found.derived["n_exponent"] == pytest.approx(0.28 / 0.62, rel=1e-5)
    assert found.edges == found.warnings == ()


@pytest.mark.parametrize(
    "name", ["power", "saturating", "kaplan", "encdec", "encdec_d", "width_depth", "coupled", "bansal"]
)
def test_every_law_recovers_its_own_parameters(name):
    truths = {
        "power": [80.0, 0.05],
        "saturating": [300.0, 1.5, 0.12],
        "kaplan": [4.0, 8.5, 0.076, 0.103],
        "encdec": [900.0, 1.4, 0.18, 0.26],
        "encdec_d": [900.0, 300.0, 1.4, 0.18, 0.26, 0.3],
        "width_depth": [30.0, 1.0, 400.0, 1.5, 0.6, 0.7, 0.3],
        "coupled": [4000.0, 20000.0, 1.7, 0.5, 0.55, 0.6],
        "bansal": [800.0, 2e-9, 0.28],
    }
    form = FORMS[name]
    columns = scattered(form, np.random.default_rng(1), 60)
    found = fit(form, columns, form.predict(np.array(truths[name]), columns))
    assert found.converged
    assert list(found.params.values()) == pytest.approx(truths[name], rel=1e-3)


def test_objectives_are_at_most_those_of_lbfgs_from_the_same_starts():
    columns, loss = NOISY
    starts = np.random.default_rng(0).permutation(CHINCHILLA.grid())[:50]
    problem = Problem(CHINCHILLA.bind(columns), np.log(loss), np.ones((1, len(loss))), np.ones(5, bool), 1e-3)

    def summed(params: np.ndarray) -> tuple[float, np.ndarray]:
        objective, gradient, _ = problem.quadratic(params[None], np.zeros(1, int))
        return float(objective[0]), gradient[0]

    def lbfgs(start: np.ndarray) -> float:
        return float(minimize(summed, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-10}).fun)

    theirs = np.array([lbfgs(start) for start in starts])
    ours = minimise(problem, starts, np.zeros(len(starts), int))
    assert ours.objective.min() <= theirs.min() * (1 + 1e-9)
    # From one start the two may end in different minima; as a whole, ours are the lower ones.
    assert np.median(ours.objective) <= np.median(theirs)
    assert (ours.objective < ours.objective.min() * 1.0001).sum() > (theirs < ours.objective.min() * 1.0001).sum()
    # And where ours say that they are minima, L-BFGS finds nothing below.
    ends = ours.converged & (ours.objective < 2 * np.median(ours.objective))
    left = np.array([lbfgs(end) for end in ours.params[ends]])
    assert (left >= ours.objective[ends] * (1 - 1e-6)).all()


def test_the_objective_is_the_sum_of_huber_losses():
    size = np.abs(FITTED.residuals)
    huber = np.where(size <= 1e-3, size**2 / 2, 1e-3 * (size - 0.5e-3))
    assert FITTED.objective == pytest.approx(huber.sum(), rel=1e-12)
    assert FITTED.residuals == pytest.approx(np.log(NOISY[1] / FITTED.predict(NOISY[0])))
    assert FITTED.starts == 4500
    assert FITTED.agree > 100
    assert 10 < FITTED.condition < 1e4


def test_one_wild_run_does_not_move_the_law():
    columns, loss = study(0.002)
    wild = loss.copy()
    wild[17] *= 1.5
    moved, still = (fit(CHINCHILLA, columns, values, starts=FEW).derived["n_exponent"] for values in (wild, loss))
    assert moved == pytest.approx(still, abs=0.01)


def test_a_weight_counts_as_that_many_runs():
    columns, loss = NOISY
    weights = np.ones(len(loss))
    weights[:10], weights[20:25] = 3, 0
    times = weights.astype(int)
    twice = fit(
        CHINCHILLA,
        {name: np.repeat(values, times) for name, values in columns.items()},
        np.repeat(loss, times),
        starts=FEW,
    )
    weighted = fit(CHINCHILLA, columns, loss, weights=weights, starts=FEW)
    assert weighted.objective == pytest.approx(twice.objective, rel=1e-8)
    assert weighted.params == pytest.approx(twice.params, rel=1e-3)
    assert weighted.n_points == len(loss) - 5


def test_refits_are_the_fits_of_the_resamples():
    random = np.random.default_rng(3)
    points = len(NOISY[1])
    weights = random.multinomial(points, np.full(points, 1 / points), 6)
    refits = refit(FITTED, weights)
    assert refits.converged.all()
    for i in range(6):
        full = fit(CHINCHILLA, *NOISY, weights=weights[i], starts=FEW)
        assert refits.objective[i] == pytest.approx(full.objective, rel=1e-6)
        assert refits.derived["n_exponent"][i] == pytest.approx(full.derived["n_exponent"], abs=1e-3)
    alone = refit(FITTED, weights[2:3])
    assert (alone.params[0] == refits.params[2]).all()


def test_held_parameters_stay_and_the_others_follow():
    found = fit(CHINCHILLA, *study(), fixed={"E": 1.69, "alpha": 0.34}, starts=FEW)
    assert found.params == pytest.approx(TRUTH, rel=1e-4)
    assert found.params["E"] == pytest.approx(1.69, rel=1e-12)
    wrong = fit(CHINCHILLA, *study(), fixed={"E": 1.5}, starts=FEW)
    assert wrong.params["E"] == pytest.approx(1.5, rel=1e-12)
    assert wrong.objective > found.objective
    assert (refit(wrong, np.ones((2, wrong.n_points))).params[:, 2] == wrong.natural[2]).all()


def test_architectures_share_exponents_and_keep_their_coefficients():
    one, two = study(0.003), study(0.003, seed=1, truth=TRUTH | {"A": 480.0, "E": 1.8})
    columns = {name: np.concatenate([one[0][name], two[0][name]]) for name in ("n", "d")}
    columns["arch"] = np.repeat(["causal_lm", "enc_dec"], len(one[1]))
    loss = np.concatenate([one[1], two[1]])
    separate = fit(joint(CHINCHILLA, ["causal_lm", "enc_dec"]), columns, loss)
    alone = [fit(CHINCHILLA, *table, starts=FEW) for table in (one, two)]
    assert separate.objective == pytest.approx(sum(found.objective for found in alone), rel=1e-7)
    assert separate.derived["n_exponent[enc_dec]"] == pytest.approx(alone[1].derived["n_exponent"], abs=1e-4)
    shared = fit(joint(CHINCHILLA, ["causal_lm", "enc_dec"], ["alpha", "beta", "B"]), columns, loss)
    assert shared.converged
    assert shared.objective >= separate.objective
    assert shared.params["alpha"] == pytest.approx(0.34, abs=0.03)
    assert shared.params["E[enc_dec]"] - shared.params["E[causal_lm]"] == pytest.approx(0.11, abs=0.04)


def test_what_the_points_do_not_show_is_said():
    columns, loss = study()
    lossless = fit(CHINCHILLA, columns, loss - 1.69, starts=FEW)
    assert any("E is not determined" in text for text in lossless.edges)
    rising = fit(FORMS["power"], {"c": np.geomspace(1, 100, 9)}, np.geomspace(2, 3, 9))
    assert "gamma" in rising.edges[0]


def test_a_search_that_is_cut_short_is_not_converged(monkeypatch):
    monkeypatch.setitem(fits.minimise.__globals__, "MAX_STEPS", 2)
    assert not fit(CHINCHILLA, *NOISY, starts=CHINCHILLA.grid()[:3]).converged


def test_units_that_cannot_be_are_warned_about():
    columns, loss = study()
    assert "tokens a parameter" in fit(CHINCHILLA, {**columns, "n": columns["n"] / 1e6}, loss, starts=FEW).warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v[:5] for k, v in t.items()}, "points = 5"),
        (lambda t: t | {"loss": -t["loss"]}, r"loss\[0\] = -"),
        (lambda t: t | {"loss": np.where(np.arange(48) == 7, np.nan, t["loss"])}, r"loss\[7\] = nan"),
        (lambda t: t | {"n": 0 * t["n"]}, r"n\[0\] = 0.0"),
        (lambda t: t | {"n": 0 * t["n"] + 1e8}, r"n = '1e\+08 everywhere'"),
        (lambda t: {k: v[:8] for k, v in t.items()}, "one budget"),
        (lambda t: t | {"d": t["d"][:-1]}, "d = '47 values'"),
        (lambda t: {k: v for k, v in t.items() if k != "d"}, "reads n, d"),
        (lambda t: t | {"d": np.array(["many"] * 48)}, "d is not accepted"),
    ],
)
def test_tables_that_determine_no_law_are_refused(change, message):
    columns, loss = study()
    changed = change({**columns, "loss": loss})
    with pytest.raises(UserError, match=message):
        fit(CHINCHILLA, changed, changed["loss"])


@pytest.mark.parametrize("fixed", [{"gamma": 1.0}, {"E": -1.0}, {"alpha": np.nan}, TRUTH])
def test_values_that_cannot_be_held_are_refused(fixed):
    with pytest.raises(UserError):
        fit(CHINCHILLA, *study(), fixed=fixed)
