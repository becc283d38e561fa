"""What was expected before the runs, as sections: sentences that held or failed, and forecasts of single losses."""

from __future__ import annotations

from collections.abc import Sequence

from encdec_jax.report.section import Section
from encdec_jax.study.findings import Findings
from encdec_jax.study.predictions import Calibration, Scored, calibration
from encdec_jax.sweep.experiment import Experiment


def predictions(experiment: Experiment, findings: Findings) -> Section:
    """What was expected, and whether it held.

    Raises:
      UserError: a prediction's check is at fault.
    """
    judged = [(prediction.judge(findings), prediction.text) for prediction in experiment.predictions]
    rows = [[verdict, text, why or "-"] for (verdict, why), text in judged]
    note = (
        "Registered in sweep.py before the runs, and judged by the rules of the answer: a budget whose best size may "
        "lie outside the sizes tried decides nothing, nor does a label whose noise is not known; where a best size is "
        "in doubt, intervals allow for it outside. Each prediction stands alone: its intervals are single ones."
    )
    columns = ("verdict", "prediction", "why undecided")
    return Section("Predictions", note if rows else "", columns, rows, "None was registered.")


def forecasts(scored: Sequence[Scored]) -> Section:
    """Losses predicted before the runs, beside what came of them."""
    empty = "None was registered: encdec predict writes them before the runs."
    if not scored:
        return Section("Predicted losses", "", empty=empty)
    fits = ", ".join(sorted({one.forecast.fit[:12] for one in scored}))
    inputs = ", ".join(sorted({one.forecast.inputs[:12] for one in scored}))
    note = f"Bits per byte, written before the runs by encdec predict: fit {fits}, of rows {inputs} (SHA-256)."
    found = calibration(scored)
    if found is not None:
        note += (
            f" Over {found.n} runs done: mean error {found.bias:+.4f}, root mean square {found.error:.4f} bits per "
            f"byte. {_intervals(found)}"
        )
    columns = (
        "run",
        "label",
        "predicted",
        "95 % interval",
        "observed",
        "error",
        "z",
        "inside",
        "registered (UTC)",
    )
    rows = [
        [
            one.forecast.run_id,
            one.forecast.label,
            f"{one.forecast.value:.4f}",
            f"[{one.forecast.low:.4f}, {one.forecast.high:.4f}]" if one.forecast.known else "no interval",
            one.status if one.observed is None else f"{one.observed:.4f}",
            "" if one.error is None else f"{one.error:+.4f}",
            absent if one.z is None else f"{one.z:+.2f}",
            absent if one.inside is None else "yes" if one.inside else "no",
            one.forecast.at,
        ]
        for one in scored
        for absent in ["-" * (not one.forecast.known)]
    ]
    return Section("Predicted losses", note, columns, rows)


def _intervals(found: Calibration) -> str:
    """Whether intervals have the right width, by the forecasts that have one."""
    if found.z is None or found.coverage is None:
        return "None of their forecasts has an interval."
    of = "All" if found.known == found.n else f"{found.known}"
    return (
        f"{of} have an interval: root mean square z {found.z:.2f} (1 if the intervals have the right width); "
        f"{found.coverage:.0%} inside their 95 % intervals."
    )
