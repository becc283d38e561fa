"""Tables and byte counts as a terminal shows them. No jax here."""

from __future__ import annotations

from rich.table import Table


def table(title: str, *columns: str) -> Table:
    """An empty table: its first column is text, the others are numbers, set right."""
    made = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i else "left")
    return made


def size(n: float) -> str:
    """Bytes in the largest binary unit that they fill."""
    for unit, whole in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n >= whole:
            return f"{n / whole:.3g} {unit}" if n < 1000 * whole else f"{n / whole:.0f} {unit}"
    return f"{n:.0f} B"
