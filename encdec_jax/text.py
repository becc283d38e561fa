"""Numbers and tables for a terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from encdec_jax.config import RunConfig

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_PIPE_WIDTH = 200  # columns where the output is no terminal: wide enough to cut nothing


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a reader who is gone to the command line; rich would exit with 1, which says that runs failed."""
        raise  # the BrokenPipeError that is being handled


def console() -> Console:
    """Standard output."""
    return _Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def progress_console() -> Console:
    """Standard error, for what passes by."""
    return _Console(stderr=True, highlight=False)


def table(*columns: str, left: int) -> Table:
    """An empty table whose first `left` columns are text; the others are numbers, set right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place < left else "right", no_wrap=True)
    return made


def titled(title: str, *columns: str) -> Table:
    """An empty table under a title: its first column is text, the others are numbers, set right."""
    made = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        made.add_column(column, justify="right" if place else "left")
    return made


def amount(value: float) -> str:
    """Three significant digits and a decimal prefix: 12.3k, 1.05M."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def size(n: float) -> str:
    """Bytes in the largest binary unit that they fill."""
    for unit, whole in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n >= whole:
            return f"{n / whole:.3g} {unit}" if n < 1000 * whole else f"{n / whole:.0f} {unit}"
    return f"{n:.0f} B"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, the two largest of them: 2h05m, 3m20s, 7s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def shape(run: RunConfig) -> str:
    """Layers and widths of a model: 2+2 x 64, 4 x 64 for one stack, 2 x 64 + 4 x 32 for unequal widths."""
    decoder, encoder = run.model.decoder, run.model.encoder
    if encoder is None:
        return f"{decoder.n_layers} x {decoder.d_model}"
    if encoder.d_model == decoder.d_model:
        return f"{encoder.n_layers}+{decoder.n_layers} x {decoder.d_model}"
    return f"{encoder.n_layers} x {encoder.d_model} + {decoder.n_layers} x {decoder.d_model}"
