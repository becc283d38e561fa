"""The verb compare: two results tables side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encdec_jax.cli.arguments import add_verb
from encdec_jax.errors import require
from encdec_jax.files import expanded

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from encdec_jax.study.differences import Differences

TEXT = "print two results tables side by side: runs they share, differences of loss, optima, laws and gaps"
EPILOG = """\
  encdec compare experiments/quickstart/results.parquet runs/experiments/quickstart/results.parquet
  encdec compare ours.parquet theirs.csv --n params --c flops --loss bpb      both tables name their columns so
  encdec compare A/documents.jsonl B/documents.jsonl     two runs by document, as encdec evaluate --documents wrote them
"""
_COLUMNS = {
    "label": ("label", "of labels, each with curves and laws of its own (else arch; all runs are of one without)"),
    "n": ("n_params", "of parameters"),
    "d": ("tokens", "of training tokens"),
    "c": ("budget_flops", "of budgets, in training FLOPs, equal or near within a budget"),
    "loss": ("suffix_bits_per_byte", "of losses"),
}


def add(verbs: Any) -> argparse.ArgumentParser:
    """Add the verb to the parser."""
    parser = add_verb(verbs, "compare", TEXT, EPILOG)
    for name in ("a", "b"):
        parser.add_argument(
            name,
            type=expanded,
            metavar=name.upper(),
            help="a table (.parquet or .csv), a row a run; or documents.jsonl",
        )
    for role, (name, text) in _COLUMNS.items():
        help_text = f"column {text}, in a table that has it; else {name}"
        parser.add_argument(f"--{role}", metavar="COLUMN", help=help_text)
    text = "label that gaps are measured from; default causal_lm, or the first by name that both tables have"
    parser.add_argument("--baseline", metavar="LABEL", help=text)
    text = "why runs of one table that differ in code, cache_digest (text) or scored (held-out windows) may be pooled"
    parser.add_argument("--pool", action="append", default=[], metavar="COLUMN=WHY", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(function=_compare)
    return parser


def _compare(options: argparse.Namespace) -> int:
    by_document = [path.suffix == ".jsonl" for path in (options.a, options.b)]
    require(len(set(by_document)) == 1, "tables", f"{options.a} and {options.b}", "two of runs, or two of documents")
    if all(by_document):
        return _by_document(options)
    from encdec_jax.study.differences import apart, compare
    from encdec_jax.study.findings import analyze
    from encdec_jax.study.foreign import with_near_budgets
    from encdec_jax.text import console

    warnings: list[str] = []
    first, second = with_near_budgets(*(_table(path, options, warnings) for path in (options.a, options.b)))
    tables = first, second
    baseline = _baseline(tables, options.baseline)
    pooled = dict(_reason(text) for text in options.pool)
    findings = analyze(first, baseline, pooled=pooled), analyze(second, baseline, pooled=pooled)
    found = compare(tables, findings)
    warnings += apart(tables)
    if options.json:
        print(json.dumps({**_json(found, options, baseline), "warnings": warnings}, indent=1))
    else:
        _print(found, options, console())
        for text in warnings:
            console().print(f"warning: {text}")
    return 0


def _by_document(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from encdec_jax.report.words import interval
    from encdec_jax.study.documents import beside

    given = [f"--{name}" for name in (*_COLUMNS, "baseline", "pool") if getattr(options, name)]
    require(not given, "options", ", ".join(given), "none but --json: losses by document have no such columns")
    found = beside(options.a, options.b)
    if options.json:
        intervals = {name: getattr(found, name).json() for name in ("difference", "apart")}
        print(json.dumps({"a": str(options.a), "b": str(options.b), **asdict(found), **intervals}, indent=1))
        return 0
    print(f"A: {options.a}\nB: {options.b}")
    print(f"bits per byte: A {found.rates[0]:.4f}, B {found.rates[1]:.4f}")
    print(f"B - A: {interval(found.difference, sign=True)}, a 95 % interval of other documents for these very runs")
    print(f"       {interval(found.apart, sign=True)}, were each scored on documents of its own")
    print(
        f"{found.documents:,} documents in both, {found.only[0]:,} only in A, {found.only[1]:,} only in B;"
        f" B predicts {found.better:.0%} of them better"
        f"{'' if found.correlation is None else f'; correlation {found.correlation:.2f}'}"
    )
    return 0


def _reason(text: str) -> tuple[str, str]:
    name, equals, why = text.partition("=")
    require(bool(equals and why.strip()), "--pool", text, "a column and a reason, as code='only comments changed'")
    return name, why


def _table(path: Path, options: argparse.Namespace, warnings: list[str]) -> pl.DataFrame:
    """A table as one of results; what is odd about it joins the warnings."""
    import polars as pl

    from encdec_jax.evaluate import LOSS
    from encdec_jax.laws.read import read
    from encdec_jax.laws.units import doubts, tokens_per_parameter
    from encdec_jax.study.foreign import as_results, setting_columns
    from encdec_jax.sweep.results import SCHEMA

    raw = read(path)
    given = {ours: getattr(options, role) for role, (ours, _) in _COLUMNS.items() if getattr(options, role)}
    if "label" not in raw.columns and options.label is None:
        raw = raw.with_columns(label=pl.col("arch") if "arch" in raw.columns else pl.lit("all runs"))
    theirs = {ours: name for ours, name in given.items() if name in raw.columns or ours not in raw.columns}
    made = as_results(raw, theirs, str(path))
    if len(made) < len(raw):
        warnings.append(f"{path}: {len(raw) - len(made)} exact repeats of other rows are left out")
    own = [name for name in setting_columns(raw, theirs).values() if name not in SCHEMA]
    if own and "setting" not in raw.columns:
        warnings.append(f"{path}: rows that differ in {', '.join(own)} are other settings, not repetitions")
    done = made.filter(pl.col("status") == "done", pl.col("budget_flops").is_not_null())
    require(len(done) > 0, f"runs of {path}", "none", "runs that are done and have a budget")
    columns = {role: done[_COLUMNS[role][0]].cast(pl.Float64).to_numpy() for role in "ndc"}
    names = {role: theirs.get(_COLUMNS[role][0], _COLUMNS[role][0]) for role in ("n", "d", "c", "loss")}
    odd = [*doubts(columns, names, done[LOSS].to_numpy(), names["loss"]), tokens_per_parameter(columns)]
    warnings += [f"{path}: {text}" for text in odd if text]
    return made


def _baseline(tables: tuple[pl.DataFrame, pl.DataFrame], given: str | None) -> str:
    shared = sorted(set(tables[0]["label"]) & set(tables[1]["label"]))
    if given is not None:
        require(given in shared, "--baseline", given, f"a label of both tables: {', '.join(shared) or 'none'}")
        return given
    require(bool(shared), "tables", "no label in both", "two tables that have one in common")
    return "causal_lm" if "causal_lm" in shared else shared[0]


def _json(found: Differences, options: argparse.Namespace, baseline: str) -> dict[str, Any]:
    return {
        "a": str(options.a),
        "b": str(options.b),
        "baseline": baseline,
        "matched_by": found.by,
        "shared": found.shared.to_dicts(),
        "mean_difference": None if found.mean is None else found.mean.json(),
        "only_a": found.only_a.to_dicts(),
        "only_b": found.only_b.to_dicts(),
        "differences": [
            {
                "what": one.what,
                "label": one.label,
                "budget": one.budget,
                "a": one.a.json(),
                "b": one.b.json(),
                "change": one.change.json(),
                "change_is": "b / a" if one.ratio else "b - a",
                "told_apart": one.told_apart,
            }
            for one in found.differences
        ],
        "absent": list(found.absent),
    }


def _print(found: Differences, options: argparse.Namespace, console: Console) -> None:
    import polars as pl

    from encdec_jax.report.words import flops, interval
    from encdec_jax.text import table

    console.print(f"A: {options.a}\nB: {options.b}")
    text = f"{len(found.shared)} runs in both (by {found.by})"
    differ = found.shared.filter(pl.col("difference") != 0)
    if len(found.shared) and not len(differ):
        text += ", of equal losses"
    elif found.mean is not None:
        text += f": loss of B - A {interval(found.mean, sign=True)} in the mean"
    console.print(f"{text}; {len(found.only_a)} only in A, {len(found.only_b)} only in B")
    if len(differ):
        out = table("label", *(name for name in found.shared.columns if name != "label"), left=1)
        worst = differ.sort(pl.col("difference").abs(), descending=True).head(10)
        for row in worst.iter_rows(named=True):
            label = row.pop("label")
            out.add_row(label, *(f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()))
        console.print(
            f"\nRuns in both whose losses differ{', the 10 that differ most' if len(differ) > 10 else ''}",
            out,
            sep="\n",
        )
    for name, only in (("A", found.only_a), ("B", found.only_b)):
        if len(only):
            counts = only["label"].value_counts().sort("label")
            console.print(f"Only in {name}: {', '.join(f'{n} runs of {label}' for label, n in counts.iter_rows())}")
    out = table("what", "label", "budget", "A", "B", "B - A, or B / A where x", "", left=2)
    for one in found.differences:
        change = interval(one.change, sign=not one.ratio) + ("x" if one.ratio else "")
        verdict = {True: "differ", False: "", None: "no interval"}[one.told_apart]
        budget = "" if one.budget is None else flops(one.budget)
        out.add_row(one.what, one.label, budget, interval(one.a), interval(one.b), change, verdict)
    console.print("\nWhat was found in both (95 % intervals, as if the two were independent)", out, sep="\n")
    for text in found.absent:
        console.print(text)
