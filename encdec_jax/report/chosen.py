"""Some labels of a study, for pictures and tables that would be crowded with all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from encdec_jax.errors import require
from encdec_jax.study.findings import Findings


def parted(text: str, labels: Sequence[str]) -> list[str]:
    """The labels that a list with commas between them names, where labels may hold commas too: the longest that fit.

    What names no label is given back in pieces, for `only` to refuse.
    """
    pieces, found = [piece.strip() for piece in text.split(",") if piece.strip()], []
    while pieces:
        fitting = (n for n in range(len(pieces), 1, -1) if ", ".join(pieces[:n]) in labels)
        taken = next(fitting, 1)
        found.append(", ".join(pieces[:taken]))
        pieces = pieces[taken:]
    return found


def only(findings: Findings, labels: Sequence[str]) -> Findings:
    """The same findings, of some labels and the baseline; of all if none is named. Nothing is fitted anew.

    Raises:
      UserError: no run of a label is done.
    """
    for label in labels:
        require(label in findings.labels, "labels", label, "one of " + ", ".join(findings.labels))
    shown = {findings.baseline, *(labels or findings.labels)}
    return replace(
        findings,
        labels=tuple(label for label in findings.labels if label in shown),
        optima=tuple(one for one in findings.optima if one.label in shown),
        laws=tuple(one for one in findings.laws if one.label in shown),
        comparisons=tuple(one for one in findings.comparisons if one.label in shown),
        crossovers=tuple(one for one in findings.crossovers if one.label in shown),
        noise={label: one for label, one in findings.noise.items() if label in shown},
    )
