"""The verb fit: a law of anybody's table, with intervals and a picture."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from encdec_jax.cli.arguments import add_verb
from encdec_jax.errors import require
from encdec_jax.files import expanded

if TYPE_CHECKING:
    from rich.console import Console

    from encdec_jax.laws.estimate import Estimate
    from encdec_jax.laws.holdout import HeldOut

TEXT = "fit a law to any table of losses: parameters and exponents with intervals, and a picture"
EPILOG = """\
Laws: chinchilla3, coupled and kaplan read n and d; kaplan_n n; kaplan_d and bansal d; power and saturating c; encdec
n-enc and n-dec; encdec_d those and d; data_constrained n, d and u; width_depth width, depth and d.
--hold-out fits the law again to the runs below a budget, and says how it predicts those at the budget and above. Which
budget a run has, --c says, if given; else it is 6 n d.
Exit code 1: the fit did not converge, and no numbers are given.

  encdec fit runs.csv --law chinchilla3 --n params --d tokens --loss val_loss
  encdec fit runs.csv --law chinchilla3 --n params --d tokens --loss val_loss --where "family=t5" --json
  encdec fit runs.csv --law chinchilla3 --n N --d D --arch arch --shared E     a law an architecture, with one E
"""
_ROLES = {
    "n": "parameters",
    "d": "training tokens",
    "c": "training FLOPs",
    "n-enc": "the encoder's parameters",
    "n-dec": "the decoder's parameters",
    "u": "unique tokens",
    "width": "d_model",
    "depth": "layers",
}


def add(verbs: Any) -> argparse.ArgumentParser:
    """Add the verb to the parser."""
    parser = add_verb(verbs, "fit", TEXT, EPILOG)
    option = parser.add_argument
    option("table", type=expanded, metavar="TABLE", help="a row a run: a .csv with a header, or a .parquet")
    option("--law", required=True, metavar="NAME", help="see below")
    option("--loss", required=True, metavar="COLUMN", help="of losses, above 0, in any unit")
    for role, text in _ROLES.items():
        option(f"--{role}", metavar="COLUMN", help=f"of {text}")
    option("--weight", metavar="COLUMN", help="of weights of the rows, at least 0")
    option("--arch", metavar="COLUMN", help="of architectures: each gets a law of its own, but for --shared")
    option("--shared", metavar="NAME,...", default="", help="parameters that the architectures have in common")
    option("--where", action="append", default=[], metavar="CONDITION", help="COLUMN=VALUE; or !=, <, <=, >, >=")
    option("--delta", type=float, default=1e-3, help="of the Huber loss, in ln(loss); default 1e-3")
    option("--bootstrap", default="run", metavar="SCHEME", help="resample by run (default), seed, budget, hierarchical")
    for role, text in (
        ("seed", "seeds"),
        ("budget", "budgets"),
        ("trunk", "trunks: runs of one are resampled together"),
    ):
        option(f"--{role}", metavar="COLUMN", help=f"of {text}")
    option("--resamples", type=int, default=1000, metavar="N", help="default 1000")
    option(
        "--hold-out",
        metavar="BUDGET",
        help="predict the runs of this many FLOPs or more from those below; 'largest': of 95 %% of the most, or more",
    )
    option("--interval", default="percentile", metavar="KIND", help="percentile (default), basic, bca")
    option(
        "--out", type=expanded, metavar="FOLDER", help="of the picture (PNG, SVG); default: here, and none with --json"
    )
    option("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(function=_fit)
    return parser


def _fit(options: argparse.Namespace) -> int:
    from encdec_jax.laws.estimate import estimate
    from encdec_jax.text import console

    columns = {role.replace("-", "_"): getattr(options, role.replace("-", "_")) for role in _ROLES}
    labels = {"seed": options.seed, "budget": options.budget, "trunk": options.trunk}
    found = estimate(
        options.table,
        options.law,
        options.loss,
        weight=options.weight,
        arch=options.arch,
        shared=[name.strip() for name in options.shared.split(",") if name.strip()],
        labels={role: name for role, name in labels.items() if name is not None},
        where=options.where,
        scheme=options.bootstrap,
        resamples=options.resamples,
        kind=options.interval,
        delta=options.delta,
        hold_out=None if options.hold_out is None else _budget(options.hold_out),
        **{role: name for role, name in columns.items() if name is not None},
    )
    folder = options.out or (None if options.json else Path())
    pictures = _draw(found, folder / f"{options.table.stem}-{options.law}") if folder and found.converged else []
    if options.json:
        print(json.dumps({"table": str(options.table), **found.json()}, indent=1))
    else:
        _print(found, options, console())
        for path in pictures:
            print(f"picture: {path}")
    return 0 if found.converged else 1


def _budget(text: str) -> float | Literal["largest"]:
    if text == "largest":
        return "largest"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    require(0 < value < math.inf, "hold-out", text, "FLOPs above 0, or 'largest'")
    return value


def _draw(found: Estimate, stem: Path) -> list[Path]:
    from encdec_jax.report.figures import fitted, publication, save

    with publication("page"):
        figure = fitted(found)
        return [save(figure, stem.with_name(f"{stem.name}{suffix}")) for suffix in (".png", ".svg")]


def _print(found: Estimate, options: argparse.Namespace, console: Console) -> None:
    from rich.text import Text

    from encdec_jax.report.words import number
    from encdec_jax.text import table

    fit = found.fitted
    console.print(f"{fit.form.name}: {fit.form.formula}  ({fit.form.source})", markup=False)
    left_out = "".join(f"; {len(rows)} left out: {rule}" for rule, rows in found.points.excluded.items())
    console.print(f"{options.table}: {fit.n_points} points{left_out}\n", markup=False)
    if not found.converged:
        console.print("The fit did not converge: there is no law to report.")
    else:
        out = table("", "value", "from", "to", left=1)
        for name, one in (found.params | found.derived).items():
            ends = (number(one.low), number(one.high)) if one.known else ("no interval", "")
            out.add_row(Text(name), number(one.value), *ends)  # no markup: a name may hold brackets
        console.print(out)
        console.print(
            f"\n95 % intervals; objective {fit.objective:.6g} (Huber, delta {fit.delta:g}, summed), residuals "
            f"{number(100 * fit.residuals.std())} % of the loss, condition {fit.condition:.2g}; "
            f"{fit.agree} of {fit.starts} starts agree; {len(found.draws)} resamples by {found.scheme}, {found.kind}"
        )
    if found.held_out is not None:
        _print_held_out(found.held_out, "training FLOPs" if options.c else "6 n d", console)
    for text in found.warnings:
        console.print(f"warning: {text}", markup=False)


def _print_held_out(found: HeldOut, counted: str, console: Console) -> None:
    """How the law, fitted to the smaller budgets, predicts the runs of the largest."""
    from encdec_jax.report.words import flops, number
    from encdec_jax.text import table

    known = math.isfinite(found.coverage)
    out = table("held out", "runs", "fitted to", "error", "bias", "coverage", left=1)
    out.add_row(
        f"{counted} from {flops(found.start)}",
        str(len(found.loss)),
        str(found.fitted.n_points),
        f"{number(100 * found.error)} %",
        f"{100 * found.bias:+.3g} %",
        f"{found.coverage:.0%}" if known else "no interval",
    )
    console.print()
    console.print(out)
    console.print(
        "Error: root mean square of ln(loss / predicted); bias: its mean, above 0 where the law hopes for too much; "
        "coverage: share of runs inside their 95 % prediction interval"
    )
