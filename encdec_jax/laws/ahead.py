"""What a fitted law says of runs that are not in its table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from encdec_jax.errors import require
from encdec_jax.laws.cells import number
from encdec_jax.laws.fit import Fitted
from encdec_jax.laws.form import Columns, Form
from encdec_jax.laws.interval import LEVEL, Interval
from encdec_jax.laws.joint import GROUP

REACH = 3.0  # times beyond the data that a law is trusted
_SEED = 20_220_329


@dataclass(frozen=True)
class Ahead:
    """A run's predicted loss: what the law says, and the 95 % interval that the run itself would lie in."""

    at: dict[str, float | str]
    loss: Interval

    def json(self) -> dict[str, Any]:
        """One object."""
        return {"at": self.at, "loss": self.loss.json()}


def parsed(text: str) -> dict[str, float | str]:
    """A run as columns and values: 'n=7e9,d=1.4T', and arch=NAME of a joint law.

    Raises:
      UserError: something else.
    """
    found: dict[str, float | str] = {}
    for part in text.split(","):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        read = value if name == GROUP else number(value)
        fits = bool(sign and name and name not in found and value) and read is not None
        require(fits, "predict", text, "COLUMN=NUMBER,... as n=7e9,d=1.4T, each column once")
        found[name.replace("-", "_")] = value if read is None else read
    return found


def near(form: Form, columns: Columns, at: Mapping[str, float | str], extrapolate: bool) -> None:
    """Refuse a run that a law of these points can't tell of.

    Args:
      form: the law.
      columns: that it reads, at the points it is fitted to, [points].
      at: a value for each column that it reads.
      extrapolate: accept also more than `REACH` times beyond the points: in a column, or in 6 n d.

    Raises:
      UserError: a column is missing or is not the law's, a number is not above 0, or the run lies too far.
    """
    require(set(at) == set(form.columns), "predict", ", ".join(at), f"a value for each of {', '.join(form.columns)}")
    if GROUP in at:
        groups = sorted(set(np.asarray(columns[GROUP]).tolist()))
        require(at[GROUP] in groups, f"predict: {GROUP}", at[GROUP], f"one of {', '.join(groups)}")
    spans = {name: (float(to), columns[name]) for name, to in at.items() if name != GROUP}
    for name, (value, _) in spans.items():
        require(0 < value < math.inf, f"predict: {name}", value, "finite, above 0")
    if {"n", "d"} <= set(spans):
        spans["6 n d"] = 6 * spans["n"][0] * spans["d"][0], 6 * columns["n"] * columns["d"]
    for name, (value, fitted) in spans.items():
        low, high = float(fitted.min()), float(fitted.max())
        reach = (
            f"{low / REACH:.4g} to {high * REACH:.4g}, {REACH:g} times beyond the runs fitted; more with --extrapolate"
        )
        inside = low / REACH <= value <= high * REACH
        require(extrapolate or inside, f"predict: {name}", float(f"{value:.4g}"), reach)


def ahead(fitted: Fitted, draws: np.ndarray, at: Mapping[str, float | str]) -> Ahead:
    """The loss of a run that is `near`, by a law that converged and by its resamples [draws, params]."""
    columns = {name: np.array([at[name]]) for name in fitted.form.columns}
    loss = float(fitted.predict(columns)[0])
    if not len(draws):
        return Ahead(dict(at), Interval(loss))
    runs = fitted.runs(fitted.form.predict(draws, columns), np.random.default_rng(_SEED))[:, 0]
    low, high = np.quantile(runs, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return Ahead(dict(at), Interval(loss, float(low), float(high)).unless_flat())
