from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
from losses import CHINCHILLA, TRUTH
from synthetic import Truth, study

from encdec_jax.laws import estimate
from encdec_jax.study.approaches import sides
from encdec_jax.study.findings import analyze

NATURAL = np.array(list(TRUTH.values()))
EXPONENT = CHINCHILLA.derived(NATURAL)["n_exponent"]


def chinchilla(noise: float = 0.002, budgets: tuple[float, ...] = (1e18, 1e19, 1e20, 1e21)) -> pl.DataFrame:
    """Two architectures of one law, sizes about the best one at C = 6 N D."""
    ratios = (0.2, 0.4, 0.8, 1.4, 2.8, 5.0)
    truth = Truth(n=0.6 * (1e12 / 6) ** 0.4516, n_slope=0.4516)
    table = study({"causal_lm": truth, "enc_dec": truth}, budgets=budgets, ratios=ratios)
    columns = {"n": table["n_params"].to_numpy().astype(float), "d": table["tokens"].to_numpy().astype(float)}
    factor = np.exp(noise * np.random.default_rng(1).standard_normal(len(table)))
    return table.with_columns(suffix_bits_per_byte=pl.Series(CHINCHILLA.predict(NATURAL, columns) * factor))


def traces(table: pl.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Learning curves that follow the law at every number of tokens."""
    found = {}
    for identity, n, tokens, total in table.select("run_id", "n_params", "tokens", "train_flops").rows():
        share = np.geomspace(1e-3, 1, 40)
        loss = CHINCHILLA.predict(NATURAL, {"n": np.full(40, float(n)), "d": tokens * share})
        found[identity] = total * share, loss
    return found


TABLE = chinchilla()
FOUND = sides(TABLE, analyze(TABLE, "causal_lm"), traces(TABLE))


def test_every_approach_finds_the_exponent_that_made_the_runs():
    assert [side.label for side in FOUND] == ["causal_lm", "enc_dec"]
    for side in FOUND:
        for one, tolerance in zip(side.exponents, (0.05, 0.02, 0.02, 0.02), strict=True):
            assert one.n.value == pytest.approx(EXPONENT, abs=tolerance), one.approach
            assert one.d.value == pytest.approx(1 - EXPONENT, abs=tolerance), one.approach
            assert one.n.known == (one.approach in ("Approach 2", "Approach 3"))
        three = side.exponents[2].n
        assert three.low < EXPONENT < three.high
        values = [one.n.value for one in side.exponents]
        assert side.span == (min(values), max(values))


def test_parabolas_are_checked_by_the_law():
    bias = FOUND[0].bias
    assert bias.budgets == pytest.approx([1e18, 1e19, 1e20, 1e21])
    assert bias.width == pytest.approx(np.full(4, np.log(25) / 2), abs=1e-3)
    assert np.isfinite(bias.miss).all()
    assert FOUND[0].bias_reason == ""


def test_the_largest_budget_is_predicted_and_a_changed_one_is_not():
    frontier, three = FOUND[0].ahead
    assert frontier.fitted_to == "3 budgets, a power law"
    assert frontier.inside == 0  # three budgets don't show the floor that the truth has
    assert frontier.bias.low > 0
    assert (three.count, three.fitted_to, three.error < 0.01) == (6, "18 runs", True)
    assert three.inside >= 5
    more = chinchilla(budgets=(1e17, 1e18, 1e19, 1e20, 1e21))
    frontier, _ = sides(more, analyze(more, "causal_lm"), {})[0].ahead
    assert (frontier.fitted_to, frontier.inside) == ("4 budgets, a saturating law", 1)
    assert frontier.error < 0.01
    worse = TABLE.with_columns(
        suffix_bits_per_byte=pl.col("suffix_bits_per_byte")
        * pl.when(pl.col("budget_flops") == 1e21).then(1.2).otherwise(1)
    )
    frontier, three = sides(worse, analyze(worse, "causal_lm"), {})[0].ahead
    assert frontier.inside == three.inside == 0
    assert frontier.bias.low > 0.05
    assert three.bias.value == pytest.approx(np.log(1.2), abs=0.02)


def test_what_the_runs_do_not_allow_has_a_reason():
    one = TABLE.filter(pl.col("budget_flops") == 1e18)
    (side, _) = sides(one, analyze(one, "causal_lm"), {})
    reasons = [each.reason for each in side.exponents]
    assert all(each.n is None for each in side.exponents)
    for reason, part in zip(
        reasons, ("of 0 of 6 runs", "fewer than two budgets", "one budget", "one budget"), strict=True
    ):
        assert part in reason
    assert side.bias is None
    assert "one budget" in side.bias_reason
    assert side.span is None
    assert "third to predict" in side.ahead[0].reason
    assert "at least two budgets" in side.ahead[1].reason


def test_runs_that_are_excluded_are_not_used():
    spoilt = TABLE.with_columns(
        pl.col("suffix_bits_per_byte") + 3, run_id="x" + pl.col("run_id"), setting="x" + pl.col("setting")
    )
    both = pl.concat([TABLE, spoilt])
    (side, _) = sides(both, analyze(both, "causal_lm"), traces(TABLE))
    found, expected = (list(map(asdict, (*one.exponents, *one.ahead))) for one in (side, FOUND[0]))
    np.testing.assert_equal(found, expected)  # where a bound is NaN in both, too


def test_a_law_that_did_not_converge_gives_no_numbers(monkeypatch):
    import dataclasses

    fit = estimate.fit
    monkeypatch.setattr(estimate, "fit", lambda *a, **k: dataclasses.replace(fit(*a, **k), converged=False))
    (side, _) = sides(TABLE, analyze(TABLE, "causal_lm"), {})
    assert side.exponents[2].n is None
    assert side.exponents[2].reason == side.bias_reason == "the fit did not converge"
    assert side.bias is None
