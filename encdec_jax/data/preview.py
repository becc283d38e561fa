"""What a run would train on, printed: sources and targets decoded, with segments, positions, loss weights and masks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from encdec_jax.config import RunConfig
from encdec_jax.data.batches import Batches
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.demands import check_demands, text
from encdec_jax.data.drawing import LEGEND, STYLES, drawings
from encdec_jax.data.geometry import geometry
from encdec_jax.data.objectives.named import described, objective_of
from encdec_jax.data.objectives.objective import START, frame_of
from encdec_jax.data.packing import Batch
from encdec_jax.data.rows import told
from encdec_jax.data.vocab import Vocab
from encdec_jax.errors import require
from encdec_jax.model.streams import Stream


def preview(run: RunConfig, rows: int, console: Console) -> None:
    """Print the layout of the run's batches and their first rows.

    Args:
      run: the configuration.
      rows: how many rows to show, from step 0 on.
      console: to print to.

    Raises:
      UserError: the data is missing or damaged, or does not fit the configuration.
    """
    cache = TokenCache.open(run.data.task, run.data.vocab)
    check_demands(run, cache)
    show(cache, run, rows, console)


def show(cache: TokenCache, run: RunConfig, rows: int, console: Console) -> None:
    """As `preview`, of a cache that is open."""
    require(rows >= 1, "rows", rows, "at least 1")
    batches = Batches(cache, run)
    steps = -(-rows // batches.rows)
    shown = [batches(step) for step in range(steps)]
    console.print(_summary(cache, run, batches, shown))
    console.print(LEGEND, style="dim")
    marks = {
        number: name for name, number in frame_of(objective_of(run.objective), cache.vocab, run.data).marks.items()
    }
    reading = _Legend(cache.vocab, marks)
    for row in range(rows):
        step, place = divmod(row, batches.rows)
        console.print(_row(shown[step], place, reading, f"step {step}, row {place}"))
        for title, drawn in drawings(run.model, shown[step], place):
            console.print(Text(title, style="italic"), drawn, sep="\n")


def _summary(cache: TokenCache, run: RunConfig, batches: Batches, shown: list[Batch]) -> Table:
    layout, unit = batches.layout, "packed rows" if objective_of(run.objective).pairs else "windows"
    shape = geometry(run)
    streams = [stream for batch in shown for stream in (batch.source, batch.target) if stream is not None]
    positions = sum(stream.segment.size for stream in streams)
    padding = sum(int((stream.segment == 0).sum()) for stream in streams)
    loss = sum(int((batch.weights > 0).sum()) for batch in shown)
    window = len(shown) * shape.update_tokens
    table = Table(title=f"{run.model.arch}, {described(run.objective)}, task {run.data.task}", show_header=False)
    scored = f"the target's last {layout.scored}" if layout.scored <= layout.target else "all of them"
    facts = {
        "batch": f"{shape.windows} {unit} of {shape.window_tokens} tokens, in {batches.rows} rows",
        "row": f"source {layout.source}, target {layout.target} tokens; logits for {scored}",
        "epoch": f"{batches.epoch} {unit}",
        "loss tokens": f"{loss / window:.1%} of the {unit}' tokens",
        "padding": f"{padding / positions:.1%} of the streams' positions",
    }
    if batches.fill is not None:
        facts["rows"], facts["long pairs"] = told(batches.fill, run.data)
    elif run.data.documents == "apart":
        left, total = text(cache, run.data, run.objective.name).left_out(cache)
        facts["left out"] = f"{left:,} of {total:,} bytes ({left / total:.1%}), at the ends of documents"
    for name, fact in facts.items():
        table.add_row(name, fact)
    return table


class _Legend(NamedTuple):
    """What ids stand for: text, or the marks of an objective."""

    vocab: Vocab
    marks: dict[int, str]


def _row(batch: Batch, row: int, vocab: _Legend, title: str) -> Table:
    table = Table(title=title)
    for name in ("stream", "segment", "positions", "open", "weight", "text"):
        table.add_column(name, overflow="fold")
    for name, stream in (("source", batch.source), ("target", batch.target)):
        if stream is not None:
            _add_stream(table, name, Stream(*(field[row] for field in stream)), vocab)
    scored, both = batch.labels.shape[1], (batch.target, batch.source or batch.target)
    segment, position = (
        np.concatenate([getattr(stream, name)[row] for stream in both[::-1]])[-scored:]
        for name in ("segment", "position")
    )
    weights = batch.weights[row]
    for part in _runs(segment, weights):
        text = _decoded(batch.labels[row][part], vocab) if weights[part.start] else Text("(no loss)", style="dim")
        where = _between(segment[part], position[part])
        table.add_row("labels", str(segment[part.start]), where, "", f"{weights[part.start]:g}", text)
    return table


def _add_stream(table: Table, name: str, stream: Stream, vocab: _Legend) -> None:
    for part in _runs(stream.segment, stream.open):
        padding = not stream.segment[part.start]
        if padding:
            text = Text(f"(padding, {part.stop - part.start} tokens)", style="dim")
        else:
            text = _decoded(stream.tokens[part], vocab, STYLES["source" if stream.open[part.start] else name])
        where = _between(stream.segment[part], stream.position[part])
        is_open = "yes" if stream.open[part.start] else "no"
        table.add_row(name, str(stream.segment[part.start]), where, "" if padding else is_open, "", text)


def _runs(*keys: np.ndarray) -> Iterator[slice]:
    """Runs of places at which every key stays the same."""
    changes = np.flatnonzero(np.any([np.diff(key) != 0 for key in keys], axis=0)) + 1
    ends = [0, *changes.tolist(), len(keys[0])]
    for first, last in pairwise(ends):
        yield slice(first, last)


def _between(segment: np.ndarray, position: np.ndarray) -> str:
    return f"{position[0]}..{position[-1]}" if segment[0] else ""


def _decoded(ids: np.ndarray, reading: _Legend, style: str = "") -> Text:
    """The text of the ids, with start, end of document, sentinels and marks set apart, and line breaks made visible."""
    text, vocab = Text(style=style), reading.vocab
    special = (ids == START) | (ids == vocab.eos_id) | (ids >= vocab.size)
    for part in _runs(special, np.where(special, np.arange(len(ids)), -1)):
        if special[part.start]:
            text.append(_mark(int(ids[part.start]), reading), style="bold red")
        else:
            text.append(vocab.decode(ids[part].tolist()).replace("\n", "⏎"))
    return text


def _mark(token: int, reading: _Legend) -> str:
    if token >= reading.vocab.size:
        return f"<{reading.marks.get(token, token - reading.vocab.size)}>"
    return "<start>" if token == START else "<end>"
