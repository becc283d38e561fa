"""Numbers and tables for a terminal."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from encdec_jax.config import RunConfig

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_ANY_WIDTH = 10_000  # columns that no table fills
_NARROW = 24  # columns that a text which may wrap has at least
_PIPE_WIDTH = 200  # columns where the output is no terminal: wide enough to cut nothing


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a reader who is gone to the command line; rich would exit with 1, which says that runs failed."""
        raise  # the BrokenPipeError that is being handled


def console() -> Console:
    """Standard output; names are printed as they are, brackets too."""
    return _Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def progress_console() -> Console:
    """Standard error, for what passes by."""
    return _Console(stderr=True, highlight=False)


class Fitting(Table):
    """A table that loses nothing: where it is wider than the terminal, each row is a block of lines.

    Columns that may wrap do so before that. A block begins with its first cell, whole however narrow the terminal is;
    below it stand the others, each with its column's name, those that are empty left out.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What is printed: see the class."""
        if (lines := self._unstyled(options.max_width)) is not None:
            head, *rows = lines
            yield Text(head, style=self.header_style, no_wrap=True, overflow="ignore")
            yield Segment("".join(f"{row}\n" for row in rows))
            return
        wide = options.update(max_width=_ANY_WIDTH)
        needed = Measurement.get(console, wide, self).maximum
        for column in self.columns:
            longest = max((cell_len(_plain(cell)) for cell in column.cells), default=0)
            needed -= 0 if column.no_wrap else max(0, longest - _NARROW)
        if needed <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        whole: Any = {"no_wrap": True, "overflow": "ignore"}
        if self.title:
            yield Text(str(self.title), style="italic", **whole)
        columns = [list(column.cells) for column in self.columns]
        for first, *cells in zip(*columns, strict=True):
            yield Text.assemble((_plain(first) or "-", "bold"), **whole)
            for column, cell in zip(self.columns[1:], map(_plain, cells), strict=True):
                if cell:
                    name = _plain(column.header).replace("\n", " ")
                    text = " ".join(part for part in (f"{name}:" if name else "", *cell.split("\n")) if part)
                    yield Padding(Text(text, overflow="fold", no_wrap=False), (0, 0, 0, 2), expand=False)

    def _unstyled(self, width: int) -> list[str] | None:
        """Its lines, where they are plain and fit: rich itself takes a minute for ten thousand rows."""
        if self.title or self.box is not None or not self.columns:
            return None
        given = [[column.header, *column.cells] for column in self.columns]
        columns = [[cell for cell in cells if isinstance(cell, str) and "\n" not in cell] for cells in given]
        if columns != given:
            return None
        widths = [max(map(cell_len, cells)) for cells in columns]
        right = [column.justify == "right" for column in self.columns]
        room = width - sum(widths[:-1]) - 2 * (len(widths) - 1)  # of the last column, which may be folded
        if widths[-1] > room and (room < _NARROW or self.columns[-1].no_wrap):
            return None
        lines = []
        for *row, last in zip(*columns, strict=True):
            parts = [last] if cell_len(last) <= room else textwrap.wrap(last, room)
            end = _set(parts[0], min(widths[-1], room), right[-1])
            lines.append("  ".join([*map(_set, row, widths, right), end]).rstrip())
            lines += [" " * (width - room) + part for part in parts[1:]]
        return lines


def _set(cell: str, width: int, right: bool) -> str:
    blank = " " * (width - cell_len(cell))
    return blank + cell if right else cell + blank


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def table(*columns: str, left: int) -> Table:
    """An empty table whose first `left` columns are text; the others are numbers, set right."""
    made = Fitting(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place < left else "right", no_wrap=True)
    return made


def titled(title: str, *columns: str) -> Table:
    """An empty table under a title: its first column is text, the others are numbers, set right."""
    made = Fitting(title=title, title_justify="left")
    for place, column in enumerate(columns):
        made.add_column(column, justify="right" if place else "left", no_wrap=True)
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
