"""Masks drawn with characters: what attends to what in a row, and what is scored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.text import Text

from encdec_jax.data.packing import Batch
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import edges
from encdec_jax.model.streams import Stream

COLUMNS, LINES = 64, 32  # of a drawing at most; two columns a line make it square
SHADES = "·░▒▓█"  # none of the pairs under a character, to all of them
LEGEND = "drawings: a line a query, a column a key; █ sees, ░▒▓ sees some of them, · sees none; ■ is scored, ▪ in part"
STYLES = {"source": "cyan", "target": "green"}


def drawings(config: ModelConfig, batch: Batch, row: int) -> Iterator[tuple[str, Text]]:
    """A title and a drawing for each pair of streams of which queries of one see keys of the other.

    Lines are queries, columns keys, first tokens first; the last column marks the queries that are scored.

    Args:
      config: whose edges.
      batch: that holds the row.
      row: which one.
    """
    streams = {"source": batch.source, "target": batch.target}
    one = {name: Stream(*(field[row : row + 1] for field in s)) for name, s in streams.items() if s is not None}
    scored = np.zeros(batch.target.tokens.shape[1], bool)
    scored[len(scored) - batch.weights.shape[1] :] = batch.weights[row] > 0
    drawn = set()
    for edge in edges(config):
        kind = (edge.query, edge.key, edge.reads.sees)
        if kind in drawn:
            continue
        drawn.add(kind)
        query, key = one[edge.query], one[edge.key]
        if edge.query != edge.key:  # a source that stands in front of the target, all of it
            key = key._replace(open=key.segment != 0)
        seen = np.asarray(edge.reads.sees.mask(query, key))[0]
        weighed = scored if edge.query == "target" else np.zeros(len(seen), bool)
        what = "itself" if edge.query == edge.key else f"the {edge.key}"
        title = f"the {edge.query} sees {what} ({type(edge.reads.sees).__name__.lower()})"
        yield title, drawn_mask(seen, weighed, STYLES[edge.key])


def drawn_mask(seen: np.ndarray, scored: np.ndarray, style: str) -> Text:
    """A mask, bool [queries, keys], and whether each query is scored, in at most `LINES` lines of `COLUMNS`."""
    queries, keys = map(np.arange, seen.shape)
    wide = np.repeat(keys, 2) if 2 * len(keys) <= COLUMNS else keys  # few keys are two characters wide each
    columns = np.array_split(wide, min(COLUMNS, len(wide)))
    text = Text()
    for line in np.array_split(queries, min(LINES, len(queries))):
        shares = [seen[np.ix_(line, part)].mean() for part in columns]
        text.append("".join(SHADES[int(np.ceil(share * (len(SHADES) - 1)))] for share in shares), style=style)
        share = scored[line].mean()
        text.append(" ■" if share == 1 else " ▪" if share else "", style="bold red")
        text.append("\n")
    text.rstrip()
    return text
