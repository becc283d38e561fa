"""The pieces of a report: sections of a note, pictures, a table and a text. The template only lays them out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup

Rows = list[list[str]]


@dataclass(frozen=True)
class Picture:
    """A picture: what it shows, in words, and an SVG element."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class Section:
    """One subject under a heading.

    Attributes:
      title: of the heading.
      note: above the pictures and the table; empty for none.
      columns, rows: of a table of text; a section without rows says `empty` instead.
      empty: what a section without rows says; empty if its pictures or text are enough.
      pictures: above the table.
      text: paragraphs below the table.
    """

    title: str
    note: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] | Rows = ()
    empty: str = "none"
    pictures: tuple[Picture, ...] = ()
    text: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """What a link to the section names."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
