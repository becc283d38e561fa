"""Where each architecture's compute goes: the ledger of its best run, by group of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from encdec_jax.compute.ledger import SCORES, count
from encdec_jax.config import RunConfig
from encdec_jax.report.axes import LABEL
from encdec_jax.report.section import Picture, Section
from encdec_jax.report.style import PARTS
from encdec_jax.report.words import flops
from encdec_jax.study.findings import Findings
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.text import amount, shape


@dataclass(frozen=True)
class Spent:
    """What one run's parameters and training FLOPs are spent on.

    Attributes:
      label: of the runs.
      budget: training FLOPs.
      run_id, run: the run that stands for it.
      params: by group.
      flops: of one update, by group; scores of an attention are a group of their own.
    """

    label: str
    budget: float
    run_id: str
    run: RunConfig
    params: dict[str, int]
    flops: dict[str, float]


def spent(experiment: Experiment, table: pl.DataFrame, findings: Findings) -> list[Spent]:
    """For each architecture, the ledger of the run closest to its best size at its largest budget."""
    found = []
    for label in findings.labels:
        optimum = [o for o in findings.optima if o.label == label][-1]
        runs = table.filter(
            pl.col("status") == "done", pl.col("label") == label, pl.col("budget_flops") == optimum.budget
        ).sort((pl.col("n_params").log() - np.log(optimum.n.value)).abs(), "suffix_bits_per_byte", "run_id")
        known = [identity for identity in runs["run_id"] if identity in experiment.runs]
        if known:
            ledger = count(experiment.runs[known[0]])
            work = {name: part.mask for name, part in ledger.train_flops.by("group").items()}
            groups = ledger.params.groups
            found.append(Spent(label, optimum.budget, known[0], experiment.runs[known[0]], groups, work))
    return found


def section(found: list[Spent], pictures: tuple[Picture, ...]) -> Section:
    """Parameters and training FLOPs by group, a row a group."""
    note = (
        "Of the run closest to each label's best size at its largest budget: "
        + "; ".join(f"{s.label} {s.run_id} ({shape(s.run)}, {flops(s.budget)} FLOPs)" for s in found)
        + ". FLOPs are those of training, attention counted as the mask shows it. Scores: products of queries with "
        "keys, and sums of values; they have no parameters."
    )
    rows = []
    for group in groups(found):
        cells = [_params(s.params.get(group, 0)) for s in found]
        rows.append([group, *cells, *(_share(s, group) for s in found)])
    rows.append(
        [
            "all",
            *(_params(sum(s.params.values())) for s in found),
            *(f"{flops(sum(s.flops.values()))} an update" for s in found),
        ]
    )
    columns = ("group", *(f"{s.label}: parameters" for s in found), *(f"{s.label}: of FLOPs" for s in found))
    empty = "no run of the table is one of this experiment's sweep.py"
    return Section("Where the compute goes", note if found else "", columns, rows if found else [], empty, pictures)


def groups(found: list[Spent]) -> list[str]:
    """All groups, in the order of the ledgers: each attention's scores behind its weights."""
    names = dict.fromkeys(name for s in found for name in (*s.params, *s.flops))
    plain = [name for name in names if not name.endswith(SCORES)]
    return [each for name in plain for each in (name, name + SCORES) if each in names]


def shares(axes: Axes, found: list[Spent]) -> None:
    """Shares of training FLOPs, a bar an architecture and a colour a group."""
    names = [name for name in groups(found) if any(s.flops.get(name) for s in found)]
    left = np.zeros(len(found))
    for place, name in enumerate(names):
        width = np.array([100 * s.flops.get(name, 0.0) / sum(s.flops.values()) for s in found])
        axes.barh(np.arange(len(found)), width, left=left, height=0.6, color=PARTS[place % len(PARTS)], label=name)
        for row in np.flatnonzero(width >= 8):
            axes.text(
                left[row] + width[row] / 2, float(row), f"{width[row]:.0f}", ha="center", va="center", fontsize=LABEL
            )
        left += width
    axes.set_yticks(np.arange(len(found)), [s.label for s in found])
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("percent of training FLOPs")
    axes.set_title("Training FLOPs by group")
    below: Any = {"loc": "upper center", "bbox_to_anchor": (0.38, -0.28), "frameon": False}
    axes.legend(**below, ncols=2, fontsize=LABEL - 1, handlelength=1.0, columnspacing=1.0)


def _params(n: int) -> str:
    return amount(n) if n else "-"


def _share(found: Spent, group: str) -> str:
    part = found.flops.get(group, 0.0)
    return f"{part / sum(found.flops.values()):.1%}" if part else "-"
