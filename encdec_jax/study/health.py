"""Which runs count: rules that an experiment fixes before it runs, and the runs that they leave out.

A run that diverged or failed has no loss and never counts (`encdec_jax.study.curves` lists it). The rules here leave
out runs that have one; sweep.py states them as `HEALTH = Health(...)`, so that nobody chooses them by their outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from encdec_jax.errors import UserError, require
from encdec_jax.study.curves import Exclusion
from encdec_jax.train.lines import read_lines

_BEHIND = 20  # logged values whose median a spike is measured from
_TAIL = 0.05  # of a run, the stretches that 'unsettled' compares


@dataclass(frozen=True)
class Health:
    """Rules; None turns one off. Losses are those of training, in nats a token, as metrics.jsonl logs them.

    Attributes:
      spike: nats above the median of the 20 values logged before, from where on a value behind the warm-up is a spike.
      max_spikes: spikes that a run may have; one of neighbouring values is one spike.
      unsettled: nats by which the mean of the last 20th of a run may lie above that of its best 20th; a run above has
        not converged.
      min_updates: updates below which a run is under-trained.
      min_tokens_per_parameter: tokens over parameters below which it is.
      drop_edges: leave out budgets whose best size is not inside the sizes trained from all laws and comparisons, not
        only from laws of size.
    """

    spike: float | None = 0.5
    max_spikes: int = 0
    unsettled: float | None = 0.1
    min_updates: int | None = None
    min_tokens_per_parameter: float | None = None
    drop_edges: bool = False

    def __post_init__(self) -> None:
        for name in ("spike", "unsettled", "min_updates", "min_tokens_per_parameter"):
            value = getattr(self, name)
            require(value is None or value > 0, f"HEALTH: {name}", value, "a number above 0, or None")
        require(self.max_spikes >= 0, "HEALTH: max_spikes", self.max_spikes, "a whole number of at least 0")


def check(rules: Health, table: pl.DataFrame, root: Path) -> list[Exclusion]:
    """The runs that are done and that a rule leaves out, each under the first rule that it breaks.

    Args:
      rules: of the experiment.
      table: with the columns of `encdec_jax.sweep.results.SCHEMA`.
      root: the folder of the runs, `root / run_id / metrics.jsonl`.

    Raises:
      UserError: the rules are no `Health`; they need a run's loss curve, which is missing or damaged.
    """
    require(isinstance(rules, Health), "HEALTH", rules, "a Health(...) of encdec_jax.study.health")
    done = table.filter(pl.col("status") == "done")
    broken = ((run, _broken(rules, run, root)) for run in done.iter_rows(named=True))
    return [Exclusion(run["run_id"], run["label"], rule, health=True) for run, rule in broken if rule]


def spikes(loss: np.ndarray, first: int, height: float) -> int:
    """How often a loss curve [logged] rises `height` above the median of the 20 values before, from index `first` on.

    Values that are not finite, which a run that went on has none of, count as spikes.
    """
    first = max(first, 1)
    base = np.array([np.median(loss[max(0, i - _BEHIND) : i]) for i in range(first, len(loss))])
    high = ~(loss[first:] - base <= height)
    return int((high & ~np.concatenate([[False], high[:-1]])).sum())


def unsettled(loss: np.ndarray) -> float:
    """Nats by which the mean of the last 20th of a curve [logged] lies above the lowest mean of 20ths before."""
    width = max(1, round(len(loss) * _TAIL))
    sums = np.cumsum(np.concatenate([[0.0], loss]))
    means = (sums[width:] - sums[:-width]) / width
    return float(means[-1] - means.min())


def curve(path: Path, last: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and training losses (nats a token; NaN where not finite) of a metrics.jsonl, each [logged].

    Args:
      path: of the file.
      last: the update that it must end with; None for any.

    Raises:
      UserError: the file is missing, empty or damaged.
    """
    try:
        lines = read_lines(path, last)
        rows = np.array([(line["tokens"], np.nan if line["loss"] is None else line["loss"]) for line in lines])
    except (UserError, KeyError, TypeError) as error:
        raise UserError(f"can't read loss curve {path}: {error}; health rules on losses need it") from error
    require(len(rows) > 0, "loss curve", str(path), "a file with at least one line")
    return rows[:, 0].astype(np.float64), rows[:, 1].astype(np.float64)


def _broken(rules: Health, run: dict[str, object], root: Path) -> str:
    """The first rule that a run breaks, with what was found; empty if none."""
    updates, tokens, n = (float(str(run[name])) for name in ("updates", "tokens_seen", "n_params"))
    if rules.min_updates is not None and updates < rules.min_updates:
        return f"under-trained: {updates:.0f} updates, fewer than {rules.min_updates}"
    least = rules.min_tokens_per_parameter
    if least is not None and tokens / n < least:
        return f"under-trained: {tokens / n:.3g} tokens per parameter, fewer than {least:g}"
    if rules.spike is None and rules.unsettled is None:
        return ""
    seen, loss = curve(root / str(run["run_id"]) / "metrics.jsonl", int(updates))
    if rules.spike is not None:
        # The first tenth is warm-up or close to it: the loss falls fast, and noise is not yet what it will be.
        found = spikes(loss, int(np.searchsorted(seen, 0.1 * seen[-1])), rules.spike)
        if found > rules.max_spikes:
            return f"spikes: {found} of more than {rules.spike:g} nats, where {rules.max_spikes} are allowed"
    if rules.unsettled is not None and not (rise := unsettled(loss)) <= rules.unsettled:
        return f"not converged: the last 20th lies {rise:.3g} nats above the best, more than {rules.unsettled:g}"
    return ""
