"""How far parabolas miss the best size without any noise: a check of Approach 2 by Approach 3.

Along one budget, at w = ln(N/N*), the law E + A/N^alpha + B/D^beta is E + P e^(-alpha w) + R e^(s beta w), with s the
slope of -ln D over ln N (1 at C = 6 N D) and alpha P = s beta R as the slope at w = 0 is 0: no parabola. A parabola
fitted to sizes of mean square m2 and mean fourth power m4 about N* has its vertex, to first order in the third
derivative, at

    w = (alpha - s beta)/6 m4/m2,   for sizes evenly spaced between -W and W: (alpha - s beta) W^2 / 10.

So a wide grid on an asymmetric law misplaces the optimum; as w is the same at every budget, the exponent of N*(C)
stays. Where the grid's centre is off the optimum by more at some budgets than at others, the exponent is off too. The
three causes - width, centre, asymmetry - are those of Czech et al. 2026 (arXiv 2603.22339); the formula is derived
here, and `diagnose` computes the miss exactly, on the sizes that were trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encdec_jax.errors import require
from encdec_jax.laws.fit import Fitted
from encdec_jax.laws.frontier import fit_power
from encdec_jax.study.curves import Curve
from encdec_jax.study.isoflop import solver


@dataclass(frozen=True, eq=False)
class Bias:
    """The miss of the parabolas of one label, were its law exact and its runs without noise; [budgets].

    Attributes:
      budgets: training FLOPs, rising.
      n: the best parameter count by the law.
      miss: ln of the parabola's best parameter count over the law's; NaN where the parabola has no minimum.
      by_width: the part of it that the same sizes, moved to be centred on the law's optimum, would have.
      centre: ln of the middle of the grid over the law's best parameter count.
      width: half the grid's width, in ln(N).
      exponent: what the misses add to the exponent of N*(C); NaN with fewer than 2 budgets.
    """

    budgets: np.ndarray
    n: np.ndarray
    miss: np.ndarray
    by_width: np.ndarray
    centre: np.ndarray
    width: np.ndarray
    exponent: float


def diagnose(curves: list[Curve], law: Fitted) -> Bias:
    """What the parabolas through these sizes would miss, if the law were the truth.

    Args:
      curves: of one label, one a budget, each with at least 3 sizes.
      law: chinchilla3, fitted to the label's runs.

    Raises:
      UserError: another law, no curves, or too few sizes.
    """
    require(law.form.name == "chinchilla3", "law", law.form.name, "chinchilla3")
    require(bool(curves), "curves", "none", "at least one budget")
    few = [curve.budget for curve in curves if len(curve.n) < 3]
    require(not few, "budgets with fewer than 3 sizes", few, "3 sizes or more at every budget")
    found = [_one(curve, law) for curve in sorted(curves, key=lambda curve: curve.budget)]
    budgets, n, miss, by_width, centre, width = np.array(found).T
    known = np.isfinite(miss)
    exponent = float("nan")
    if known.sum() >= 2:
        exponent = float(fit_power(budgets[known], np.exp(miss[known]), float(budgets[-1])).slope)
    return Bias(budgets, n, miss, by_width, centre, width, exponent)


def _one(curve: Curve, law: Fitted) -> tuple[float, ...]:
    value = law.params
    x = np.log(curve.n)
    slope, level = np.polyfit(x, np.log(curve.d), 1)
    pull = -slope * value["beta"]  # exponent with which the data term rises along the budget
    ratio = value["alpha"] * value["A"] / (pull * value["B"])
    optimum = (np.log(ratio) + value["beta"] * level) / (value["alpha"] + pull)
    middle = (x[0] + x[-1]) / 2

    def vertex(shift: float) -> float:
        sizes = x + shift
        tokens = np.exp(np.log(curve.d) + slope * shift)
        _, c1, c2 = solver(curve) @ law.predict({"n": np.exp(sizes), "d": tokens})
        return float(x.mean() + shift - c1 / (2 * c2) - optimum) if c2 > 0 else float("nan")

    half = (x[-1] - x[0]) / 2
    return curve.budget, float(np.exp(optimum)), vertex(0.0), vertex(optimum - middle), middle - optimum, half
