"""The loss of runs not yet made, predicted from runs that are done, each with an interval that the run itself meets.

A law is fitted to each label's runs. A forecast's distribution is that of the law's resamples, each with a
residual of the fit added in ln(loss): the noise of one run, and the law's lack of fit where it was fitted. What a wrong
law would miss elsewhere is not in it: so runs of more than `REACH` times the largest compute fitted are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from encdec_jax.errors import UserError, require
from encdec_jax.evaluate import LOSS
from encdec_jax.laws import estimate, table
from encdec_jax.laws.ahead import REACH
from encdec_jax.laws.estimate import Estimate
from encdec_jax.laws.forms import FORMS
from encdec_jax.study.curves import Exclusion
from encdec_jax.study.optima import without_outliers
from encdec_jax.study.pooling import NONE, Reasons
from encdec_jax.study.predictions import Forecast
from encdec_jax.sweep.experiment import Settings

LAW = "chinchilla3"
_SEED = 20_220_329
ROLES = {"n": "n_params", "d": "tokens", "c": "train_flops"}  # columns of a results table that a law may read
_NORMAL = 1.959964  # standard deviations from the mean to the ends of a normal distribution's 95 % interval


@dataclass(frozen=True)
class Forecasts:
    """What could be predicted.

    Attributes:
      runs: by run.
      fits: by hash: the fit as JSON, with the ids of the `runs` that it was fitted to, and the hash of their rows.
      refused: what could not be predicted, and why; a line each.
    """

    runs: dict[str, Forecast]
    fits: dict[str, dict[str, Any]]
    refused: tuple[str, ...]


def forecast(
    results: pl.DataFrame,
    planned: pl.DataFrame,
    at: str,
    *,
    excluded: Sequence[Exclusion] = (),
    law: str = LAW,
    pooled: Reasons = NONE,
    settings: Settings = "best",
    extrapolate: bool = False,
) -> Forecasts:
    """Predict planned runs from those that are done.

    Args:
      results: with the columns of `encdec_jax.sweep.results.SCHEMA`; rows that the study's own fits
        leave out are not fitted to: runs not done, outliers, and of several settings of one size all but the best,
        unless `settings` says otherwise.
      planned: run_id, label, n_params, tokens and train_flops of each run, and what text and windows it is to be
        scored on: cache_digest and scored, null or absent where they are not known.
      at: the time, as forecasts state it.
      excluded: runs that health rules leave out of all fits.
      pooled: why runs of several codes or texts may be pooled, if they are.
      settings: what stands for a size that was trained with several, as in `encdec_jax.study.curves.curves`.
      law: a name of `encdec_jax.laws.forms.FORMS` that reads no more than `ROLES`.
      extrapolate: predict runs beyond `REACH` times the largest compute, too.

    Raises:
      UserError: the law is unknown or reads other columns, a done run's loss is unsound, or planned runs are to be
        scored on other text or windows than those that are done, without a reason.
    """
    known = [name for name, form in FORMS.items() if set(form.columns) <= set(ROLES)]
    require(law in known, "law", law, f"one of {', '.join(known)}")
    refused: list[str] = []
    if made := set(planned["run_id"]) & set(results["run_id"]):
        refused.append(f"{len(made)} runs are in the table already: no forecast of them would be one")
        planned = planned.filter(~pl.col("run_id").is_in(made))
    _require_alike(results, planned, pooled)
    _, left_out, _ = without_outliers(results, excluded, pooled, settings)
    kept = results.filter(~pl.col("run_id").is_in([one.run_id for one in left_out]))
    runs: dict[str, Forecast] = {}
    fits: dict[str, dict[str, Any]] = {}
    for label in sorted(set(planned["label"])):
        mine, wanted = kept.filter(label=label).sort("run_id"), planned.filter(label=label)
        try:
            found = _estimate(mine, law)
        except UserError as error:
            refused.append(f"{label}: {error}")
            continue
        if not len(found.draws):
            reason = "; ".join(found.warnings) if found.converged else "the fit did not converge"
            refused.append(f"{label}: {law} gives no interval: {reason}")
            continue
        largest = float(np.max(mine["train_flops"].to_numpy()))
        far = wanted.filter(pl.col("train_flops") > REACH * largest)
        if len(far) and not extrapolate:
            farthest = float(far["train_flops"].to_numpy().max()) / largest
            refused.append(
                f"{label}: {len(far)} runs lie up to {farthest:.3g} times beyond the largest compute fitted, "
                f"{largest:.3g} FLOPs; more than {REACH:g} times only with --extrapolate"
            )
            wanted = wanted.filter(~pl.col("run_id").is_in(far["run_id"].to_list()))
        if len(wanted):
            name, record = _record(found, mine)
            fits[name] = record
            runs |= _forecasts(found, wanted, name, record["inputs"], at)
    return Forecasts(runs, fits, tuple(refused))


def _require_alike(results: pl.DataFrame, planned: pl.DataFrame, pooled: Reasons) -> None:
    """Refuse to carry losses of one text, or of one way to cut it, over to another."""
    for name in ("cache_digest", "scored"):
        done, wanted = (
            set(table[name].drop_nulls()) if name in table.columns else set() for table in (results, planned)
        )
        if done and wanted - done and name not in pooled:
            values = ", ".join(value[:12] for value in sorted(done))
            other = ", ".join(value[:12] for value in sorted(wanted - done))
            hint = f'POOLED = {{"{name}": "why"}} in sweep.py'
            raise UserError(f"planned runs are of {name} {other}, those done of {values}: no forecast without {hint}")


def _estimate(rows: pl.DataFrame, law: str) -> Estimate:
    form = FORMS[law]
    require(len(rows) > 0, "runs", 0, "runs done, to fit to")
    return estimate.of(table.points(rows, {role: ROLES[role] for role in form.columns}, LOSS), form)


def _record(found: Estimate, rows: pl.DataFrame) -> tuple[str, dict[str, Any]]:
    """The fit and its hash. The hash of its inputs is that of their numbers, whatever else the table holds."""
    inputs = rows.select("run_id", *ROLES.values(), LOSS).rows()
    record = {**found.json(), "inputs": _sha256(inputs), "runs": rows["run_id"].to_list()}
    return _sha256(record), record


def _forecasts(found: Estimate, planned: pl.DataFrame, fit: str, inputs: str, at: str) -> dict[str, Forecast]:
    form = found.fitted.form
    columns = {role: planned[ROLES[role]].to_numpy().astype(np.float64) for role in form.columns}
    value = found.fitted.predict(columns)
    free = found.fitted.n_points - len(form.names)
    residuals = found.fitted.residuals * np.sqrt(found.fitted.n_points / free)
    random = np.random.default_rng(_SEED)
    noise = random.choice(residuals, (len(found.draws), 1))  # one for all runs: a forecast is the same beside others
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.quantile(form.predict(found.draws, columns) * np.exp(noise), [0.025, 0.975], axis=0)
    bounded = np.isfinite(low) & np.isfinite(high)  # laws of few points may run off where they are resampled
    low, high = np.where(bounded, low, np.nan), np.where(bounded, high, np.nan)
    return {
        run_id: Forecast(
            run_id=run_id,
            label=label,
            n=float(n),
            d=float(d),
            value=float(value[i]),
            low=float(low[i]),
            high=float(high[i]),
            sd=float(high[i] - low[i]) / (2 * _NORMAL),
            fit=fit,
            inputs=inputs,
            at=at,
        )
        for i, (run_id, label, n, d) in enumerate(planned.select("run_id", "label", "n_params", "tokens").iter_rows())
    }


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
