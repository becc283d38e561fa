import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import scattered

from encdec_jax.errors import UserError
from encdec_jax.laws.forms import FORMS
from encdec_jax.laws.joint import joint
from encdec_jax.laws.linear import in_loss

LAWS = {
    **FORMS,
    "joint": joint(FORMS["chinchilla3"], ["enc_dec", "causal_lm"], ["alpha", "E"]),
    "joint kaplan": joint(FORMS["kaplan"], ["enc_dec", "causal_lm"]),
    "in loss": in_loss(FORMS["coupled"], np.array([-1.0, 2.0])),
    "joint in loss": joint(in_loss(FORMS["chinchilla3"], np.array([-1.0, 2.0])), ["enc_dec", "causal_lm"], ["E"]),
}


@pytest.mark.parametrize("form", LAWS.values(), ids=LAWS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_jacobians_are_the_derivatives(form, seed):
    random = np.random.default_rng(seed)
    columns = scattered(form, random)
    middle = np.array([np.mean(parameter.starts) for parameter in form.parameters])
    params = middle * random.uniform(0.2, 1, (3, len(middle)))
    evaluate, step = form.bind(columns), 1e-6
    value, jacobian = evaluate(params)
    scale = 1.0 if form.logarithmic else np.maximum(1, np.abs(value))  # differences are as exact as the values
    for i, move in enumerate(np.eye(len(middle)) * step):
        numeric = (evaluate(params + move)[0] - evaluate(params - move)[0]) / (2 * step)
        np.testing.assert_allclose(jacobian[:, i] / scale, numeric / scale, atol=1e-6)


@pytest.mark.parametrize("form", LAWS.values(), ids=LAWS)
def test_a_batch_is_the_same_as_one_by_one_and_natural_parameters_go_both_ways(form):
    random = np.random.default_rng(0)
    columns = scattered(form, random)
    params = form.grid()[random.integers(0, len(form.grid()), 5)]
    together, _ = form.bind(columns)(params)
    for i in range(5):
        assert (form.bind(columns)(params[i : i + 1])[0][0] == together[i]).all()
    assert form.to_internal(form.to_natural(params)) == pytest.approx(params)
    predicted = np.exp(together) if form.logarithmic else together
    assert form.predict(form.to_natural(params), columns) == pytest.approx(predicted)


def test_chinchilla_grid_is_the_published_one():
    assert FORMS["chinchilla3"].grid().shape == (4500, 5)


def test_derived_exponents_are_those_of_the_least_loss_at_a_compute():
    form = FORMS["chinchilla3"]
    truth = np.array([406.4, 410.7, 1.69, 0.34, 0.28])
    derived = form.derived(truth)
    best = []
    for compute in (1e20, 1e22):
        n = np.geomspace(1e8, 1e12, 200_001)
        best.append(n[form.predict(truth, {"n": n, "d": compute / 6 / n}).argmin()])
    assert np.log(best[1] / best[0]) / np.log(100) == pytest.approx(derived["n_exponent"], rel=1e-3)
    assert derived["G"] * (1e20 / 6) ** derived["n_exponent"] == pytest.approx(best[0], rel=1e-3)
    assert derived["n_exponent"] + derived["d_exponent"] == pytest.approx(1)


def test_the_encoder_share_has_the_least_loss_at_a_size():
    form = FORMS["encdec"]
    truth = np.array([500.0, 1.2, 0.2, 0.3])
    share = np.linspace(0.01, 0.99, 9801)
    loss = form.predict(truth, {"n_enc": 1e8 * share, "n_dec": 1e8 * (1 - share)})
    assert share[loss.argmin()] == pytest.approx(form.derived(truth)["encoder_share"], abs=1e-3)


def test_kaplan_joint_law_has_the_separate_ones_as_limits():
    truth = np.array([12.0, 9.0, 0.076, 0.095])
    n, d = np.array([1e8]), np.array([1e10])
    wide, long = (
        FORMS["kaplan"].predict(truth, {"n": n * 1e60, "d": d}),
        FORMS["kaplan"].predict(truth, {"n": n, "d": d * 1e60}),
    )
    assert wide == pytest.approx(FORMS["kaplan_d"].predict(truth[[1, 3]], {"d": d}), rel=1e-3)
    assert long == pytest.approx(FORMS["kaplan_n"].predict(truth[[0, 2]], {"n": n}), rel=1e-3)
    derived = FORMS["kaplan"].derived(truth)
    assert derived["N_c"] == pytest.approx(12.0 ** (1 / 0.076))
    assert derived["D_c"] == pytest.approx(9.0 ** (1 / 0.095))


def test_fresh_tokens_make_the_data_constrained_law_chinchillas():
    truth = np.array([406.4, 410.7, 1.69, 0.34, 0.28])
    n, d = np.array([1e7, 1e8, 1e9]), np.array([1e10, 1e11, 1e12])
    fresh = FORMS["data_constrained"].predict(np.array([*truth, 15.0, 5.0]), {"n": n, "d": d, "u": d * 2})
    assert fresh == pytest.approx(FORMS["chinchilla3"].predict(truth, {"n": n, "d": d}))


def test_repeated_tokens_are_worth_less_than_fresh_ones_and_more_than_none():
    truth = np.array([406.4, 410.7, 1.69, 0.34, 0.28, 15.0, 5.0])
    n, d = np.array([1e8]), np.array([1e10])
    fresh, repeated, fewer = (
        float(FORMS["data_constrained"].predict(truth, {"n": n, "d": tokens, "u": unique})[0])
        for tokens, unique in ((d, d), (d, d / 8), (d / 8, d / 8))
    )
    assert fresh < repeated < fewer


def test_groups_share_what_they_share():
    form = LAWS["joint"]
    assert form.names[:2] == ("E", "alpha")
    assert set(form.names[2:]) == {f"{p}[{g}]" for g in ("enc_dec", "causal_lm") for p in ("A", "B", "beta")}
    columns = {"n": np.array([1e8, 1e8]), "d": np.array([1e10, 1e10]), "arch": np.array(["enc_dec", "causal_lm"])}
    truth = dict(zip(form.names, np.ones(len(form.names)), strict=True)) | {"A[causal_lm]": 400.0, "alpha": 0.3}
    losses = form.predict(np.array([truth[name] for name in form.names]), columns)
    assert losses[1] - losses[0] == pytest.approx(399 / 1e8**0.3)
    with pytest.raises(UserError, match="arch"):
        form.bind({**columns, "arch": np.array(["enc_dec", "rnn"])})


def test_groups_lend_the_shared_parameters_in_turn():
    form = joint(FORMS["power"], ["a", "b"], ["gamma"])
    assert form.names == ("gamma", "A[a]", "A[b]")
    composed = form.composed({"a": np.array([1.0, 0.1]), "b": np.array([2.0, 0.2])})
    assert composed.tolist() == [[0.1, 1.0, 2.0], [0.2, 1.0, 2.0]]


@pytest.mark.parametrize(("groups", "shared"), [(["a"], []), (["a", "a"], []), (["a", "b"], ["delta"])])
def test_a_joint_law_of_nothing_is_refused(groups, shared):
    with pytest.raises(UserError):
        joint(FORMS["chinchilla3"], groups, shared)


def test_the_coupled_law_is_chinchillas_at_an_exponent_of_one():
    truth = np.array([406.4, 410.7, 1.69, 0.34, 0.28])
    columns = {"n": np.array([1e7, 1e9]), "d": np.array([1e10, 1e11])}
    form = FORMS["coupled"]
    assert form.predict(np.array([*truth, 1.0]), columns) == pytest.approx(FORMS["chinchilla3"].predict(truth, columns))
    by_size, powered = (form.derived(np.array([*truth, gamma])) for gamma in (1.0, 0.5))
    assert powered["n_exponent"] == by_size["n_exponent"]
    assert powered["loss_exponent"] == by_size["loss_exponent"] / 2


def test_noisy_data_end_at_a_loss_and_clean_data_are_a_power_law():
    form, d = FORMS["bansal"], np.array([1e6, 1e30])
    truth = np.array([800.0, 1e-9, 0.28])
    found = form.derived(truth)
    assert form.predict(truth, {"d": d})[1] == pytest.approx(found["loss_limit"])
    assert found["d_noise"] == pytest.approx(1e9)
    clean = form.predict(np.array([800.0, 1e-60, 0.28]), {"d": d})
    assert clean == pytest.approx(FORMS["kaplan_d"].predict(np.array([800.0, 0.28]), {"d": d}))
