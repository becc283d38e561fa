"""Is the exponent of a saturating law held where losses have no floor, at the end of what the law's floor may be?

    python experiments/calibration/floor.py             about half a minute of one CPU

Studies are simulated and analysed as any study is. Writes floor.csv into this folder; README.md reads it. 'Quantiles
alone' are the 95 % of the resampled laws; the interval that is given holds that of a power law too where resampled
studies don't rule it out (`encdec_jax.study.scaling`). Seeds are fixed: the same code gives the same numbers.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import polars as pl
from truths import ARCHS, Chinchilla, Study

from encdec_jax.files import atomic_write
from encdec_jax.laws.interval import Interval
from encdec_jax.study.findings import analyze

HERE = Path(__file__).parent
_STEPS = (0.25, 0.5, 1.0, 2.0, 4.0)  # sizes over the best one
_NOISE = 0.015
CASES = {"no floor, 4 budgets": 4, "no floor, 6 budgets": 6}


def study(budgets: int) -> Study:
    """Of two architectures of one truth, whose loss is 3 at the least of the budgets, a factor 200 apart."""
    first, unit = 1e10, Chinchilla(0.0, 1.0, 0.45, 1.0, 0.45)
    scale = 3.0 / float(unit.loss(np.array(unit.best(first)), first))
    truth = Chinchilla(0.0, scale, 0.45, scale, 0.45)
    grid = tuple(
        (float(compute), tuple(np.round(truth.best(compute) * np.array(_STEPS))), 1)
        for compute in np.geomspace(first, 200 * first, budgets)
    )
    return Study((truth, truth), grid, (_NOISE, _NOISE), np.inf)


def judged(case: str, draw: int) -> list[dict[str, float]]:
    """Of each architecture of one study, what holds the exponent."""
    simulated = study(CASES[case])
    found = analyze(simulated.table(draw), ARCHS[0])
    rows = []
    for arch, truth in zip(ARCHS, simulated.truths, strict=True):
        law, true = found.law(arch), truth.slopes[1]
        alone = Interval.of(law.slope.value, law.draws.slope)
        held = {name: one.low <= true <= one.high for name, one in (("alone", alone), ("given", law.slope))}
        rows.append({**held, "wider": _width(law.slope) / _width(alone)})
    return rows


def _width(found: Interval) -> float:
    return found.high - found.low


def main() -> None:
    """Judge all studies, and write the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=50, help="of each case, of two laws each; default 50")
    parser.add_argument("--out", type=Path, default=HERE, help="where the table goes; default: this folder")
    options = parser.parse_args()
    os.nice(10)
    rows = []
    for case in CASES:
        found = pl.DataFrame([row for draw in range(options.studies) for row in judged(case, draw)])
        rows.append(
            {
                "case": case,
                "laws": len(found),
                "held by quantiles alone, %": round(100 * float(found["alone"].mean()), 1),
                "held, %": round(100 * float(found["given"].mean()), 1),
                "times as wide": round(float(found["wider"].mean()), 3),
            }
        )
        print(rows[-1], flush=True)
    atomic_write(options.out / "floor.csv", pl.DataFrame(rows).write_csv())


if __name__ == "__main__":
    main()
