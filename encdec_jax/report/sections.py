"""What a report says beside its pictures, as tables of text; the template only lays it out."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import polars as pl

from encdec_jax.report.words import flops, interval, multiplier, number
from encdec_jax.scaling.findings import Findings
from encdec_jax.sweep.experiment import Experiment

Rows = list[list[str]]


@dataclass(frozen=True)
class Section:
    """A table: its heading's name, a note above it, columns and rows of text. Empty ones say `empty` instead."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: Rows
    empty: str = "none"


def comparisons(findings: Findings) -> Section:
    """Every architecture beside the baseline, at every budget."""
    note = (
        f"Multiplier: times the compute of {findings.baseline} for the same loss, along {findings.baseline}'s law, "
        "trusted to 3x beyond the measured budgets. Better: probability that the best loss is lower."
    )
    rows = [
        [c.arch, flops(c.budget), interval(c.gap, sign=True), multiplier(c), _share(c.better)]
        for c in findings.comparisons
    ]
    columns = ("architecture", "budget (FLOPs)", f"bits per byte above {findings.baseline}", "compute needed", "better")
    return Section("At each budget", note, columns, rows, "no budget has runs of two architectures")


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
    for runs in table.partition_by("arch", maintain_order=True):
        dense = runs["train_flops_dense"] / runs["train_flops"]
        mismatch: Any = runs["flops_mismatch"].abs().max()
        rows.append(
            [
                runs["arch"][0],
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
        "architecture",
        "runs",
        "objective",
        "mismatch",
        "dense",
        "updates",
        "windows an update",
        "learning rate",
    )
    return Section("What was matched", note, columns, rows, "no run has ended")


def predictions(experiment: Experiment, findings: Findings) -> Section:
    """What was expected before the runs, and whether it held."""
    rows = [[prediction.score(findings), prediction.text] for prediction in experiment.predictions]
    return Section("Predictions", "Registered before the runs.", ("verdict", "prediction"), rows, "none was registered")


def confounders(experiment: Experiment) -> Section:
    """What else could explain a difference, and how it is handled."""
    rows = [[name, handled] for name, handled in experiment.confounders.items()]
    return Section("What else could explain it", "", ("confounder", "how it is handled"), rows, "none was stated")


def laws(findings: Findings) -> Section:
    """The fitted laws."""
    reference = findings.laws[0].fit.law.reference if findings.laws else 0.0
    note = (
        f"y = E + A (C / {flops(reference)})^exponent of training FLOPs C, through each budget's best size. Three "
        "budgets can't tell E from the exponent: a power law (E = 0) is fitted to fewer than four, a saturating one to "
        "the losses of four or more. Only a budget whose best size lies inside its sizes counts for parameters and "
        "tokens. Brackets: 95 % intervals of the resampled study; they cover the noise of runs, lack of fit of the "
        "parabolas and the choice of held-out windows, but no other text, learning rates, shapes or forms of the law."
    )
    units = {"loss": "bits per byte", "n": "parameters", "d": "tokens"}
    rows = [
        [
            law.arch,
            units[law.quantity],
            law.fit.law.kind,
            interval(law.slope),
            interval(law.scale),
            interval(law.floor) if law.fit.law.kind == "saturating" else "0 (fixed)",
            str(law.fit.n_points),
            f"{law.fit.objective:.1e}",
            "yes" if law.fit.converged else "no: do not use",
        ]
        for law in findings.laws
    ]
    columns = ("architecture", "y", "law", "exponent", "A", "E", "budgets", "squared residuals (log)", "converged")
    return Section("Fitted laws", note, columns, rows, "two budgets of one architecture are needed")


def optima(findings: Findings) -> Section:
    """The best size for each budget."""
    sources = "; ".join(f"{arch} {number(n.sd)} ({n.source})" for arch, n in findings.noise.items())
    note = f"Minimum of a parabola in ln(parameters). Noise of one run, bits per byte: {sources}." if sources else ""
    rows = [
        [
            o.arch,
            flops(o.budget),
            interval(o.n),
            interval(o.d),
            interval(o.loss),
            number(o.d.value / o.n.value),
            f"{o.edge_share:.0%}" if o.isoflop.converged else o.isoflop.shape,
        ]
        for o in findings.optima
    ]
    columns = (
        "architecture",
        "budget (FLOPs)",
        "parameters",
        "tokens",
        "bits per byte",
        "tokens / parameter",
        "at edge",
    )
    return Section("Best sizes", note, columns, rows, "no run is done")


def exclusions(experiment: Experiment, table: pl.DataFrame, findings: Findings) -> Section:
    """Everything that the fits leave out or doubt, and by which rule."""
    ended = set(table["run_id"])
    rows = [[e.run_id, e.arch, e.rule] for e in findings.exclusions]
    rows += [
        [identity, run.model.arch, "missing: not done yet"]
        for identity, run in experiment.runs.items()
        if identity not in ended
    ]
    rows += [
        [f"budget {flops(o.budget)}", o.arch, o.isoflop.reason] for o in findings.optima if not o.isoflop.converged
    ]
    return Section("Left out, or in doubt", "", ("what", "architecture", "why"), rows, "nothing")


def missing(experiment: Experiment, table: pl.DataFrame, findings: Findings) -> list[str]:
    """What the runs done do not yet allow, in sentences."""
    done = set(table.filter(pl.col("status") == "done")["run_id"]) & set(experiment.runs)
    found = []
    if len(done) < len(experiment.runs):
        found.append(f"{len(done)} of {len(experiment.runs)} runs are done.")
    fitted = {(law.arch, law.quantity) for law in findings.laws}
    for arch in sorted({run.model.arch for run in experiment.runs.values()}):
        if (arch, "loss") not in fitted:
            found.append(f"No law of {arch}'s loss: it needs runs done at two budgets or more.")
        elif (arch, "n") not in fitted:
            found.append(f"No law of {arch}'s best size: fewer than two budgets have it inside the sizes tried.")
        if any(law.arch == arch and law.quantity == "loss" and law.fit.n_points == 2 for law in findings.laws):
            found.append(f"The law of {arch}'s loss goes through its two points, and can't be checked against a third.")
    return found


def results(table: pl.DataFrame) -> Section:
    """All runs."""
    columns = {
        "run_id": "run",
        "arch": "architecture",
        "budget_flops": "budget (FLOPs)",
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
    order = ("arch", "budget_flops", "n_params", "lr", "seed", "run_id")
    chosen = table.sort(order, nulls_last=True).select(*columns)
    rows = [[_cell(name, value) for name, value in zip(columns, row, strict=True)] for row in chosen.iter_rows()]
    return Section("All runs", "", tuple(columns.values()), rows, "no run has ended")


def versions(table: pl.DataFrame) -> Section:
    """What the runs were made with; several values where runs differ."""
    found: dict[str, set[str]] = defaultdict(set)
    for text in table["versions"].drop_nulls():
        for name, value in json.loads(text).items():
            found[name].add(str(value))
    rows = [[name, ", ".join(sorted(found[name]))] for name in sorted(found, key=lambda name: (name != "commit", name))]
    return Section("Versions", "", ("what", "version"), rows, "no run has ended")


def _share(probability: float) -> str:
    # Resamples can't tell an event that none of them shows from a rare one.
    return "under 0.001" if probability < 1e-3 else "over 0.999" if probability > 0.999 else f"{probability:.3f}"


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
