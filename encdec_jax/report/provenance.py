"""What the findings rest on, as sections: conventions, matching, confounders, exclusions, runs, versions."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from importlib import metadata
from typing import Any

import polars as pl

from encdec_jax.compute.ledger import CONVENTION
from encdec_jax.report.section import Section
from encdec_jax.report.words import flops, number
from encdec_jax.study.findings import Findings
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.train.versions import code, commit
from encdec_jax.train.versions import versions as train_versions

_ORDER = ("label", "budget_flops", "n_params", "lr", "seed", "run_id")


def matched(table: pl.DataFrame) -> Section:
    """What every architecture's runs were given."""
    note = (
        "Runs of one budget were given equal training FLOPs, forward and backward, of every update, with attention "
        "counted as its mask requires. Mismatch: largest deviation from the budget. Dense: the FLOPs of a plain "
        "implementation, which computes masked scores too, over those counted; budgets equal in one convention differ "
        "by these ratios in the other. All are scored alike: bits per byte of the same held-out suffixes after the "
        "same prefixes."
    )
    rows = []
    for runs in table.sort("label").partition_by("label", maintain_order=True):
        dense = runs["train_flops_dense"] / runs["train_flops"]
        mismatch: Any = runs["flops_mismatch"].abs().max()
        rows.append(
            [
                runs["label"][0],
                str(len(runs)),
                ", ".join(sorted({_objective(run) for run in runs.iter_rows(named=True)})),
                "-" if mismatch is None else f"{mismatch:.2%}",
                f"{_range(dense)}x",
                _range(runs["updates"]),
                _range(runs["batch_size"]),
                _range(runs["lr"]),
            ]
        )
    columns = (
        "label",
        "runs",
        "objective",
        "mismatch",
        "dense",
        "updates",
        "windows an update",
        "learning rate",
    )
    return Section("What was matched", note, columns, rows, "No run has ended.")


def confounders(experiment: Experiment) -> Section:
    """What else could explain a difference, and how it is handled."""
    rows = [[name, handled] for name, handled in experiment.confounders.items()]
    return Section("What else could explain it", "", ("confounder", "how it is handled"), rows, "None was stated.")


def exclusions(experiment: Experiment, table: pl.DataFrame, findings: Findings) -> Section:
    """Everything that the fits leave out or doubt, and by which rule."""
    ended = set(table["run_id"])
    rows = [[e.run_id, e.label, e.rule] for e in findings.exclusions]
    rows += [
        [identity, label, "missing: not done yet"]
        for identity, label in experiment.labels.items()
        if identity not in ended
    ]
    rows += [
        [f"budget {flops(o.budget)}", o.label, o.isoflop.reason] for o in findings.optima if not o.isoflop.converged
    ]
    return Section("Left out, or in doubt", "", ("what", "label", "why"), rows, "Nothing.")


def results(table: pl.DataFrame) -> Section:
    """All runs."""
    columns = {
        "run_id": "run",
        "label": "label",
        "budget_flops": "budget (FLOPs)",
        "layers": "layers",
        "d_model": "width",
        "n_params": "parameters",
        "tokens_seen": "tokens seen",
        "updates": "updates",
        "lr": "learning rate",
        "seed": "seed",
        "status": "status",
        "suffix_bits_per_byte": "bits per byte",
        "suffix_bits_se": "of windows ±",
        "train_loss": "training loss (own objective, nats)",
        "wall_s": "wall clock (s)",
    }
    layers = pl.when(pl.col("enc_layers") > 0).then(pl.format("{}+{}", "enc_layers", "dec_layers"))
    table = table.with_columns(layers=layers.otherwise(pl.col("dec_layers").cast(pl.String)))
    chosen = table.sort(_ORDER, nulls_last=True).select(*columns)
    rows = [[_cell(name, value) for name, value in zip(columns, row, strict=True)] for row in chosen.iter_rows()]
    return Section("All runs", "", tuple(columns.values()), rows, "No run has ended.")


def versions(table: pl.DataFrame) -> Section:
    """What the runs were made with, several values where runs differ; and what this report is made with."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in ("commit", "code"):
        found[name].update(table[name].drop_nulls())
    for text in table["versions"].drop_nulls():
        for name, value in json.loads(text).items():
            found[name].add(str(value))
    own = reporter()
    names = sorted({*found, *own}, key=lambda name: (name != "commit", name != "code", name))
    rows = [[name, ", ".join(sorted(found[name])) or "-", own.get(name, "-")] for name in names]
    note = (
        "Of the commit ('+dirty' behind it: files differed from it), of the code (a digest of the sources that "
        "training reads) and of packages."
    )
    return Section("Versions", note, ("what", "of the runs", "of this report"), rows)


@functools.cache
def reporter() -> dict[str, str]:
    """The commit and the versions that this process makes reports with."""
    seen = {"commit": commit() or "unknown", "code": code()} | train_versions()
    kept = {name: seen[name] for name in ("commit", "code", "encdec_jax", "numpy", "python")}
    return kept | {name: metadata.version(name) for name in ("matplotlib", "polars", "scipy")}


def conventions() -> Section:
    """How compute is counted, and how losses are compared."""
    loss = (
        "Loss: bits per byte of the held-out suffixes, each after its prefix, the same windows for every architecture "
        "and every run; ± is the standard error that the choice of windows brings."
    )
    sizes = "Parameters: all, embedding tables and output head included, a tied table once. Tokens: source and target."
    intervals = (
        "Brackets: 95 % intervals of the study made again many times, with noise as large as the one seen "
        "(encdec_jax/laws/bootstrap.py says what they cover and what they do not)."
    )
    text = (loss, sizes, intervals, "FLOPs: " + " ".join(CONVENTION.splitlines()))
    return Section("Conventions", "", empty="", text=text)


def download(table: pl.DataFrame) -> bytes:
    """All columns of all rows as CSV, in the order of the table of runs."""
    return table.sort(_ORDER, nulls_last=True).write_csv(line_terminator="\r\n").encode()


def _objective(run: dict[str, str | None]) -> str:
    return f"{run['objective']} ({run['prefix']} split)" if run["prefix"] else str(run["objective"])


def _range(values: pl.Series) -> str:
    ends: list[Any] = [values.min(), values.max()]
    low, high = (f"{end:,}" if isinstance(end, int) else number(end) for end in ends)
    return low if low == high else f"{low} to {high}"


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name == "budget_flops":
        return flops(float(str(value)))
    if name == "lr":
        return f"{value:.3g}"
    if name == "wall_s":
        return f"{value:.1f}"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
