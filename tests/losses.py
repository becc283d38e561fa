"""Tables of losses that known laws give."""

from __future__ import annotations

import numpy as np

from encdec_jax.laws.form import Form
from encdec_jax.laws.forms import FORMS

CHINCHILLA = FORMS["chinchilla3"]
TRUTH = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
FEW = CHINCHILLA.grid()[::45]  # starts enough for a study without surprises
_RANGES = {
    "n": (1e4, 1e10),
    "d": (1e6, 1e12),
    "u": (1e6, 1e10),
    "c": (1e10, 1e22),
    "n_enc": (1e4, 1e9),
    "n_dec": (1e4, 1e9),
    "width": (16, 4096),
    "depth": (2, 64),
    "x": (0.5, 8),
}


def scattered(form: Form, random: np.random.Generator, points: int = 11) -> dict[str, np.ndarray]:
    """The columns of a law, spread evenly in the logarithm."""
    columns = {
        name: np.exp(random.uniform(*np.log(_RANGES[name]), points)) for name in form.columns if name != form.group
    }
    if form.group:
        columns[form.group] = np.resize(np.array(form.groups), points)
    return columns


def study(
    noise: float = 0.0, budgets: int = 6, sizes: int = 8, seed: int = 0, truth: dict[str, float] | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Runs at 6 N D FLOPs with sizes about the best one: columns and losses."""
    random = np.random.default_rng(seed)
    compute = np.repeat(np.geomspace(1e18, 1e21, budgets), sizes)
    n = 0.6 * (compute / 6) ** 0.45 * np.tile(np.geomspace(0.15, 7, sizes), budgets)
    columns = {"n": n, "d": compute / 6 / n}
    loss = CHINCHILLA.predict(np.array(list((truth or TRUTH).values())), columns)
    return columns, loss * np.exp(noise * random.standard_normal(len(n)))
