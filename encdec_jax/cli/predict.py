"""The verb predict: the loss of an experiment's runs, registered before they are made."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encdec_jax.cli.arguments import add_verb
from encdec_jax.errors import UserError
from encdec_jax.files import expanded

if TYPE_CHECKING:
    import polars as pl

    from encdec_jax.study.predictions import Forecast
    from encdec_jax.sweep.experiment import Experiment

TEXT = "write the predicted loss, with interval, of an experiment's runs that are not yet made"
EPILOG = """\
The law is fitted to the experiment's runs that are done, or to another table (--from). Forecasts go to
predictions.json in the experiment's runs folder, with the hashes of the fit and of its inputs; encdec report scores
them. A run's forecast stands from the moment that the run begins. Before that, giving this command again replaces it
if the fit has changed, and leaves it, with its time, if not. A run that has begun without a forecast gets none.

  encdec predict experiments/larger --from experiments/quickstart/results.parquet
"""


def add(verbs: Any) -> argparse.ArgumentParser:
    """Add the verb to the parser."""
    parser = add_verb(verbs, "predict", TEXT, EPILOG)
    option = parser.add_argument
    option("folder", type=expanded, metavar="EXPERIMENT", help="a folder that holds a sweep.py")
    text = "results table to fit to, or a folder that holds one; default: the experiment's own runs"
    option("--from", dest="source", type=expanded, metavar="TABLE", help=text)
    option("--law", default="chinchilla3", metavar="NAME", help="of n, d and c; default chinchilla3")
    option("--extrapolate", action="store_true", help="predict runs beyond 3 times the largest compute fitted, too")
    option("--json", action="store_true", help="print one JSON object: what predictions.json holds")
    parser.set_defaults(function=_predict)
    return parser


def _predict(options: argparse.Namespace) -> int:
    from encdec_jax.study.forecast import forecast
    from encdec_jax.study.health import check
    from encdec_jax.study.predictions import FORECASTS, fields, registered
    from encdec_jax.sweep import results
    from encdec_jax.sweep.experiment import load
    from encdec_jax.sweep.replica import pull_whole
    from encdec_jax.train.objects import put_json

    experiment = load(options.folder)
    before = registered(experiment.root)
    left = _not_begun(experiment)
    table = results.ended(experiment) if options.source is None else results.load(options.source)
    own = options.source is None and experiment.health is not None
    if own:
        pull_whole(experiment.root, table["run_id"])
    made = forecast(
        table,
        _planned(experiment, left),
        _now(),
        excluded=check(experiment.health, table, experiment.root) if own else (),
        law=options.law,
        pooled=experiment.pooled,
        settings=experiment.settings,
        extrapolate=options.extrapolate,
    )
    kept = dict(before)
    for identity, one in made.runs.items():
        if identity not in before or before[identity].fit != one.fit:
            kept[identity] = one
    late = [identity for identity in experiment.runs if identity not in left and identity not in before]
    if not kept:
        reasons = "; ".join(made.refused) or f"all {len(late)} runs have begun"
        raise UserError(f"no run of {options.folder} can be predicted: {reasons}")
    path = experiment.root / FORECASTS
    stored = {**(_stored_fits(path) if before else {}), **made.fits}
    used = {one.fit for one in kept.values()}
    value = {
        "fits": {name: fit for name, fit in stored.items() if name in used},
        "runs": {identity: fields(one) for identity, one in kept.items()},
    }
    if kept != before:
        put_json(path, value)
    if options.json:
        print(json.dumps(value, indent=1, sort_keys=True))
        return 0
    _print(experiment, kept, before, left)
    for line in (
        *_warnings(kept, value["fits"]),
        *made.refused,
        *([f"{len(late)} runs had begun, or ended, without a forecast"] if late else []),
    ):
        print(line)
    print(f"predictions: {path}{'' if kept != before else ' (as before)'}")
    return 0


def _not_begun(experiment: Experiment) -> set[str]:
    """Runs that nothing is known of yet."""
    from encdec_jax.sweep.store import run_state

    states = {identity: run_state(experiment.run_folder(identity)) for identity in experiment.runs}
    return {identity for identity, state in states.items() if state.status == "pending" and not state.tokens}


def _planned(experiment: Experiment, runs: set[str]) -> pl.DataFrame:
    import polars as pl

    from encdec_jax.data.cache import manifest_of
    from encdec_jax.sweep.cost import cost
    from encdec_jax.sweep.identity import scored

    rows = []
    for identity, run in experiment.runs.items():
        if identity in runs:
            due = cost(run)
            size = (due.n_params, run.train.tokens, due.train_flops)
            digest = (manifest_of(run.data.task, run.data.vocab) or {}).get("digest")
            rows.append((identity, experiment.labels[identity], *size, digest, scored(run)))
    names = {
        "run_id": pl.String,
        "label": pl.String,
        "n_params": pl.Int64,
        "tokens": pl.Int64,
        "train_flops": pl.Float64,
        "cache_digest": pl.String,
        "scored": pl.String,
    }
    return pl.DataFrame(rows, schema=names, orient="row")


def _stored_fits(path: Path) -> dict[str, Any]:
    from encdec_jax.files import read_json

    fits: dict[str, Any] = read_json(path)["fits"]
    return fits


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds")


def _print(experiment: Experiment, kept: dict[str, Forecast], before: dict[str, Forecast], left: set[str]) -> None:
    from encdec_jax.laws.interval import Interval
    from encdec_jax.report.words import interval
    from encdec_jax.text import amount, console, table

    order = {identity: place for place, identity in enumerate(experiment.runs)}
    out = table("run", "label", "fit", "registered", "parameters", "tokens", "bits per byte", left=4)
    for identity, one in sorted(kept.items(), key=lambda item: order.get(item[0], len(order))):
        state = "begun since" if identity not in left else "as before" if before.get(identity) is one else "now"
        predicted = interval(Interval(one.value, one.low, one.high))
        out.add_row(identity, one.label, one.fit[:12], f"{one.at} ({state})", amount(one.n), amount(one.d), predicted)
    console().print(out)


def _warnings(kept: dict[str, Forecast], fits: dict[str, dict[str, Any]]) -> list[str]:
    """What each fit warns of, and where it gives no interval; a line each."""
    found = []
    for name, fit in sorted(fits.items()):
        own = [one for one in kept.values() if one.fit == name]
        label = ", ".join(sorted({one.label for one in own}))
        lines = list(fit["warnings"])
        if bare := [one for one in own if not one.known]:
            of = "any run" if len(bare) == len(own) else f"{len(bare)} of {len(own)} runs"
            lines.append(f"no interval of {of}: resampled, the law does not bound their losses")
        found += [f"fit {name[:12]} of {label}: {line}" for line in lines]
    return found
