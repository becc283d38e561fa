"""What runs cost: where the compute of the best ones goes, and quality against what it costs to train and to serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from encdec_jax.compute.ledger import count
from encdec_jax.compute.products import SCORES
from encdec_jax.config import RunConfig
from encdec_jax.report.canvas import LABEL, part, round_steps
from encdec_jax.report.section import Picture, Section
from encdec_jax.report.style import PARTS, Look
from encdec_jax.report.words import flops, number, share
from encdec_jax.study.findings import Findings
from encdec_jax.study.pareto import TOTAL
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.text import amount, shape


@dataclass(frozen=True)
class Spent:
    """What one run's parameters and training FLOPs are spent on.

    Attributes:
      label: of the runs.
      budget: training FLOPs.
      run_id, run: the run that stands for it.
      params: by group.
      flops: of one update, by group; scores of an attention are a group of their own.
    """

    label: str
    budget: float
    run_id: str
    run: RunConfig
    params: dict[str, int]
    flops: dict[str, float]


def spent(experiment: Experiment, table: pl.DataFrame, findings: Findings) -> list[Spent]:
    """For each label, the ledger of the run closest to its best size at its largest budget."""
    found = []
    for label in findings.labels:
        optimum = [o for o in findings.optima if o.label == label][-1]
        runs = table.filter(
            pl.col("status") == "done", pl.col("label") == label, pl.col("budget_flops") == optimum.budget
        ).sort((pl.col("n_params").log() - np.log(optimum.n.value)).abs(), "suffix_bits_per_byte", "run_id")
        known = [identity for identity in runs["run_id"] if identity in experiment.runs]
        if known:
            ledger = count(experiment.runs[known[0]])
            work = {name: part.mask for name, part in ledger.train_flops.by("group").items()}
            groups = ledger.params.groups
            found.append(Spent(label, optimum.budget, known[0], experiment.runs[known[0]], groups, work))
    return found


def ledger(found: list[Spent], pictures: tuple[Picture, ...]) -> Section:
    """Parameters and training FLOPs by group, a row a group."""
    note = (
        "Of the run closest to each label's best size at its largest budget: "
        + "; ".join(f"{s.label} {s.run_id} ({shape(s.run)}, {flops(s.budget)} FLOPs)" for s in found)
        + ". FLOPs are those of training, attention counted as the mask shows it. Scores: products of queries with "
        "keys, and sums of values; they have no parameters."
    )
    rows = []
    for group in groups(found):
        cells = [_params(s.params.get(group, 0)) for s in found]
        rows.append([group, *cells, *(_share(s, group) for s in found)])
    rows.append(
        [
            "all",
            *(_params(sum(s.params.values())) for s in found),
            *(f"{flops(sum(s.flops.values()))} an update" for s in found),
        ]
    )
    columns = ("group", *(f"{s.label}: parameters" for s in found), *(f"{s.label}: of FLOPs" for s in found))
    empty = "no run of the table is one of this experiment's sweep.py"
    return Section("Where the compute goes", note if found else "", columns, rows if found else [], empty, pictures)


def groups(found: list[Spent]) -> list[str]:
    """All groups, in the order of the ledgers: each attention's scores behind its weights."""
    names = dict.fromkeys(name for s in found for name in (*s.params, *s.flops))
    plain = [name for name in names if not name.endswith(SCORES)]
    return [each for name in plain for each in (name, name + SCORES) if each in names]


def shares(axes: Axes, found: list[Spent]) -> None:
    """Shares of training FLOPs, a bar a label and a colour a group."""
    names = [name for name in groups(found) if any(s.flops.get(name) for s in found)]
    left = np.zeros(len(found))
    for place, name in enumerate(names):
        width = np.array([100 * s.flops.get(name, 0.0) / sum(s.flops.values()) for s in found])
        axes.barh(np.arange(len(found)), width, left=left, height=0.6, color=PARTS[place % len(PARTS)], label=name)
        for row in np.flatnonzero(width >= 8):
            axes.text(
                left[row] + width[row] / 2, float(row), f"{width[row]:.0f}", ha="center", va="center", fontsize=LABEL
            )
        left += width
    axes.set_yticks(np.arange(len(found)), [s.label for s in found])
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("percent of training FLOPs")
    axes.set_title("Training FLOPs by group")
    below: Any = {"loc": "upper center", "bbox_to_anchor": (0.38, -0.28), "frameon": False}
    axes.legend(**below, ncols=2, fontsize=LABEL - 1, handlelength=1.0, columnspacing=1.0)


def _params(n: int) -> str:
    return amount(n) if n else "-"


def _share(found: Spent, group: str) -> str:
    part = found.flops.get(group, 0.0)
    return f"{part / sum(found.flops.values()):.1%}" if part else "-"


COSTS = {
    "train_flops": "training FLOPs",
    "decode_flops": "decode FLOPs",
    "request_flops": "prefill and decode FLOPs",
    "kv_bytes": "KV bytes",
}
DRAWN = ("train_flops", "request_flops", "kv_bytes")


def views(fronts: pl.DataFrame) -> list[pl.DataFrame]:
    """The parts of `encdec_jax.study.pareto.fronts`' table that are a picture each: one cost at one ratio."""
    chosen = fronts.filter(pl.col("axis").is_in(DRAWN)).with_columns(place=pl.col("axis").replace_strict(_PLACES))
    return chosen.sort("place", "ratio", "label", "cost", maintain_order=True).partition_by(
        "place", "ratio", maintain_order=True
    )


def title(view: pl.DataFrame) -> str:
    """What a view shows, in words."""
    return f"Bits per byte against {COSTS[view['axis'][0]]}{_lengths(view.row(0, named=True))}"


def front(axes: Axes, view: pl.DataFrame, look: Mapping[str, Look]) -> None:
    """Every setting's loss against its cost; those that nothing beats are filled, and joined by a line."""
    best = view.filter("front").sort("cost")
    axes.step(best["cost"], best["loss"], where="post", color="#444444", lw=1.2, zorder=1)
    for label, on, runs in _marked(view):
        fill = look[label].colour if on else "white"
        style: Any = {"ls": "", "ms": 6, "color": look[label].colour, "mfc": fill, "zorder": 3 + on}
        part(axes.plot(runs["cost"], runs["loss"], look[label].marker, **style), label, _key(view, label, on))
    low, high = float(np.min(view["cost"].to_numpy())), float(np.max(view["cost"].to_numpy()))
    row = view.row(0, named=True)
    spell = amount if row["axis"] == "kv_bytes" else flops
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(round_steps(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: spell(value)))
    axes.set_xlabel(COSTS[row["axis"]] + (" of a request" if row["source"] else ""))
    axes.set_ylabel("bits per byte, held-out suffixes")
    axes.set_title(f"{row['source']:,} tokens in, {row['target']:,} out" if row["source"] else "Training")


def front_tips(fronts: pl.DataFrame) -> dict[str, list[str]]:
    """Texts of the markers of every view, by the keys that `front` gives them."""
    return {
        _key(view, label, on): [_setting(run) for run in runs.iter_rows(named=True)]
        for view in views(fronts)
        for label, on, runs in _marked(view)
    }


def serving(fronts: pl.DataFrame, pictures: Sequence[Picture]) -> Section:
    """The settings on each front."""
    note = (
        "Filled: a setting that no other beats, that is, none is as good for less or better for as much. Costs of "
        f"serving are the ledger's for one request of {TOTAL:,} tokens, input and output together; KV bytes in "
        "bfloat16. Share: probability of being on the front, under the noise of runs; none where a "
        "label's noise is unknown."
    )
    rows = [
        [
            COSTS[run["axis"]],
            f"{run['source']:,} / {run['target']:,}" if run["source"] else "-",
            run["label"],
            amount(run["n_params"]),
            "-" if run["budget_flops"] is None else flops(run["budget_flops"]),
            flops(run["cost"]) if run["axis"] != "kv_bytes" else amount(run["cost"]),
            number(run["loss"]),
            "-" if run["share"] is None else share(run["share"]),
        ]
        for run in fronts.filter("front").iter_rows(named=True)
    ]
    columns = (
        "cost",
        "tokens in / out",
        "label",
        "parameters",
        "budget (FLOPs)",
        "cost is",
        "bits per byte",
        "share",
    )
    empty = "No run of the table is one of this experiment's sweep.py."
    return Section("Pareto fronts", note if rows else "", columns, rows, empty, tuple(pictures))


def _marked(view: pl.DataFrame) -> list[tuple[str, bool, pl.DataFrame]]:
    """The settings of a view that are drawn alike: of one label, on the front or not."""
    parts = view.partition_by("label", "front", maintain_order=True)
    return [(runs["label"][0], runs["front"][0], runs) for runs in parts]


def _key(view: pl.DataFrame, label: str, on: bool) -> str:
    return f"{title(view)} {label} {on}"


def _lengths(row: dict[str, Any]) -> str:
    return f", {row['source']:,} tokens in and {row['target']:,} out" if row["source"] else ""


def _setting(run: dict[str, Any]) -> str:
    of = f"mean of {run['runs']} runs" if run["runs"] > 1 else "one run"
    on = "on the front" if run["front"] else "not on the front"
    on += "" if run["share"] is None else f", probability {share(run['share'])}"
    spell = amount if run["axis"] == "kv_bytes" else flops
    return (
        f"{run['label']}, {amount(run['n_params'])} parameters: {run['loss']:.4f} bits per byte ({of}) for "
        f"{spell(run['cost'])} {COSTS[run['axis']]}; {on}"
    )


_PLACES = {axis: place for place, axis in enumerate(COSTS)}
