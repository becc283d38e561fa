"""Do 95 % intervals hold the truth in 95 % of studies? Simulated ones, whose truth is known, are analysed to see.

    python experiments/calibration/simulate.py          about 12 minutes of one CPU; killed, it goes on where it was

Writes coverage.csv, resampling.csv and figure.png into this folder; README.md reads them. Simulated studies are kept
in the runs folder, under calibration/. Seeds are fixed: the same code gives the same numbers.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import picture
import polars as pl
import resampling
from scipy.optimize import brentq
from truths import ARCHS, STUDIES, Study, Truth, frontier

from encdec_jax.errors import Undecided
from encdec_jax.files import atomic_write, runs_root
from encdec_jax.laws.frontier import fit_loss
from encdec_jax.laws.interval import Interval
from encdec_jax.study.comparison import REACH
from encdec_jax.study.findings import Findings, analyze

HERE = Path(__file__).parent
_SAVED = 50  # simulations between saves
_RATIOS = ("N* at the largest budget", "compute multiplier", "parameter multiplier", "crossover")


def truths(study: Study) -> dict[str, float]:
    """What the analysis is to find, by quantity; of one architecture where the name says so."""
    base, other = study.truths
    top = float(study.budgets[-1])
    reached = _reaches(base, float(frontier(other, top)), top)
    needed = _reaches(other, float(frontier(base, top)), top)
    gap = {c: float(frontier(other, c) - frontier(base, c)) for c in (top, top * REACH)}
    # Of laws of another form than the truth, such as a power law without E, the one that is nearest to it.
    slopes = [float(fit_loss(study.budgets, frontier(truth, study.budgets), top).slope) for truth in study.truths]
    return {
        **{f"{arch}: exponent of loss": slope for arch, slope in zip(ARCHS, slopes, strict=True)},
        **{f"{arch}: exponent of N*": truth.slopes[0] for arch, truth in zip(ARCHS, study.truths, strict=True)},
        **{f"{arch}: exponent of D*": 1 - truth.slopes[0] for arch, truth in zip(ARCHS, study.truths, strict=True)},
        **{f"{arch}: N* at the largest budget": t.best(top) for arch, t in zip(ARCHS, study.truths, strict=True)},
        **{f"{arch}: loss at N*": float(frontier(t, top)) for arch, t in zip(ARCHS, study.truths, strict=True)},
        "gap at the largest budget": gap[top],
        "compute multiplier": top / reached,
        "parameter multiplier": other.best(needed) / base.best(top),
        "crossover": study.crossing,
        "gap at 3x the largest budget": gap[top * REACH],
    }


def intervals(found: Findings, top: float) -> Iterator[tuple[str, Interval | None]]:
    """The same quantities as the analysis gives them; None where it gives no number."""
    for arch in ARCHS:
        for quantity, name in (("loss", "loss"), ("n", "N*"), ("d", "D*")):
            try:
                yield f"{arch}: exponent of {name}", found.law(arch, quantity).slope
            except Undecided:
                yield f"{arch}: exponent of {name}", None
        optimum = found.optimum(arch, top)
        yield f"{arch}: N* at the largest budget", optimum.n
        yield f"{arch}: loss at N*", optimum.loss
    comparison = found.comparison(ARCHS[1], top)
    yield "gap at the largest budget", comparison.gap
    multiplier = comparison.multiplier
    if multiplier is not None:  # ends at the bounds of trust say: or beyond
        low = 0.0 if multiplier.low <= comparison.multiplier_least else multiplier.low
        high = np.inf if multiplier.high >= comparison.multiplier_most else multiplier.high
        multiplier = Interval(multiplier.value, low, high)
    yield "compute multiplier", multiplier
    yield "parameter multiplier", comparison.parameters
    crossover = found.crossover(ARCHS[1])
    # That there is none in the range is an answer too, and wrong here.
    yield "crossover", Interval(np.nan, *(crossover.possible or (np.inf, np.inf)))
    yield "gap at 3x the largest budget", found.at(ARCHS[1], top * REACH).gap


def simulate(name: str, simulations: int) -> pl.DataFrame:
    """Value and interval of every quantity in every simulated study, taken up from what is saved."""
    study, path = STUDIES[name], runs_root() / "calibration" / f"{name.replace(', ', '-').replace(' ', '-')}.parquet"
    rows = pl.read_parquet(path).rows(named=True) if path.exists() else []
    first = max((row["draw"] for row in rows), default=-1) + 1
    top = float(study.budgets[-1])
    for draw in range(first, simulations):
        for quantity, found in intervals(analyze(study.table(draw), ARCHS[0]), top):
            ends = (None, None, None) if found is None else (found.value, found.low, found.high)
            rows.append({"draw": draw, "quantity": quantity, **dict(zip(("value", "low", "high"), ends, strict=True))})
        if (draw + 1) % _SAVED == 0 or draw + 1 == simulations:
            atomic_write(path, _parquet(pl.DataFrame(rows, schema=_SCHEMA)))
            print(f"{name}: {draw + 1} of {simulations}", flush=True)
    return pl.DataFrame(rows, schema=_SCHEMA).filter(pl.col("draw") < simulations)


_SCHEMA = {"draw": pl.Int64, "quantity": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}


def coverage(name: str, rows: pl.DataFrame) -> list[dict[str, object]]:
    """How often intervals hold the truth, of those that the analysis gives, and how wide they are."""
    true = truths(STUDIES[name])
    merged: dict[str, list[tuple[np.ndarray, float]]] = {}
    for quantity, truth in true.items():
        kept = rows.filter(pl.col("quantity") == quantity).select("low", "high").to_numpy()
        merged.setdefault(quantity.split(": ")[-1], []).append((kept, truth))
    found = []
    for quantity, parts in merged.items():
        known = [(ends[~np.isnan(ends).any(1)], truth) for ends, truth in parts]
        below = np.concatenate([truth < ends[:, 0] for ends, truth in known])
        above = np.concatenate([truth > ends[:, 1] for ends, truth in known])
        with np.errstate(divide="ignore", invalid="ignore"):
            widths = [e[:, 1] / e[:, 0] if quantity in _RATIOS else e[:, 1] - e[:, 0] for e, _ in known]
        found.append(
            {
                "study": name,
                "quantity": quantity,
                "simulations": sum(len(ends) for ends, _ in parts),
                "intervals": len(below),
                "coverage": round(float(1 - (below | above).mean()), 4),
                "truth_below": round(float(below.mean()), 4),
                "truth_above": round(float(above.mean()), 4),
                "width": float(f"{np.nanmedian(np.concatenate(widths)):.3g}"),
                "width_is": "high / low" if quantity in _RATIOS else "high - low",
            }
        )
    return found


def _reaches(truth: Truth, loss: float, near: float) -> float:
    """Compute at which a truth's frontier has a loss."""
    ends = (np.log(near) - 12, np.log(near) + 12)
    return float(np.exp(brentq(lambda ln_c: float(frontier(truth, np.exp(ln_c))) - loss, *ends)))


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def main() -> None:
    """Simulate what is missing, and write the tables and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000, help="of each study; default 1000")
    parser.add_argument("--out", type=Path, default=HERE, help="where tables and figure go; default: this folder")
    options = parser.parse_args()
    os.nice(10)
    table = pl.DataFrame([row for name in STUDIES for row in coverage(name, simulate(name, options.simulations))])
    atomic_write(options.out / "coverage.csv", table.write_csv())
    cases = resampling.coverage(options.simulations)
    atomic_write(options.out / "resampling.csv", cases.write_csv())
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=40):
        print(table, cases)
    atomic_write(options.out / "figure.png", picture.draw(table, cases))


if __name__ == "__main__":
    main()
