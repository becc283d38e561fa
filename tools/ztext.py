"""Read every verse of a SWORD zText module: zlib blocks of OSIS text behind a verse index.

Each testament has three files: `.bzs` (offset, size, unpacked size of each block), `.bzv` (block, offset, size of each
verse) and `.bzz` (the blocks). The verse index follows the order of the module's versification, with one entry
for each heading: two of the testament, one of each book, one of each chapter.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from pysword.canons import canons

Verse = tuple[str, int, int, str]  # book, chapter, verse, text

HIDDEN = re.compile(r"<(note|title|milestone)\b[^>]*?(?:/>|>.*?</\1>)", re.DOTALL)
INLINE = re.compile(r"</?(?:w|transChange|divineName|q|hi|foreign|seg|reference)\b[^>]*>")
TAG = re.compile(r"<[^>]*>")
BEFORE_MARK = re.compile(r"\s+(?=[,.;:?!)”])")


def verses(folder: Path, versification: str) -> Iterator[Verse]:
    """The verses that have text, in order, each on one line without markup, notes and titles."""
    for testament in ("ot", "nt"):
        entries = iter(_entries(folder, testament))
        _skip(entries, 2)
        for _, book, _, chapters in canons[versification][testament]:
            _skip(entries, 1)
            for chapter, length in enumerate(chapters, start=1):
                _skip(entries, 1)
                for verse in range(1, length + 1):
                    text = plain(next(entries))
                    if text:
                        yield book, chapter, verse, text
        if any(entries):
            raise ValueError(f"{folder}/{testament} holds more than the versification {versification}")


def plain(osis: str) -> str:
    """The words of a piece of OSIS markup."""
    text = TAG.sub(" ", INLINE.sub("", HIDDEN.sub(" ", osis)))
    return BEFORE_MARK.sub("", " ".join(text.replace("¶", " ").split()))


def _entries(folder: Path, testament: str) -> list[str]:
    index, places, packed = ((folder / f"{testament}.{ending}").read_bytes() for ending in ("bzs", "bzv", "bzz"))
    blocks = [zlib.decompress(packed[start : start + size]) for start, size, _ in struct.iter_unpack("<III", index)]
    return [
        blocks[block][start : start + size].decode() if size else ""
        for block, start, size in struct.iter_unpack("<IIH", places)
    ]


def _skip(entries: Iterator[str], count: int) -> None:
    for _ in range(count):
        next(entries)
