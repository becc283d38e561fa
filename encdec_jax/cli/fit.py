"""The verb fit: a law of anybody's table, with intervals and a picture."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from encdec_jax.cli.arguments import add_verb, ranged
from encdec_jax.errors import require
from encdec_jax.files import expanded
from encdec_jax.ranges import POSITIVE, Range

if TYPE_CHECKING:
    from encdec_jax.laws.estimate import Estimate

TEXT = "fit a law to any table of losses: parameters and exponents with intervals, and a picture"
EPILOG = """\
Laws: chinchilla3, coupled and kaplan read n and d; kaplan_n n; kaplan_d and bansal d; power and saturating c; encdec
n-enc and n-dec; encdec_d those and d; data_constrained n, d and u; width_depth width, depth and d; loss_to_loss x.
--hold-out fits the law again to the runs below a budget, and says how it predicts those at the budget and above. Which
budget a run has, --c says, if given; else it is 6 n d.
Exit code 1: the fit did not converge, and no numbers are given.

  encdec fit runs.csv --law chinchilla3 --n params --d tokens --loss val_loss
  encdec fit runs.csv --law chinchilla3 --n params --d tokens --loss val_loss --where "family=t5" --json
  encdec fit runs.csv --law coupled --n N --c flops --d-from c/6n --loss loss --fixed E=1.7 --predict n=7B,d=140B
  encdec fit runs.csv --law chinchilla3 --n N --d D --arch arch --shared E     a law an architecture, with one E
  encdec fit results.parquet --law loss_to_loss --x suffix_bits_per_byte --loss "bleu my_pairs-test" --residuals loss
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
    "x": "another loss, or a score, of the same runs",
}


def add(verbs: Any) -> argparse.ArgumentParser:
    """Add the verb to the parser."""
    parser = add_verb(verbs, "fit", TEXT, EPILOG)
    option = parser.add_argument
    option("table", type=expanded, metavar="TABLE", help="a row a run: a .csv with a header, or a .parquet")
    option("--law", required=True, metavar="NAME", help="see below")
    option("--loss", required=True, metavar="COLUMN", help="of losses, above 0 but with --residuals loss, in any unit")
    for role, text in _ROLES.items():
        option(f"--{role}", metavar="COLUMN", help=f"of {text}")
    option("--weight", metavar="COLUMN", help="of weights of the rows, at least 0")
    option("--arch", metavar="COLUMN", help="of architectures: each gets a law of its own, but for --shared")
    option("--shared", metavar="NAME,...", default="", help="parameters that the architectures have in common")
    option("--where", action="append", default=[], metavar="CONDITION", help="COLUMN=VALUE; or !=, <, <=, >, >=")
    option("--d-from", metavar="RULE", help="tokens where no column has them: c/6n is training FLOPs over 6 parameters")
    option("--fixed", action="append", default=[], metavar="NAME=VALUE", help="hold a parameter of the law")
    option(
        "--residuals", default="log", metavar="KIND", help="of ln(loss): log (default); or of a loss of any sign: loss"
    )
    option(
        "--delta",
        type=ranged("delta", POSITIVE),
        default=1e-3,
        help="of the Huber loss, in units of the residuals; default 1e-3",
    )
    text = "print the loss of such a run, as n=7e9,d=1.4T, with the interval that it would lie in"
    option("--predict", action="append", default=[], metavar="COLUMN=NUMBER,...", help=text)
    option("--extrapolate", action="store_true", help="predict runs more than 3 times beyond those fitted, too")
    option("--bootstrap", default="run", metavar="SCHEME", help="resample by run (default), seed, budget, hierarchical")
    for role, text in (
        ("seed", "seeds"),
        ("budget", "budgets"),
        ("trunk", "trunks: runs of one are resampled together"),
    ):
        option(f"--{role}", metavar="COLUMN", help=f"of {text}")
    option(
        "--resamples",
        type=ranged("resamples", Range(0, 1_000_000), int),
        default=1000,
        metavar="N",
        help="default 1000",
    )
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
    from encdec_jax.laws.ahead import parsed
    from encdec_jax.laws.estimate import estimate
    from encdec_jax.tables.fit import print_fit
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
        fixed=_fixed(options.fixed),
        residuals=options.residuals,
        d_from=options.d_from,
        predict=[parsed(text) for text in options.predict],
        extrapolate=options.extrapolate,
        hold_out=None if options.hold_out is None else _budget(options.hold_out),
        **{role: name for role, name in columns.items() if name is not None},
    )
    folder = options.out or (None if options.json else Path())
    pictures = _draw(found, folder / f"{options.table.stem}-{options.law}") if folder and found.converged else []
    if options.json:
        print(json.dumps({"table": str(options.table), **found.json()}, indent=1))
    else:
        print_fit(found, options.table, console())
        for path in pictures:
            print(f"picture: {path}")
    return 0 if found.converged else 1


def _fixed(texts: list[str]) -> dict[str, float]:
    from encdec_jax.laws.cells import number

    found: dict[str, float] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.rpartition("="))  # a joint law's names may hold the sign
        held = number(value)
        require(bool(name) and name not in found and held is not None, "fixed", text, "NAME=NUMBER, each name once")
        found[name] = held if held is not None else math.nan
    return found


def _budget(text: str) -> float | Literal["largest"]:
    if text == "largest":
        return "largest"
    from encdec_jax.laws.cells import number

    value = number(text)
    require(value is not None and 0 < value < math.inf, "hold-out", text, "FLOPs above 0, or 'largest'")
    return value if value is not None else math.nan


def _draw(found: Estimate, stem: Path) -> list[Path]:
    from encdec_jax.report.figures import fitted, publication, save

    with publication("page"):
        figure = fitted(found)
        return [save(figure, stem.with_name(f"{stem.name}{suffix}")) for suffix in (".png", ".svg")]
