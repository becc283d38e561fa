"""How to spend compute, and the same text scored by two labels, as sections."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from encdec_jax.errors import Undecided
from encdec_jax.laws.ahead import REACH
from encdec_jax.report.section import Section
from encdec_jax.report.words import flops, interval, number
from encdec_jax.study.allocation import Choice, allocate, depths, encoder_shares
from encdec_jax.study.documents import DocumentPair
from encdec_jax.study.findings import Findings
from encdec_jax.study.paired import Pair
from encdec_jax.study.pooling import Reasons
from encdec_jax.sweep.experiment import Settings
from encdec_jax.text import amount


def allocations(findings: Findings) -> Section:
    """Best parameters and tokens along their laws, at the largest budget and as far beyond as laws are trusted."""
    note = (
        "Parameters and tokens along their laws, at the largest budget whose best size is known and at "
        f"{REACH:g}x that budget, the furthest that the laws are trusted to."
    )
    rows = []
    for label in findings.labels:
        inside = [o.budget for o in findings.optima if o.label == label and o.isoflop.converged]
        for compute in (max(inside), max(inside) * REACH) if inside else ():
            try:
                found = allocate(findings, label, compute)
            except Undecided:
                continue
            ratio = number(found.d.value / found.n.value)
            warning = found.warning or "-"
            rows.append([label, flops(compute), interval(found.n), interval(found.d), ratio, warning])
    columns = ("label", "training FLOPs", "parameters", "tokens", "tokens / parameter", "warning")
    empty = "Laws of the best size need two budgets whose best size lies inside the sizes tried."
    return Section("Allocation", note if rows else "", columns, rows, empty)


def shapes(table: pl.DataFrame, pooled: Reasons, settings: Settings) -> Section:
    """The best encoder share and the best depth, where three or more were tried.

    Raises:
      UserError: a run that is done has no sound loss.
    """
    note = "Encoder share: of all layers. Layers: of both stacks together, at parameters that differ by 15 % at most."
    rows = [_shape(found) for of in (encoder_shares, depths) for found in of(table, pooled, settings)]
    columns = ("choice", "of", "budget (FLOPs)", "parameters", "tried", "best", "bits per byte", "warning")
    empty = "No architecture was trained with three encoder shares, or three depths of one size, at one budget."
    return Section("Best shapes", note if rows else "", columns, rows, empty)


def paired(found: Sequence[Pair]) -> Section:
    """Differences between labels on the same held-out windows."""
    note = (
        "Best sizes trained, seed by seed, on the same held-out windows; runs of a seed read the same text in the same "
        "order. Difference: above 0 the baseline is better. Of windows: its interval under other held-out windows, for "
        "these very runs; apart: if each had been scored on windows of its own; of seeds: under other seeds, by "
        "Student's t. Better on: share of windows that the label predicts better."
    )
    rows = [
        [
            pair.label,
            flops(pair.budget),
            str(len(pair.runs)),
            interval(pair.windows, sign=True),
            interval(pair.apart, sign=True),
            interval(pair.seeds, sign=True),
            f"{pair.correlation:.3f}",
            f"{pair.better:.1%}",
        ]
        for pair in found
    ]
    measures = ("of windows", "apart", "of seeds", "correlation", "better on")
    columns = ("label", "budget (FLOPs)", "seeds", *measures)
    empty = (
        "The runs' scores of single windows (suffix_bits.npy in their folders) are not here, or no seed has both runs,"
        " scored on the same text."
    )
    return Section("On the same windows", note if rows else "", columns, rows, empty)


def by_document(found: Sequence[DocumentPair]) -> Section:
    """Differences between labels on the same documents."""
    note = (
        "The same runs, on the documents of a set that both were scored on (encdec evaluate RUN --task T --documents). "
        "Difference: above 0 the baseline is better; each document counts by its bytes. Of documents: the interval "
        "of other documents, for these very runs; apart: if each had been scored on documents of its own."
    )
    rows = []
    for pair in found:
        one = pair.found
        cells = (
            [pair.wrong, "-", "-", "-", "-"]
            if one is None
            else [
                f"{one.documents:,}",
                interval(one.difference, sign=True),
                interval(one.apart, sign=True),
                "-" if one.correlation is None else f"{one.correlation:.3f}",
                f"{one.better:.1%}",
            ]
        )
        rows.append([pair.label, flops(pair.budget), " and ".join(pair.runs), pair.task, *cells])
    measures = ("documents", "of documents", "apart", "correlation", "better on")
    return Section("On the same documents", note, ("label", "budget (FLOPs)", "runs", "set", *measures), rows, "None.")


def _shape(found: Choice) -> list[str]:
    return [
        found.axis,
        found.line,
        flops(found.budget),
        amount(found.n),
        ", ".join(number(value) for value in found.tried),
        interval(found.best),
        interval(found.loss),
        found.warning or "-",
    ]
