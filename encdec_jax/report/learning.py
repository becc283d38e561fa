"""Learning curves: the training losses that runs left behind, thinned, and their picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.report.canvas import LABEL, part
from encdec_jax.report.style import Look
from encdec_jax.report.words import flops
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.train.lines import read_lines

METRICS = "metrics.jsonl"
TRAINING, HELD_OUT = "training loss, nats a token", "held-out loss, bits per byte"
_POINTS = 48  # of a thinned curve, at most
_PALE = 0.55  # how much white the curves of the smallest budget hold


@dataclass(frozen=True, eq=False)
class History:
    """The learning curve of one run.

    Attributes:
      run_id, label: of the run.
      budget: training FLOPs; infinite of a run that was not matched.
      flops: training FLOPs spent, [points], rising.
      loss: mean training loss between a point and the one before, of the run's own objective, nats a token, [points].
      scored: the fair loss on the way, where the run was scored: training FLOPs spent and bits per byte, each [scored].
    """

    run_id: str
    label: str
    budget: float
    flops: np.ndarray
    loss: np.ndarray
    scored: tuple[np.ndarray, np.ndarray] = (np.empty(0), np.empty(0))


def histories(experiment: Experiment, table: pl.DataFrame) -> list[History]:
    """The learning curves of a table's runs, as far as their folders are there.

    Raises:
      UserError: a file of metrics is damaged.
    """
    found = []
    columns = ("run_id", "label", "budget_flops", "train_flops", "updates", "status")
    rows = table.sort("label", "budget_flops", "run_id").select(columns).rows()
    for identity, label, budget, total, updates, status in rows:
        path = experiment.run_folder(identity) / METRICS
        if not path.is_file():
            continue
        lines = read_lines(path, updates if status == "done" else None)
        try:
            points = [(line["step"], line["loss"]) for line in lines if line["loss"] is not None]
            scores = [(line["step"], line[LOSS]) for line in lines if line.get(LOSS) is not None]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from error
        if points:
            step, loss = thin(*np.array(points, float).T)
            budget = float("inf") if budget is None else budget
            at, bits = np.array(scores, float).reshape(-1, 2).T
            share = total / updates
            found.append(History(identity, label, budget, step * share, loss, (at * share, bits)))
    return found


def watched(found: Sequence[History]) -> list[History]:
    """The fair losses on the way, as curves: of the runs that were scored."""
    return [replace(one, flops=one.scored[0], loss=one.scored[1]) for one in found if len(one.scored[0])]


def thin(step: np.ndarray, loss: np.ndarray, points: int = _POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Means of the losses [n] over bins of steps that grow in proportion: last step and mean of each bin, [points]."""
    edges = np.geomspace(step[0], step[-1], points + 1)[1:-1]
    place = np.searchsorted(edges, step)
    _, first, count = np.unique(place, return_index=True, return_counts=True)
    return step[first + count - 1], np.add.reduceat(loss, first) / count


def curves(axes: Axes, found: Sequence[History], label: str, look: Look, quantity: str = TRAINING) -> None:
    """A loss against training FLOPs spent, a line a run of one label; larger budgets are darker.

    All labels' panels have one scale of losses.
    """
    own = [history for history in found if history.label == label]
    budgets = sorted({history.budget for history in own})
    for history in own:
        pale = _PALE * (1 - (budgets.index(history.budget) + 1) / len(budgets)) if len(budgets) > 1 else 0.0
        shade = tuple((1 - pale) * value + pale for value in to_rgb(look.colour))
        part(
            axes.plot(history.flops, history.loss, color=shade, lw=1.1, marker="." if quantity == HELD_OUT else ""),
            label,
        )
    for budget in budgets:
        least = min((h for h in own if h.budget == budget), key=lambda h: (h.loss[-1], h.run_id))
        end = (float(least.flops[-1]), float(least.loss[-1]))
        text = flops(budget) if np.isfinite(budget) else "no budget"
        axes.annotate(
            text, end, (0, -6), textcoords="offset points", va="top", ha="right", color=look.ink, fontsize=LABEL
        )
    losses = np.concatenate([history.loss for history in found])
    low, high = float(losses.min()) / 1.1, float(losses.max()) * 1.03
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(MaxNLocator(6).tick_values(low, high)))
    axes.set_ylim(low, high)
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: flops(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_xlabel("training FLOPs spent")
    axes.set_ylabel(f"{quantity} (log)")
    axes.set_title(label, color=look.ink)
