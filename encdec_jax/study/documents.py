"""Two runs beside each other document by document, by the files that `encdec evaluate --documents` writes.

As `encdec_jax.study.paired` by windows; but documents differ in length, and windows of one document are alike, so whole
documents are resampled, of both runs at once, and the difference is one of ratios of sums.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encdec_jax.errors import UserError, require
from encdec_jax.laws.interval import Interval
from encdec_jax.study.paired import Pair

DOCUMENTS = "evaluations/{}/documents.jsonl"  # in a run's folder, of a TASK-SPLIT
_RESAMPLES = 4000
_SEED = 20_220_329
_KINDS = {"number": int, "bits": float, "bytes": int, "text": str}


@dataclass(frozen=True)
class ByDocument:
    """Losses of two runs on the documents that both were scored on.

    Attributes:
      difference: bits per byte of the second less those of the first, with the interval of other documents for these
        very runs: seeds it knows nothing of.
      apart: the interval that it would have, were each run scored on documents of its own.
      rates: bits per byte of either.
      correlation: of the two runs' bits per byte over documents; None where one's are all equal.
      better: share of documents that the second predicts better.
      documents: in both.
      only: in the first's file alone, and in the second's.
    """

    difference: Interval
    apart: Interval
    rates: tuple[float, float]
    correlation: float | None
    better: float
    documents: int
    only: tuple[int, int]


def beside(first: Path, second: Path) -> ByDocument:
    """Compare two runs on the documents that both files hold.

    Raises:
      UserError: a file is missing or none of `encdec evaluate --documents`, or what was scored of a document differs:
        other text, another prefix.
    """
    one, other = _read(first), _read(second)
    both: list[int] = sorted(one.keys() & other.keys())
    require(len(both) >= 2, "documents in both", len(both), f"two or more, to compare {first} and {second}")
    for number in both:
        if (one[number]["text"], one[number]["bytes"]) != (other[number]["text"], other[number]["bytes"]):
            raise UserError(
                f"{first} and {second} are of other text: what was scored of document {number} differs; give files of"
                " one split, of runs with one vocabulary and one evaluate.prefix"
            )
    bits = np.array([[rows[number]["bits"] for rows in (one, other)] for number in both], np.float64)
    nbytes = np.array([one[number]["bytes"] for number in both], np.float64)
    scored = nbytes > 0
    require(int(scored.sum()) >= 2, "documents in both", int(scored.sum()), "two or more with a byte of text scored")
    bits, nbytes = bits[scored], nbytes[scored]
    n, random = len(nbytes), np.random.default_rng(_SEED)
    drawn, others = (random.multinomial(n, np.full(n, 1 / n), _RESAMPLES).astype(np.float64) for _ in range(2))
    rates = tuple(float(of.sum() / nbytes.sum()) for of in bits.T)
    value = rates[1] - rates[0]
    paired = drawn @ (bits[:, 1] - bits[:, 0]) / (drawn @ nbytes)
    apart = (others @ bits)[:, 1] / (others @ nbytes) - (drawn @ bits)[:, 0] / (drawn @ nbytes)
    each = bits / nbytes[:, None]
    return ByDocument(
        Interval.of(value, paired),
        Interval.of(value, apart),
        (rates[0], rates[1]),
        float(np.corrcoef(*each.T)[1, 0]) if all(of.std() > 0 for of in list(each.T)) else None,
        float((bits[:, 1] < bits[:, 0]).mean()),
        n,
        (len(one) - len(both), len(other) - len(both)),
    )


@dataclass(frozen=True)
class DocumentPair:
    """Two runs of a `Pair` beside each other on a set of documents.

    Attributes:
      label, budget, runs: as the pair's; `runs` is the label's run and the baseline's.
      task: the task and split, as TASK-SPLIT.
      found: the label's loss less the baseline's; None where the files can't be compared.
      wrong: why they can't be; else empty.
    """

    label: str
    budget: float
    runs: tuple[str, str]
    task: str
    found: ByDocument | None
    wrong: str = ""


def by_document(pairs: Iterable[Pair], root: Path) -> tuple[DocumentPair, ...]:
    """The runs of pairs, each on every set whose documents both were scored on, root / run_id / evaluations."""
    made = []
    for pair in pairs:
        for own, base in pair.runs:
            for file in sorted(root.glob(f"{base}/{DOCUMENTS.format('*')}")):
                name = file.parent.name
                theirs = root / own / DOCUMENTS.format(name)
                if not theirs.exists():
                    continue
                try:
                    made.append(DocumentPair(pair.label, pair.budget, (own, base), name, beside(file, theirs)))
                except UserError as error:
                    made.append(DocumentPair(pair.label, pair.budget, (own, base), name, None, str(error)))
    return tuple(made)


def _read(path: Path) -> dict[int, dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"can't read losses by document {path}: {error}") from error
    for place, row in enumerate(rows, 1):
        sound = isinstance(row, dict) and all(
            isinstance(row.get(name), (int, float) if kind is float else kind) and not isinstance(row[name], bool)
            for name, kind in _KINDS.items()
        )
        finite = sound and bool(np.isfinite(row["bits"])) and row["bytes"] >= 0
        require(finite, f"line {place} of", str(path), "a document's number, bits, bytes and text")
    found = {row["number"]: row for row in rows}
    require(len(found) == len(rows), "documents of", str(path), "a line each")
    return found
