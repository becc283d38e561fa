"""A law of anybody's table, as a terminal shows it."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console

from encdec_jax.laws.estimate import Estimate
from encdec_jax.laws.holdout import HeldOut
from encdec_jax.laws.interval import Interval
from encdec_jax.report.words import flops, number
from encdec_jax.text import table


def print_fit(found: Estimate, source: Path, console: Console) -> None:
    """Print a law with intervals, what was left out, how it predicts what was held out and asked for, and warnings.

    Args:
      found: the law.
      source: the table's path.
      console: to print on.
    """
    fit = found.fitted
    console.print(f"{fit.form.name}: {fit.form.formula}  ({fit.form.source})")
    left_out = "".join(f"; {len(rows)} left out: {rule}" for rule, rows in found.points.excluded.items())
    console.print(f"{source}: {fit.n_points} points{left_out}\n")
    if not found.converged:
        console.print("The fit did not converge: there is no law to report.")
    else:
        out = table("", "value", "from", "to", left=1)
        for name, one in (found.params | found.derived).items():
            out.add_row(name, *_cells(one, name in fit.fixed))
        console.print(out)
        size = number(fit.residuals.std()) if not fit.form.logarithmic else f"{number(100 * fit.residuals.std())} %"
        console.print(
            f"\n95 % intervals; objective {fit.objective:.6g} (Huber, delta {fit.delta:g}, summed), residuals "
            f"{size} of the loss, condition {fit.condition:.2g}; "
            f"{fit.agree} of {fit.starts} starts agree; {len(found.draws)} resamples by {found.scheme}, {found.kind}"
        )
    if found.held_out is not None:
        _print_held_out(found.held_out, "training FLOPs" if "c" in found.points.columns else "6 n d", console)
    if found.predicted:
        out = table("predicted", "value", "from", "to", left=1)
        for run in found.predicted:
            at = ", ".join(f"{name}={f'{to:.6g}' if isinstance(to, float) else to}" for name, to in run.at.items())
            out.add_row(at, *_cells(run.loss))
        console.print()
        console.print(out)
        console.print("From and to: the 95 % interval that such a run itself would lie in")
    for text in found.warnings:
        console.print(f"warning: {text}")


def _cells(one: Interval, held: bool = False) -> tuple[str, str, str]:
    ends = (number(one.low), number(one.high)) if one.known else ("held" if held else "no interval", "")
    return number(one.value), *ends


def _print_held_out(found: HeldOut, counted: str, console: Console) -> None:
    """How the law, fitted to the smaller budgets, predicts the runs of the largest."""
    known, logarithmic = math.isfinite(found.coverage), found.fitted.form.logarithmic
    out = table("held out", "runs", "fitted to", "error", "bias", "coverage", left=1)
    out.add_row(
        f"{counted} from {flops(found.start)}",
        str(len(found.loss)),
        str(found.fitted.n_points),
        f"{number(100 * found.error)} %" if logarithmic else number(found.error),
        f"{100 * found.bias:+.3g} %" if logarithmic else f"{found.bias:+.3g}",
        f"{found.coverage:.0%}" if known else "no interval",
    )
    console.print()
    console.print(out)
    apart = "ln(loss / predicted)" if logarithmic else "loss - predicted"
    console.print(
        f"Error: root mean square of {apart}; bias: its mean, above 0 where the law hopes for too much; "
        "coverage: share of runs inside their 95 % prediction interval"
    )
