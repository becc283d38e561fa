import numpy as np
import pytest
from synthetic import Truth, study

from encdec_jax.study.curves import Curve, curves
from encdec_jax.study.findings import analyze
from encdec_jax.study.isoflop import parabola
from encdec_jax.study.tilt import fits, sought, tilts

ALPHA, BETA, BUDGETS = 0.45, 0.25, (1e11, 3e11, 1e12)


def asymmetric(noise: float = 0.0, width: float = 2.5, sizes: int = 7) -> list[Curve]:
    """Curves of E + P (BETA exp(-ALPHA w) + ALPHA exp(BETA w)), w = ln(N / 1e4), least at w = 0."""
    random = np.random.default_rng(1)
    w = np.linspace(-width, width, sizes)
    loss = 1 + BETA * np.exp(-ALPHA * w) + ALPHA * np.exp(BETA * w)
    one = np.ones(sizes)
    return [
        Curve(
            "enc_dec", c, 1e4 * np.exp(w), 1e7 * np.exp(-w), loss + noise * random.standard_normal(sizes), one, 0.0, 0.0
        )
        for c in BUDGETS
    ]


def test_the_tilt_of_asymmetric_curves_is_found_and_their_minimum_with_it():
    found = fits(asymmetric())
    assert found[0].tilt == pytest.approx(BETA - ALPHA, abs=0.05)
    assert np.log(found[0].n / 1e4) == pytest.approx(0, abs=0.03)
    symmetric = parabola(asymmetric()[0])
    assert abs(np.log(symmetric.n / 1e4)) > 0.1


def test_a_parabola_has_no_tilt_and_few_residuals_are_not_asked_for_one():
    table, _ = curves(study({"causal_lm": Truth()}, ratios=(0.2, 0.4, 0.8, 1.6, 3.2)))
    assert fits(table)[0].tilt == pytest.approx(0, abs=1e-12)
    four, _ = curves(study({"causal_lm": Truth()}))
    assert not sought(four)
    assert fits(four)[0].tilt is None


def test_many_losses_are_tilted_side_by_side_as_one_by_one():
    found = asymmetric(0.01)
    losses = [np.stack([curve.loss, curve.loss[::-1]]) for curve in found]
    both = tilts(found, losses)
    assert both[0] == tilts(found, [curve.loss for curve in found])
    assert both[1] == pytest.approx(-both[0], abs=1e-9)


def test_intervals_of_a_wide_grid_hold_the_true_size():
    held = 0
    for draw in range(12):
        random = np.random.default_rng(draw)
        rows = []
        for curve, truth in zip(asymmetric(), BUDGETS, strict=True):
            table = study({"causal_lm": Truth()}, budgets=(truth,), ratios=tuple(curve.n / 1e4))
            rows.append(table.with_columns(n_params=curve.n.round().astype(int), suffix_bits_per_byte=curve.loss))
        noisy = [
            t.with_columns(suffix_bits_per_byte=t["suffix_bits_per_byte"] + 0.01 * random.standard_normal(len(t)))
            for t in rows
        ]
        optima = analyze(noisy[0].vstack(noisy[1]).vstack(noisy[2]), "causal_lm").optima
        held += sum(o.n.low <= 1e4 <= o.n.high for o in optima)
    assert held >= 31  # of 36; parabolas hold it in none
