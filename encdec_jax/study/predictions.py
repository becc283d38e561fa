"""What is expected before runs are made, and what came of it. Imports nothing heavy: sweep.py needs it.

A `Prediction` is a sentence that a study's findings hold or fail. A `Forecast` is the loss of one run that is not yet
made, with its interval; `encdec predict` registers it beside the runs, and `score` holds it against what they reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from encdec_jax.errors import Undecided, UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.files import read_json

if TYPE_CHECKING:
    import polars as pl

    from encdec_jax.study.findings import Findings

FORECASTS = "predictions.json"

Verdict = Literal["held", "failed", "undecided"]


@dataclass(frozen=True)
class Prediction:
    """One expectation.

    Attributes:
      text: what is expected, in a sentence.
      check: of what was found: True if it held, False if it failed, None if the intervals do not tell. An
        `Interval`'s `above` and `below` answer in this way.
    """

    text: str
    check: Callable[[Findings], bool | None]

    def score(self, findings: Findings) -> Verdict:
        """The verdict alone, as `judge` gives it."""
        return self.judge(findings)[0]

    def judge(self, findings: Findings) -> tuple[Verdict, str]:
        """Whether the prediction held, by what supports claims (`Findings.claimed`), and why that is undecided, if so.

        Raises:
          UserError: the check itself is at fault: it raises, or gives something other than a truth value or None.
        """
        try:
            outcome = self.check(findings.claimed)
        except Undecided as why:
            return "undecided", str(why)
        except Exception as error:
            raise UserError(f"prediction {self.text!r}: its check raises {type(error).__name__}: {error}") from error
        if outcome is None:
            return "undecided", "the intervals don't tell"
        if outcome in (True, False):  # NumPy's truth values too
            return ("held" if outcome else "failed"), ""
        raise UserError(f"prediction {self.text!r}: its check gives {outcome!r}; accepted: True, False or None")


@dataclass(frozen=True)
class Forecast:
    """The predicted loss of one run.

    Attributes:
      run_id: of the run.
      label: of the run.
      n, d: its parameters and training tokens.
      value: bits per byte.
      low, high: ends of the 95 % prediction interval: of the run's own loss, not of the law alone. NaN where the fit
        gives none.
      sd: standard deviation of a normal distribution with an interval of this width; NaN without one.
      fit: hash of the fit, and `inputs`: of the rows that it was fitted to (both SHA-256, hexadecimal).
      at: when it was registered, UTC, to the second.
    """

    run_id: str
    label: str
    n: float
    d: float
    value: float
    low: float
    high: float
    sd: float
    fit: str
    inputs: str
    at: str

    @property
    def known(self) -> bool:
        """Whether there is an interval, of some width."""
        return math.isfinite(self.sd) and self.sd > 0


@dataclass(frozen=True)
class Scored:
    """A forecast beside what came of it.

    Attributes:
      forecast: as registered before the run.
      status: of the run: done, diverged, failed, or pending where the table has no row of it.
      observed: bits per byte; None unless the run is done.
      error: observed - predicted, bits per byte.
      z: the error in the forecast's standard deviations; None without an interval.
      inside: whether the interval holds what was observed; None without an interval.
    """

    forecast: Forecast
    status: str
    observed: float | None = None
    error: float | None = None
    z: float | None = None
    inside: bool | None = None


@dataclass(frozen=True)
class Calibration:
    """How good forecasts were, over the runs that are done.

    Attributes:
      n: runs.
      known: of them, those whose forecasts have an interval.
      bias: mean error, bits per byte: above 0 where losses came out higher than predicted.
      error: root of the mean squared error, bits per byte.
      z: root of the mean squared z: 1 where the intervals have the right width, above 1 where they are too narrow;
        None without any interval.
      coverage: share inside their 95 % intervals, of those with one; None without any.
    """

    n: int
    known: int
    bias: float
    error: float
    z: float | None
    coverage: float | None


def registered(root: Path) -> dict[str, Forecast]:
    """The forecasts in the folder of an experiment's runs, by run; none if none were made.

    Raises:
      UserError: the file is damaged.
    """
    path = root / FORECASTS
    if not path.exists():
        return {}
    found = read_json(path)
    try:
        return {identity: _read(identity, of) for identity, of in found["runs"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def fields(forecast: Forecast) -> dict[str, Any]:
    """What `predictions.json` holds of a forecast under its run's id; null stands for what is not known."""
    values = {name: value for name, value in asdict(forecast).items() if name != "run_id"}
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def score(forecasts: dict[str, Forecast], table: pl.DataFrame) -> list[Scored]:
    """Hold forecasts against a results table, in its order; runs that it has no row of come last.

    Args:
      forecasts: by run.
      table: with the columns of `encdec_jax.sweep.results.SCHEMA`.
    """
    rows = {row["run_id"]: row for row in table.iter_rows(named=True) if row["run_id"] in forecasts}
    ended = [_score(forecasts[identity], row) for identity, row in rows.items()]
    return ended + [Scored(forecast, "pending") for identity, forecast in forecasts.items() if identity not in rows]


def calibration(scored: Iterable[Scored]) -> Calibration | None:
    """How good the forecasts of runs that are done were; None if no such run is done."""
    done = list(scored)
    errors = [one.error for one in done if one.error is not None]
    if not errors:
        return None
    zs = [one.z for one in done if one.z is not None]
    return Calibration(
        n=len(errors),
        known=len(zs),
        bias=math.fsum(errors) / len(errors),
        error=math.sqrt(math.fsum(e * e for e in errors) / len(errors)),
        z=math.sqrt(math.fsum(z * z for z in zs) / len(zs)) if zs else None,
        coverage=sum(bool(one.inside) for one in done) / len(zs) if zs else None,
    )


def _score(forecast: Forecast, row: dict[str, Any]) -> Scored:
    observed = row[LOSS]
    if row["status"] != "done" or observed is None:
        return Scored(forecast, row["status"])
    error = observed - forecast.value
    if not forecast.known:
        return Scored(forecast, row["status"], observed, error)
    inside = forecast.low <= observed <= forecast.high
    return Scored(forecast, row["status"], observed, error, error / forecast.sd, inside)


def _read(identity: str, of: dict[str, Any]) -> Forecast:
    values: dict[str, Any] = {name: math.nan if value is None else value for name, value in of.items()}
    return Forecast(run_id=identity, **values)
