"""The verbs that take an experiment folder: plan, run, status, collect, report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from encdec_jax.cli.arguments import add_verb, ranged
from encdec_jax.files import expanded
from encdec_jax.ranges import COUNT


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    _add(verbs, "plan", _plan, "print each run's id, shape, parameters, tokens, FLOPs and estimated seconds")
    text = "do every run that is missing, with worker processes; killed or repeated, it goes on where it was"
    jobs = _add(verbs, "run", _run, text)
    jobs.add_argument(
        "-j", "--jobs", type=ranged("jobs", COUNT, int), help="worker processes; default: one a CPU, each on its own"
    )
    text = "show which runs are pending, queued, running (how fast), stale, done, diverged, failed (why) or damaged"
    status = _add(verbs, "status", _status, text)
    status.add_argument("--watch", action="store_true", help="show it again and again, until every run has ended")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    text = "copy a finished study's table and figure from the runs folder into the experiment folder"
    collect = _add(verbs, "collect", _collect, text)
    collect.add_argument("--unfinished", action="store_true", help="the rows that there are, where runs are missing")
    text = "fit the laws and write report.html and figure.png into the experiment's runs folder"
    report = _add(verbs, "report", _report, text)
    text = "labels that pictures and tables show, beside the baseline; default: all. The answer is always of all"
    report.add_argument("--labels", metavar="LABEL,...", default="", help=text)


def _add(verbs: Any, name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser = add_verb(verbs, name, text)
    parser.add_argument("folder", type=expanded, metavar="EXPERIMENT", help="a folder that holds a sweep.py")
    parser.set_defaults(function=function)
    return parser


def _plan(options: argparse.Namespace) -> int:
    from encdec_jax.tables.plan import print_plan

    return print_plan(options.folder)


def _run(options: argparse.Namespace) -> int:
    from encdec_jax.sweep.launch import run

    return run(options.folder, options.jobs)


def _status(options: argparse.Namespace) -> int:
    from encdec_jax.tables.status import print_status

    return print_status(options.folder, options.watch, options.json)


def _collect(options: argparse.Namespace) -> int:
    from encdec_jax.sweep.results import collect_into

    return collect_into(options.folder, options.unfinished)


def _report(options: argparse.Namespace) -> int:
    from encdec_jax.report.html import write_report

    path = write_report(options.folder, options.labels)
    print(f"report: {path}")
    figure = path.with_name("figure.png")
    if figure.exists():
        print(f"figure: {figure}")
    return 0
