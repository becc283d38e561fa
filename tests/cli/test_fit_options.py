"""encdec fit: parameters that are held, tokens from FLOPs, runs that are predicted, losses of any sign."""

import json

import numpy as np
import polars as pl
import pytest

from encdec_jax.cli.main import main

RUNS = 40


@pytest.fixture
def fitted(tmp_path, capsys):
    """Runs `encdec fit --json` on a table; returns the exit code, the object or None, and what standard error says."""

    def run(columns, *arguments):
        path = tmp_path / "runs.csv"
        pl.DataFrame(columns).write_csv(path)
        code = main(["fit", str(path), "--loss", "loss", "--json", *arguments])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return run


def columns(noise: float = 0.005, shift: float = 0.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    flops, n = 10 ** random.uniform(18, 21, RUNS), 10 ** random.uniform(7, 9, RUNS)
    loss = 1.7 + 900 * (flops / (6 * n)) ** -0.3 + noise * random.standard_normal(RUNS)
    return {"n": n, "flops": flops, "d": flops / (6 * n), "loss": loss - shift}


POWER = ("--law", "kaplan_d", "--resamples", "60")


def test_a_parameter_that_is_held_has_no_interval_and_the_others_follow(fitted):
    code, held, _ = fitted(columns(), *POWER, "--d", "d", "--fixed", "beta=0.1")
    assert code == 0
    assert held["fixed"] == {"beta": 0.1}
    assert held["params"]["beta"] == {"value": 0.1, "lo": None, "hi": None}
    assert held["params"]["A" if "A" in held["params"] else "B"]["lo"] is not None
    assert not any("beta" in text for text in held["warnings"])
    assert held["standard_errors"]["beta"] == pytest.approx(0, abs=1e-12)
    _, free, _ = fitted(columns(), *POWER, "--d", "d")
    assert free["objective"] < held["objective"]


def test_tokens_are_flops_over_six_parameters_where_no_column_has_them(fitted):
    _, direct, _ = fitted(columns(), *POWER, "--d", "d")
    code, derived, _ = fitted(columns(), *POWER, "--n", "n", "--c", "flops", "--d-from", "c/6n")
    assert code == 0
    for name in ("B", "beta"):  # the exponent alone is the same for any multiple of the tokens
        assert derived["params"][name]["value"] == pytest.approx(direct["params"][name]["value"], rel=1e-6)


def test_standard_errors_are_the_roots_of_the_covariance(fitted):
    _, found, _ = fitted(columns(), *POWER, "--d", "d")
    assert np.sqrt(np.diag(found["covariance"])) == pytest.approx(
        [found["standard_errors"][p] for p in found["params"]]
    )
    (scale, both), (again, exponent) = found["covariance"]
    assert both == again
    assert both**2 > 0.9 * scale * exponent  # far from the origin a line's level and slope go together
    one = found["params"]["beta"]
    assert 0.15 < found["standard_errors"]["beta"] / (one["hi"] - one["lo"]) < 0.4
    _, none, _ = fitted(columns(), *POWER[:2], "--resamples", "0", "--d", "d")
    assert none["covariance"] is None
    assert set(none["standard_errors"].values()) == {None}


def test_a_predicted_run_has_an_interval_that_holds_its_noise(fitted):
    code, found, _ = fitted(columns(), *POWER, "--d", "d", "--predict", "d=20B", "--predict", "d=3e10")
    assert code == 0
    (one, other) = found["predicted"]
    assert one["at"] == {"d": 2e10}
    low, value, high = (one["loss"][name] for name in ("lo", "value", "hi"))
    assert low < value < high
    _, clean, _ = fitted(columns(noise=1e-6), *POWER, "--d", "d", "--predict", "d=20B")
    assert clean["predicted"][0]["loss"]["value"] == pytest.approx(value, rel=0.05)
    assert other["loss"]["value"] < value
    exact = {**columns(), "loss": 20 * columns()["d"] ** -0.09}
    noisy = exact["loss"] * np.exp(0.01 * np.random.default_rng(1).standard_normal(RUNS))
    _, known, _ = fitted({**exact, "loss": noisy}, *POWER, "--d", "d", "--predict", "d=20B")
    low, value, high = (known["predicted"][0]["loss"][name] for name in ("lo", "value", "hi"))
    assert (high - low) / value > 2.5 * 0.01  # of four standard deviations; the law's own interval is a third of that


def test_a_run_far_beyond_the_data_is_predicted_only_if_asked(fitted):
    far = ("--d", "d", "--predict", "d=1e15")
    code, _, err = fitted(columns(), *POWER, *far)
    assert (code, err.count("\n")) == (2, 1)
    assert "predict: d = 1000000000000000.0 is not accepted" in err
    assert "3 times beyond the runs fitted; more with --extrapolate" in err
    assert fitted(columns(), *POWER, *far, "--extrapolate")[0] == 0


def test_residuals_in_the_loss_take_losses_of_any_sign(fitted):
    law = ("--law", "saturating", "--c", "flops", "--resamples", "60", "--residuals", "loss")
    data = columns()
    data["loss"] = 1.7 + 3e4 * data["flops"] ** -0.25 + 0.002 * np.random.default_rng(1).standard_normal(RUNS)
    _, plain, _ = fitted(data, *law)
    code, below, _ = fitted({**data, "loss": data["loss"] - 3}, *law)
    assert code == 0
    assert below["residuals"] == "loss"
    assert below["params"]["E"]["value"] == pytest.approx(plain["params"]["E"]["value"] - 3, abs=1e-3)
    assert below["params"]["gamma"]["value"] == pytest.approx(plain["params"]["gamma"]["value"], rel=1e-3)
    assert below["objective"] == pytest.approx(plain["objective"], rel=1e-6)
    assert below["params"]["E"]["lo"] < below["params"]["E"]["value"] < below["params"]["E"]["hi"] < 0
    code, _, err = fitted({**data, "loss": data["loss"] - 3}, *law[:-2])
    assert code == 2
    assert "finite, above 0" in err


def test_laws_of_losses_of_any_sign_are_drawn_and_joined(fitted, tmp_path):
    data = {**columns(shift=3), "arch": ["a", "b"] * (RUNS // 2)}
    data["loss"] = -1.5 + 3e4 * data["flops"] ** -0.25
    out = tmp_path / "out"
    code, found, _ = fitted(
        data, "--law", "saturating", "--c", "flops", "--resamples", "0", "--residuals", "loss", "--arch", "arch",
        "--hold-out", "largest", "--out", str(out),
    )  # fmt: skip
    assert code == 0
    assert found["params"]["E[a]"]["value"] == pytest.approx(-1.5, abs=1e-3)
    assert found["hold_out"]["error"] < 1e-3
    assert (out / "runs-saturating.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--d", "d", "--fixed", "beta"), "fixed = 'beta' is not accepted: NAME=NUMBER"),
        (("--d", "d", "--fixed", "E=1.7"), "fixed = 'E' is not accepted: a parameter of kaplan_d: B, beta"),
        (("--d", "d", "--fixed", "B=-1"), "B = -1.0 is not accepted: a finite number, above 0"),
        (("--d", "d", "--fixed", "B=1", "--fixed", "B=2"), "fixed = 'B=2' is not accepted"),
        (("--d", "d", "--d-from", "c/6n"), "d-from = 'c/6n' is not accepted: a table with columns c and n"),
        (("--n", "n", "--c", "flops", "--d-from", "c/n"), "d-from = 'c/n' is not accepted: c/6n"),
        (("--d", "d", "--predict", "n=1e9"), "predict = 'n' is not accepted: a value for each of d"),
        (("--d", "d", "--predict", "d=big"), "predict = 'd=big' is not accepted: COLUMN=NUMBER"),
        (("--d", "d", "--predict", "d=-1"), "predict: d = -1.0 is not accepted: finite, above 0"),
        (("--d", "d", "--residuals", "huber"), "residuals = 'huber' is not accepted: one of log, loss"),
    ],
)
def test_what_an_option_does_not_take_is_one_line(fitted, arguments, message):
    code, out, err = fitted(columns(), *POWER, *arguments)
    assert (code, out, err.count("\n")) == (2, None, 1)
    assert message in err


def test_a_law_without_a_floor_has_no_losses_below_zero(fitted):
    code, _, err = fitted(columns(shift=3), *POWER, "--d", "d", "--residuals", "loss")
    assert code == 2
    assert "above 0: kaplan_d has no floor E" in err
