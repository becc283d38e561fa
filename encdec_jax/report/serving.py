"""Quality against what runs cost to train and to serve: the Pareto fronts by ratio of input to output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from encdec_jax.report.axes import part, round_steps
from encdec_jax.report.section import Picture, Section
from encdec_jax.report.style import Look
from encdec_jax.report.words import flops, number, share
from encdec_jax.study.pareto import TOTAL
from encdec_jax.text import amount

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


def tips(fronts: pl.DataFrame) -> dict[str, list[str]]:
    """Texts of the markers of every view, by the keys that `front` gives them."""
    return {
        _key(view, label, on): [_setting(run) for run in runs.iter_rows(named=True)]
        for view in views(fronts)
        for label, on, runs in _marked(view)
    }


def section(fronts: pl.DataFrame, pictures: Sequence[Picture]) -> Section:
    """The settings on each front."""
    note = (
        "Filled: a setting that no other beats, that is, none is as good for less or better for as much. Costs of "
        f"serving are the ledger's for one request of {TOTAL:,} tokens, input and output together; KV bytes in "
        "bfloat16. Share: probability of being on the front, under the noise of runs."
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
            share(run["share"]),
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
    """The settings of a view that are drawn alike: of one architecture, on the front or not."""
    parts = view.partition_by("label", "front", maintain_order=True)
    return [(runs["label"][0], runs["front"][0], runs) for runs in parts]


def _key(view: pl.DataFrame, label: str, on: bool) -> str:
    return f"{title(view)} {label} {on}"


def _lengths(row: dict[str, Any]) -> str:
    return f", {row['source']:,} tokens in and {row['target']:,} out" if row["source"] else ""


def _setting(run: dict[str, Any]) -> str:
    of = f"mean of {run['runs']} runs" if run["runs"] > 1 else "one run"
    on = "on the front" if run["front"] else "not on the front"
    spell = amount if run["axis"] == "kv_bytes" else flops
    return (
        f"{run['label']}, {amount(run['n_params'])} parameters: {run['loss']:.4f} bits per byte ({of}) for "
        f"{spell(run['cost'])} {COSTS[run['axis']]}; {on}, probability {share(run['share'])}"
    )


_PLACES = {axis: place for place, axis in enumerate(COSTS)}
