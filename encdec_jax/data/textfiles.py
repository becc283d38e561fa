"""Documents of files: plain text, JSON lines, Parquet, and the folders that Hugging Face's `datasets` saves.

A file is read as a stream, never whole but for what one shard of a `datasets` folder holds.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import IO, Any, cast

import polars as pl
import zstandard

from encdec_jax.errors import UserError, require
from encdec_jax.files import expanded

ENDINGS = (".txt", ".jsonl", ".json", ".parquet")
PACKED = (".gz", ".zst")
DOCUMENT = 16_000  # characters from which on a .txt is cut, behind the end of a line, into several documents
_LONG = re.compile(rf"(?s).{{{DOCUMENT},{2 * DOCUMENT}}}?\s|.{{1,{2 * DOCUMENT}}}")  # parts of a line without an end
_ROWS = 4096  # of Parquet, at once

Row = tuple[str, ...]  # the text of each field


def files_of(pattern: str) -> list[Path]:
    """The files that a name, a pattern or a folder stands for, sorted; a `datasets` folder stands for its shards.

    Raises:
      UserError: none matches, or one has an ending that is not read.
    """
    path = expanded(pattern)
    if path.is_dir():
        saved = sorted(path.rglob("data-*.arrow"))
        found = saved or sorted(p for p in path.rglob("*") if p.is_file() and _ending(p) in ENDINGS)
        require(bool(found), "text", pattern, f"a folder with files of {_ACCEPTED}; it has none")
        return found
    found = sorted(p for p in map(Path, glob(str(path), recursive=True)) if p.is_file())
    require(
        bool(found),
        "text",
        pattern,
        f"a folder, file or pattern, as in 'data/*.jsonl.gz'; nothing matches from {os.getcwd()}",
    )
    for one in found:
        require(_ending(one) in (*ENDINGS, ".arrow"), "text", str(one), f"files of {_ACCEPTED}")
    return found


_ACCEPTED = ".txt, .jsonl (both also .gz or .zst) or .parquet, or what the library datasets saved"


def given_split(path: Path) -> str | None:
    """The split that a `datasets` folder gives one of its shards; None for any other file."""
    saved = path.suffix == ".arrow" and (path.parent.parent / "dataset_dict.json").exists()
    return path.parent.name if saved else None


def rows(path: Path, fields: tuple[str, ...]) -> Iterator[Row]:
    """The text of the fields, document by document. A .txt has no fields: all of it is text.

    Raises:
      UserError: the file is damaged or not UTF-8, or a document has no such field, or no text in it.
    """
    ending = _ending(path)
    try:
        if ending == ".txt":
            require(len(fields) == 1, "field", ",".join(fields), f"one, of text; {path} has no fields")
            yield from ((text,) for text in _texts(path))
        elif ending in (".jsonl", ".json"):
            yield from _objects(path, fields)
        else:
            yield from _table(path, fields)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0].lower()
        raise UserError(f"can't read {path}: {reason}") from error
    except pl.exceptions.PolarsError as error:
        raise UserError(f"can't read {path}: {str(error).splitlines()[0]}") from error


def _ending(path: Path) -> str:
    suffixes = [s for s in path.suffixes if s not in PACKED] if path.suffix in PACKED else path.suffixes
    return suffixes[-1] if suffixes else ""


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file, counted from 1, with their ends.

    Raises:
      UserError: one is no UTF-8.
    """
    with path.open("rb") as raw:
        packed: Any = raw
        if path.suffix == ".gz":
            packed = gzip.GzipFile(fileobj=raw)
        elif path.suffix == ".zst":
            packed = io.BufferedReader(_Zstandard(raw))
        for number, line in enumerate(cast("IO[bytes]", packed), start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                what = f"its byte {error.start} is {line[error.start]:#04x}, no UTF-8"
                raise UserError(f"line {number} of {path} is not accepted: {what}") from error


class _Zstandard(io.RawIOBase):
    """What a .zst unpacks to. The library's own reader takes a file that is cut off for one that ends."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._held = raw, memoryview(b"")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises EOFError where the last frame is not whole."""
        while not self._held:
            data = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._begun = zstandard.ZstdDecompressor().decompressobj(), False
            data = data or self._raw.read(1 << 17)
            if not data:
                if self._begun:
                    raise EOFError("the file ends before its last frame does")
                return 0
            self._begun = True
            self._held = memoryview(self._frame.decompress(data))
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size


def _texts(path: Path) -> Iterator[str]:
    part, held = [], 0
    for _, line in _lines(path):
        for piece in [line] if len(line) <= 2 * DOCUMENT else _LONG.findall(line):
            part.append(piece)
            held += len(piece)
            if held >= DOCUMENT:
                yield "".join(part)
                part, held = [], 0
    yield "".join(part)


def _objects(path: Path, fields: tuple[str, ...]) -> Iterator[Row]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = "; one object a line is read, as in JSON lines" if path.name.endswith(".json") else ""
            raise UserError(f"{where} is not accepted: no JSON ({error}){hint}") from error
        require(isinstance(found, dict), where, line.strip()[:40], "a JSON object, with named fields")
        yield _row(found, fields, where)


def _table(path: Path, fields: tuple[str, ...]) -> Iterator[Row]:
    frame = pl.scan_parquet(path) if path.suffix == ".parquet" else _arrow(path).lazy()
    schema = frame.collect_schema()
    for field in fields:
        require(field in schema, "field", field, f"one of those of {path}: {', '.join(schema)}")
        text = schema[field] in (pl.String, pl.Categorical)
        require(text, f"field {field!r} of {path}", str(schema[field]), "text")
    frame = frame.select(pl.col(field).cast(pl.String) for field in fields)
    first = 0
    while len(part := frame.slice(first, _ROWS).collect()):
        for number, row in enumerate(part.iter_rows(named=True), start=first + 1):
            yield _row(row, fields, f"row {number} of {path}")
        first += _ROWS


def _arrow(path: Path) -> pl.DataFrame:
    """One shard of a `datasets` folder: an Arrow stream, or a file of older versions."""
    data = path.read_bytes()
    return pl.read_ipc(data) if data.startswith(b"ARROW1") else pl.read_ipc_stream(data)


def _row(found: dict[str, Any], fields: tuple[str, ...], where: str) -> Row:
    for field in fields:
        require(field in found, "field", field, f"one of those of {where}: {', '.join(found)}")
        text = found[field]
        require(isinstance(text, str), f"field {field!r} in {where}", text, "text")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UserError(f"field {field!r} in {where} is not accepted: it holds half of a surrogate pair, no text")
    return tuple(found[field] for field in fields)
