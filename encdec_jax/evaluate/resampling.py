"""Intervals of a task's scores: examples are drawn again, with replacement (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from encdec_jax.evaluate.task_metrics import Metric, parts, ratio

DRAWS = 1000  # of a ratio of sums over examples
FEWER = 200  # of any other metric, which is computed anew for each
LEVEL = 0.95


@dataclass(frozen=True)
class Score:
    """A score and its percentile interval at `LEVEL`; `low` and `high` are None where it is no number."""

    value: Any
    low: float | None
    high: float | None


def scores(metric: Metric, targets: Sequence[Any], outputs: Sequence[Any], seed: int = 0) -> dict[str, Score]:
    """The scores that a metric gives, each with an interval over examples.

    Args:
      metric: of (targets, outputs).
      targets, outputs: of the same examples.
      seed: of the draws.
    """
    value = metric(targets, outputs)
    draws = np.random.default_rng(seed)
    found = parts(metric, targets, outputs)
    if found is not None:
        taken = draws.integers(len(targets), size=(DRAWS, len(targets)))
        return {name: _score(value[name], [ratio(r) for r in rows[taken].sum(axis=1)]) for name, rows in found.items()}
    drawn: list[Any] = []
    for _ in range(FEWER if len(targets) else 0):
        take = draws.integers(len(targets), size=len(targets)).tolist()
        drawn.append(metric([targets[i] for i in take], [outputs[i] for i in take]))
    return {name: _score(one, [again.get(name) for again in drawn]) for name, one in value.items()}


def _score(value: Any, drawn: list[Any]) -> Score:
    numbers = [one for one in (value, *drawn) if isinstance(one, int | float | np.number) and np.isfinite(float(one))]
    if len(numbers) != len(drawn) + 1 or not drawn:
        return Score(value, None, None)
    low, high = np.quantile(np.asarray(numbers[1:], np.float64), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Score(float(value), float(low), float(high))
