"""Does the headline of a study claim what is not so? Simulated studies, whose truth is known, are judged by it.

    python experiments/headlines/simulate.py            about 5 minutes of one CPU; killed, it goes on where it was

Writes headlines.csv into this folder; README.md reads it. Judged studies are kept in the runs folder, under
headlines/. Seeds are fixed: the same code gives the same numbers.
"""

from __future__ import annotations

import argparse
import io
import os
from collections import Counter
from pathlib import Path

import polars as pl
from cases import BASE, CASES, Case

from encdec_jax.files import atomic_write, runs_root
from encdec_jax.study.findings import Findings
from encdec_jax.study.headline import Headline, headline
from encdec_jax.study.optima import Measured, measure

HERE = Path(__file__).parent
_SAVED = 25  # studies between saves
COUNTS = (
    "wrong",  # labels of which something false is claimed: winner or loser, at a budget or together
    "named",  # labels of which anything is claimed
    "found",  # labels that differ in truth and are named rightly
    "differ",  # labels that differ in truth
    "crossings",  # labels whose frontiers are said to cross
    "false crossings",
    "missed",  # claims whose interval leaves out the true difference
    "inside",  # optima said to lie inside their sizes
    "wrongly inside",
    "sizes",  # intervals of N* of optima that may be inside
    "sizes held",  # those that hold the truth
    "outliers",  # runs named
    "wrong outliers",
)


def judge(case: Case, seen: Measured, head: Headline) -> dict[str, int]:
    """What a headline says that is so, and what is not."""
    count: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
    for label in case.labels[1:]:
        gaps = {budget: case.gap(label, budget) for budget in case.budgets}
        differs = any(gaps.values())
        claims = head.claimed(label)
        false = any(_false(claim, gaps) for claim in claims)
        count["differ"] += differs
        count["named"] += bool(claims)
        count["wrong"] += false
        count["found"] += differs and bool(claims) and not false
        if head.crosses(label):
            count["crossings"] += 1
            count["false crossings"] += min(gaps.values()) >= 0 or max(gaps.values()) <= 0
    for beside in head.beside:
        for claim in head.claimed(beside.label):
            for budget, gap in zip(beside.budgets, beside.gaps, strict=True):
                count["missed"] += budget in claim.budgets and not gap.low <= case.gap(beside.label, budget) <= gap.high
    for optimum in seen.optima:
        true, sizes = case.best(optimum.label, optimum.budget), optimum.isoflop.curve.n
        count["inside"] += optimum.inside
        count["wrongly inside"] += optimum.inside and not sizes[0] < true < sizes[-1]
        if optimum.n.known:
            count["sizes"] += 1
            count["sizes held"] += optimum.n.low <= true <= optimum.n.high
    for one in seen.outliers:
        count["outliers"] += 1
        label, budget, place = case.odd()
        size = case.grid[case.budgets.index(budget)][1][place]
        count["wrong outliers"] += not (case.outlier and one.run_id == case.name(label, budget, size))
    return {name: int(count[name]) for name in COUNTS}


def _false(claim, gaps: dict[float, float]) -> bool:
    """Whether a claim is not so at a budget that it names, or of all together."""
    sign = -1 if claim.better else 1
    apart = any(gaps[budget] * sign <= 0 for budget in claim.budgets)
    return apart or (claim.together and max(gap * sign for gap in gaps.values()) <= 0)


def simulate(name: str, studies: int) -> pl.DataFrame:
    """The judgement of every simulated study, taken up from what is saved."""
    case, path = CASES[name], runs_root() / "headlines" / f"{name.replace(', ', '-').replace(' ', '-')}.parquet"
    rows = pl.read_parquet(path).rows(named=True) if path.exists() else []
    for draw in range(len(rows), studies):
        seen = measure(case.table(draw))
        found = Findings(BASE, case.labels, case.budgets, seen.optima, (), (), (), seen.noise, seen.exclusions)
        rows.append({"draw": draw, **judge(case, seen, headline(found))})
        if (draw + 1) % _SAVED == 0 or draw + 1 == studies:
            buffer = io.BytesIO()
            pl.DataFrame(rows).write_parquet(buffer)
            atomic_write(path, buffer.getvalue())
    return pl.DataFrame(rows).head(studies)


def summary(name: str, rows: pl.DataFrame) -> dict[str, object]:
    """Of one case: in how many of 100 studies the headline says something false, and what it finds."""
    false = (rows["wrong"] > 0) | (rows["false crossings"] > 0) | (rows["wrongly inside"] > 0)
    total = {column: int(rows[column].sum()) for column in COUNTS}

    def percent(part: float, whole: float) -> float | None:
        return round(100 * part / whole, 1) if whole else None

    return {
        "case": name,
        "studies": len(rows),
        "anything false, %": percent(false.sum(), len(rows)),
        "false winner or loser, %": percent((rows["wrong"] > 0).sum(), len(rows)),
        "false crossover, %": percent((rows["false crossings"] > 0).sum(), len(rows)),
        "interval misses, %": percent((rows["missed"] > 0).sum(), len(rows)),
        "wrongly inside, %": percent((rows["wrongly inside"] > 0).sum(), len(rows)),
        "innocent outlier, %": percent((rows["wrong outliers"] > 0).sum(), len(rows)),
        "found, %": percent(total["found"], total["differ"]),
        "crossovers found, %": percent((rows["crossings"] - rows["false crossings"]).sum(), total["differ"]),
        "outlier named, %": percent((rows["outliers"] > rows["wrong outliers"]).sum(), len(rows))
        if CASES[name].outlier
        else None,
        "N* covered, %": percent(total["sizes held"], total["sizes"]),
    }


def main() -> None:
    """Judge what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="of each case; default 200")
    parser.add_argument("--only", nargs="*", default=list(CASES), help="cases; default all")
    parser.add_argument("--out", type=Path, default=HERE, help="where the table goes; default: this folder")
    options = parser.parse_args()
    os.nice(10)
    table = []
    for name in options.only:
        table.append(summary(name, simulate(name, options.studies)))
        print(", ".join(f"{key}: {value}" for key, value in table[-1].items() if value not in (None, 0.0)), flush=True)
    if options.only == list(CASES):
        atomic_write(options.out / "headlines.csv", pl.DataFrame(table, infer_schema_length=None).write_csv())


if __name__ == "__main__":
    main()
