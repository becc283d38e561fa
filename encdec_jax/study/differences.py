"""Two results tables side by side: the runs they share, and how far their optima, laws and gaps lie apart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import stdtrit

from encdec_jax.evaluate import LOSS
from encdec_jax.laws.interval import LEVEL, Interval
from encdec_jax.study.findings import Findings
from encdec_jax.study.foreign import MADE
from encdec_jax.sweep.experiment import POOLABLE

RUN = ("setting", "seed")  # what makes two runs the same
_ALIKE = ("label", "n_params", "budget_flops")  # what they have in common then


@dataclass(frozen=True)
class Difference:
    """One quantity in both tables.

    Attributes:
      what: the quantity: 'loss', 'n' or 'd' of the best size, 'gap' or 'multiplier' beside the baseline, or the
        exponent of a law: 'loss exponent', 'n exponent', 'd exponent'; 'loss exponent above a floor' of a saturating
        law, which is not that of a power law.
      label: of the runs.
      budget: training FLOPs; None for laws.
      a, b: in the first and in the second table.
      change: b - a; of n, d and multipliers b / a, where 1 is no change.
    """

    what: str
    label: str
    budget: float | None
    a: Interval
    b: Interval
    change: Interval

    @property
    def ratio(self) -> bool:
        """Whether `change` is b / a."""
        return self.what in _RATIOS

    @property
    def told_apart(self) -> bool | None:
        """Whether the interval of the change leaves out none; None without an interval."""
        if not self.change.known:
            return None
        return self.change.above(1.0 if self.ratio else 0.0) is not None


@dataclass(frozen=True, eq=False)
class Differences:
    """Two tables side by side.

    Attributes:
      by: what runs were matched by: 'run_id', or setting and seed where the tables share no ids. Running numbers are
        ids of other runs in another table: runs are matched where label, parameters and budget agree as well, and by
        run_id, setting and seed where both tables know them.
      shared: a row a run that is done in both: what it was matched by, label, loss_a, loss_b, difference (b - a).
      only_a, only_b: runs done in one table only, with the columns they were matched by, label and loss.
      mean: mean difference of the shared runs with its Student-t interval; None where none is shared.
      differences: of what was found in each table.
      absent: what only one of them shows, in words.
    """

    by: str
    shared: pl.DataFrame
    only_a: pl.DataFrame
    only_b: pl.DataFrame
    mean: Interval | None
    differences: tuple[Difference, ...]
    absent: tuple[str, ...]


_RATIOS = ("n", "d", "multiplier")
_Quantities = dict[tuple[str, str, float | None], Interval]


def compare(tables: tuple[pl.DataFrame, pl.DataFrame], findings: tuple[Findings, Findings]) -> Differences:
    """Compare two tables.

    The two studies' intervals are taken as independent. Where they share runs, or held-out windows, differences are
    surer than their intervals say.

    Args:
      tables: with the columns of `encdec_jax.sweep.results.SCHEMA`.
      findings: of each, with the same baseline.
    """
    a, b = (table.filter(pl.col("status") == "done") for table in tables)
    by, shared = ["run_id"], _same(_cells(a, ["run_id", *RUN], "loss_a"), _cells(b, ["run_id", *RUN], "loss_b"))
    if not len(shared):
        by = list(RUN)
        shared = _cells(a, by, "loss_a").join(_cells(b, by, "loss_b"), on=[*by, *_ALIKE], how="inner", nulls_equal=True)
    shared = shared.select(*by, "label", "loss_a", "loss_b", difference=pl.col("loss_b") - pl.col("loss_a"))
    only_a, only_b = (
        _cells(table, by, "loss").join(shared, on=[*by, "label"], how="anti", nulls_equal=True).drop(_ALIKE[1:])
        for table in (a, b)
    )
    pairs, absent = _pairs(findings)
    return Differences(
        by=by[0] if len(by) == 1 else "setting and seed",
        shared=shared,
        only_a=only_a,
        only_b=only_b,
        mean=_mean(shared["difference"].to_numpy()),
        differences=tuple(pairs),
        absent=tuple(absent),
    )


def apart(tables: tuple[pl.DataFrame, pl.DataFrame]) -> list[str]:
    """In what two tables differ that neither a label nor a setting tells, in words: their code, text, windows."""
    found = []
    for name in POOLABLE:
        a, b = (sorted({value[:12] for value in table[name].drop_nulls()}) for table in tables)
        if a and b and a != b:
            found.append(f"the tables differ in {name}: A {', '.join(a)}; B {', '.join(b)}")
    return found


def minus(b: Interval, a: Interval) -> Interval:
    """b - a for independent estimates, from their intervals alone: MOVER (Zou and Donner 2008, Statist. Med. 27:1693).

    Its ends are as far from the difference as those ends of the two intervals that push it that way, in quadrature.
    """
    value = b.value - a.value
    if not (a.known and b.known):
        return Interval(value)
    below = math.hypot(max(0.0, b.value - b.low), max(0.0, a.high - a.value))
    above = math.hypot(max(0.0, b.high - b.value), max(0.0, a.value - a.low))
    return Interval(value, value - below, value + above)


def over(b: Interval, a: Interval) -> Interval:
    """b / a for independent estimates above 0: `minus` of their logarithms."""
    logs = [Interval(*(math.log(x) if x > 0 else math.nan for x in (i.value, i.low, i.high))) for i in (b, a)]
    found = minus(*logs)
    return Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high))


def _cells(table: pl.DataFrame, by: list[str], name: str) -> pl.DataFrame:
    """Mean loss of runs that nothing of `by` tells apart."""
    return table.group_by([*by, *_ALIKE], maintain_order=True).agg(pl.col(LOSS).mean().alias(name))


def _same(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """Runs of one id that nothing both tables know tells apart; settings made of cells depend on what a table holds."""
    both = a.join(b, on=["run_id", *_ALIKE], how="inner", nulls_equal=True)
    setting, seed = ((pl.col(name), pl.col(f"{name}_right")) for name in RUN)
    made = pl.any_horizontal(one.str.starts_with(MADE) for one in setting)
    return both.filter(made | (setting[0] == setting[1]), (seed[0] == seed[1]).fill_null(True))


def _mean(differences: np.ndarray) -> Interval | None:
    if not len(differences):
        return None
    value = float(differences.mean())
    if len(differences) == 1:
        return Interval(value)
    half = float(stdtrit(len(differences) - 1, (1 + LEVEL) / 2) * differences.std(ddof=1) / math.sqrt(len(differences)))
    return Interval(value, value - half, value + half)


def _quantities(found: Findings) -> Iterator[tuple[tuple[str, str, float | None], Interval]]:
    for optimum in found.optima:
        for what in ("loss", "n", "d"):
            yield (what, optimum.label, optimum.budget), getattr(optimum, what)
    for comparison in found.comparisons:
        yield ("gap", comparison.label, comparison.budget), comparison.gap
        if comparison.multiplier is not None:
            yield ("multiplier", comparison.label, comparison.budget), comparison.multiplier
    for law in found.laws:
        if law.fit.converged:
            form = " above a floor" if law.fit.law.kind == "saturating" else ""
            yield (f"{law.quantity} exponent{form}", law.label, None), law.slope


def _pairs(findings: tuple[Findings, Findings]) -> tuple[list[Difference], list[str]]:
    a, b = ({key: one.unless_flat() for key, one in _quantities(found)} for found in findings)
    pairs = [
        Difference(*key, a[key], b[key], (over if key[0] in _RATIOS else minus)(b[key], a[key]))
        for key in a
        if key in b
    ]
    return pairs, [*_absent("A", a, b), *_absent("B", b, a)]


def _absent(name: str, mine: _Quantities, other: _Quantities) -> list[str]:
    """What only one table shows, a line for each label and set of quantities."""
    missing: dict[tuple[str, float | None], list[str]] = defaultdict(list)
    for what, label, budget in mine:
        if (what, label, budget) not in other:
            missing[label, budget].append(what)
    lines: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (label, budget), whats in missing.items():
        lines[label, ", ".join(whats)] += [] if budget is None else [f"{budget:.3g}"]
    return [
        f"only {name}: {label}'s {whats}" + (f" at {', '.join(budgets)} FLOPs" if budgets else "")
        for (label, whats), budgets in lines.items()
    ]
