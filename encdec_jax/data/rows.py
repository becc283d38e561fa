"""The rows that pairs are packed into: planned once for a split and its lengths, and kept with the cache.

    <folder of the tokens>/rows/<split>-<source>x<target>[-<long>][-joined]
        .json      how full the rows are, and the size and SHA-256 of the others
        .items     int64 [items, 3]: the pair, the part of it, and of how many (`encdec_jax.data.pairs.Items`)
        .first     int64 [rows + 1]: where each row's items start, and the end of the last

Every seed and architecture reads the same rows, shuffled. Rows that are joined have one room for both sides; only
architectures of one stream can take those.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from encdec_jax.data.bestfit import Packing, best_fit, next_fit
from encdec_jax.data.cache import TokenCache, cache_folder, manifest_of
from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.objective import Means
from encdec_jax.data.pairs import Pairs
from encdec_jax.data.stamps import damage, stamp
from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write, read_json, write_json

FORMAT = 1
BLOCK = 1 << 20  # pairs that are packed together
KINDS = 256


@dataclass(frozen=True)
class Fill:
    """What the planned rows of a split hold, in all.

    Attributes:
      rows: of them.
      room: tokens of source and of target in a row.
      items: pairs, or parts of them, in rows.
      tokens: of the items' sources, and of their targets.
      kinds: (source tokens, target tokens, number a row) of the items. Where there are more than `KINDS` kinds, two for
        each cell of like items, a standard deviation below and above their means: tokens and squares of tokens add up
        to what they were, and products nearly so.
      greedy: rows that seqio's greedy packing of the same items needs.
      pairs: of the split.
      longer: those with a side that is longer than its room.
      empty: those with an empty side, which are left out.
      left: pairs left out, empty ones among them.
      left_tokens: tokens of sources and of targets that are in no row.
    """

    rows: int
    room: tuple[int, int]
    items: int
    tokens: tuple[int, int]
    kinds: Means
    greedy: int
    pairs: int
    longer: int
    empty: int
    left: int
    left_tokens: tuple[int, int]

    def shares(self, rows: int | None = None) -> tuple[float, float]:
        """Tokens of sources and of targets as shares of the rooms for each, in these or so many `rows`."""
        n = self.rows if rows is None else rows
        return self.tokens[0] / (n * self.room[0]), self.tokens[1] / (n * self.room[1])


@dataclass(frozen=True)
class Rows:
    """The planned rows of a split.

    Attributes:
      items: int64 [items, 3], in memory or on disk.
      first: int64 [rows + 1].
      fill: what they hold.
    """

    items: np.ndarray
    first: np.ndarray
    fill: Fill

    def of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the items of the numbered rows begin, and where they end: int64 [n] each."""
        return np.asarray(self.first[numbers]), np.asarray(self.first[numbers + 1])


def planned(tokens: TokenCache, data: DataConfig) -> Rows:
    """The rows of `data.split`, as they were planned, or planned now and kept.

    Raises:
      UserError: the task has no pairs, or none fits.
    """
    pairs = Pairs(tokens, data.split, data)
    folder = tokens.folder / "rows" if tokens.folder else None
    if folder is not None and (found := _kept(folder, data, tokens.digest)) is not None:
        return found
    rows = plan(pairs, joined=data.packing == "joined")
    pairs.require_some(rows.fill.items)
    if folder is not None:
        _keep(rows, folder, data, tokens.digest)
    return rows


def plan(pairs: Pairs, joined: bool) -> Rows:
    """Plan rows, block by block of pairs.

    Args:
      pairs: of a split.
      joined: whether a row has one room for both sides.
    """
    items: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    lengths_in: list[np.ndarray] = []
    left = np.zeros(2, np.int64)
    greedy = longer = empty = whole = 0
    for begin in range(0, pairs.count, BLOCK):
        end = min(begin + BLOCK, pairs.count)
        lengths = np.stack(pairs.lengths(begin, end))
        longer += int((lengths > np.array(pairs.room)[:, None]).any(0).sum())
        empty += int((lengths == 0).any(0).sum())
        left += lengths.sum(1)
        found = pairs.items(begin, end)
        if not len(found.pairs):
            continue
        whole += len(np.unique(found.pairs))
        source, target = (last - first for first, last in pairs.spans(found))
        left -= source.sum(), target.sum()
        lengths_in.append(np.stack([source, target]))
        together = (source + target, np.ones_like(source), (sum(pairs.room),) * 2) if joined else None
        given = together or (source, target, pairs.room)
        packing: Packing = best_fit(*given)
        greedy += next_fit(*given)
        items.append(np.stack(found, axis=1)[packing.pairs])
        sizes.append(np.diff(packing.first))
    first = np.cumsum(np.concatenate([[0], *sizes]), dtype=np.int64)
    held = np.concatenate([np.zeros((2, 0), np.int64), *lengths_in], axis=1)
    fill = Fill(
        rows=len(first) - 1,
        room=pairs.room,
        items=held.shape[1],
        tokens=(int(held[0].sum()), int(held[1].sum())),
        kinds=tuple((s, t, n / (len(first) - 1)) for s, t, n in kinds(*held)),
        greedy=greedy,
        pairs=pairs.count,
        longer=longer,
        empty=empty,
        left=pairs.count - whole,
        left_tokens=(int(left[0]), int(left[1])),
    )
    return Rows(np.concatenate(items) if items else np.zeros((0, 3), np.int64), first, fill)


def kinds(source: np.ndarray, target: np.ndarray) -> list[tuple[float, float, float]]:
    """(source tokens, target tokens, number) of kinds of items, at most `KINDS`."""
    if not len(source):
        return []
    kinds, number = np.unique(np.stack([source, target], axis=1), axis=0, return_counts=True)
    if len(kinds) <= KINDS:
        return [(float(s), float(t), float(n)) for (s, t), n in zip(kinds.tolist(), number.tolist(), strict=True)]
    side = int((KINDS / 2) ** 0.5)
    found = []
    for part in np.array_split(np.argsort(source, kind="stable"), side):
        for cell in np.array_split(part[np.argsort(target[part], kind="stable")], side):
            s, t = source[cell], target[cell]
            spread = t.std() if np.cov(s, t)[0, 1] >= 0 else -t.std()
            for sign in (-1, 1):
                found.append((float(s.mean() + sign * s.std()), float(t.mean() + sign * spread), len(cell) / 2))
    return found


def segments(data: DataConfig) -> Means:
    """What a planned row of `data.split` holds in the mean: (source tokens, target tokens, number) of its segments.

    Raises:
      UserError: the tokens are not there, or as `planned`.
    """
    found = cache_folder(data.task, data.vocab) / "manifest.json"
    stamp = found.stat() if found.exists() else None
    only = DataConfig(
        task=data.task,
        vocab=data.vocab,
        split=data.split,
        source_length=data.source_length,
        target_length=data.target_length,
        long=data.long,
        packing=data.packing,
    )
    return _segments(only, None if stamp is None else (stamp.st_ino, stamp.st_mtime_ns, str(found)))


@cache
def _segments(data: DataConfig, stamp: object) -> Means:
    del stamp  # the tokens are looked at again when they have changed
    manifest = manifest_of(data.task, data.vocab)
    folder = cache_folder(data.task, data.vocab)
    fill = None if manifest is None else kept_fill(folder, data, manifest["digest"])
    return (fill or planned(TokenCache.open(data.task, data.vocab), data).fill).kinds


def told(fill: Fill, data: DataConfig) -> list[str]:
    """How full the rows are, and what became of long pairs, in sentences."""
    at = f"at data.source_length = {data.source_length}, data.target_length = {data.target_length}"

    def full(rows: int) -> str:
        if data.packing == "joined":
            return f"{sum(fill.tokens) / (rows * sum(fill.room)):.1%}"
        source, target = fill.shares(rows)
        return f"{source:.1%} of source, {target:.1%} of target"

    lines = [
        f"{fill.rows:,} rows {at}, filled to {full(fill.rows)}; by seqio's greedy packing {fill.greedy:,} rows,"
        f" filled to {full(fill.greedy)}"
    ]
    done = {"drop": "dropped", "truncate": "truncated", "split": "split"}[data.long]
    tokens = f"{fill.left_tokens[0]:,} source and {fill.left_tokens[1]:,} target tokens"
    kept = f"{fill.items:,} items in rows, {fill.left:,} pairs and {tokens} in none"
    lines.append(f"{fill.longer:,} of {fill.pairs:,} pairs are {done} {at}: {kept}")
    return lines


def kept_fill(folder: Path, data: DataConfig, digest: str) -> Fill | None:
    """What the rows hold that are kept with the tokens in `folder`; None if there are none, or of other tokens."""
    path = _path(folder / "rows", data, "json")
    found = read_json(path) if path.exists() else None
    if not isinstance(found, dict) or (found.get("format"), found.get("cache_digest")) != (FORMAT, digest):
        return None
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found["fill"].items()}
    return Fill(**values | {"kinds": tuple((s, t, n) for s, t, n in values["kinds"])})


def _kept(folder: Path, data: DataConfig, digest: str) -> Rows | None:
    fill = kept_fill(folder.parent, data, digest)
    if fill is None:
        return None
    if damage(folder, read_json(_path(folder, data, "json"))["files"]):
        return None  # planned again, the same
    items, first = (np.memmap(_path(folder, data, ending), "<i8", mode="r") for ending in ("items", "first"))
    return Rows(items.reshape(-1, 3), first, fill)


def _keep(rows: Rows, folder: Path, data: DataConfig, digest: str) -> None:
    """Write the rows, the numbers last. Where the tokens can't be written to, every use plans anew."""
    parts = {_path(folder, data, "items"): rows.items, _path(folder, data, "first"): rows.first}
    files = {}
    try:
        for path, part in parts.items():
            raw = part.astype("<i8").tobytes()
            atomic_write(path, raw)
            files[path.name] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        whole = {"format": FORMAT, "cache_digest": digest, "fill": asdict(rows.fill), "files": files}
        write_json(_path(folder, data, "json"), whole)
        stamp(folder, files)
    except (UserError, OSError):
        return


def _path(folder: Path, data: DataConfig, ending: str) -> Path:
    how = ("" if data.long == "drop" else f"-{data.long}") + ("-joined" if data.packing == "joined" else "")
    return folder / f"{quote(data.split, safe='')}-{data.source_length}x{data.target_length}{how}.{ending}"
