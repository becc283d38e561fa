"""Which pairs share a row: best fit in two dimensions, and the greedy packing that it is compared with."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np

LOOKS = (
    64  # source lengths that are looked at for the next pair of a row; more gain under 0.5 % of a row and take longer
)
RENEW = 256  # rows after which the bound on target lengths is computed again


class Packing(NamedTuple):
    """Which pairs share a row.

    Attributes:
      pairs: int64, pairs' numbers, row after row.
      first: int64 [rows + 1]; row r holds pairs[first[r]:first[r + 1]].
    """

    pairs: np.ndarray
    first: np.ndarray


def best_fit(sources: np.ndarray, targets: np.ndarray, room: tuple[int, int]) -> Packing:
    """Fill rows one by one, each from the largest pair that is left.

    The next pair of a row is the one of the greatest product with the room that is left, (source, target) as shares of
    a whole row's: of those that fit, the one that fills most, and more so on the side that is emptier. It is found by
    bit sets of the lengths that are left, so a row costs as little among a million pairs as among a thousand. The
    result is a function of the lengths and their order alone.

    Args:
      sources, targets: int [n], tokens of each pair, at least one and at most the room's.
      room: tokens of source and of target in a row.
    """
    of_source, of_target = room
    width = of_target + 1
    sizes = sources.astype(np.int64) * width + targets
    order = np.argsort(sizes, kind="stable")
    kinds, begin, number = np.unique(sizes[order], return_index=True, return_counts=True)
    following, left = (dict(zip(kinds.tolist(), values.tolist(), strict=True)) for values in (begin, number))
    has = [0] * (of_source + 1)  # by length of source, the set of the lengths of target that are left
    for kind in kinds.tolist():
        has[kind // width] |= 1 << kind % width
    lengths = sum(1 << length for length, targets_left in enumerate(has) if targets_left)
    largest = np.lexsort((kinds, kinds // width * of_target + kinds % width * of_source))[::-1]
    places: list[int] = []
    first = [0]
    longest: list[int] = []  # by length of source, the longest target left of sources up to it
    renew = 0
    for start in kinds[largest].tolist():
        while left[start]:
            if not renew:
                longest, renew = list(accumulate((targets_left.bit_length() - 1 for targets_left in has), max)), RENEW
            renew -= 1
            a, b, kind, row = of_source, of_target, start, []
            while kind >= 0:
                row.append(kind)
                left[kind] -= 1
                source, target = divmod(kind, width)
                if not left[kind]:
                    has[source] ^= 1 << target
                    lengths ^= (not has[source]) << source
                a, b = a - source, b - target
                worth, best, kind, looks = (a / of_source**2, b / of_target**2), -1.0, -1, LOOKS
                within, fits = lengths & ((1 << a + 1) - 1), (1 << b + 1) - 1
                while within and (looks > 0 or kind < 0):
                    source = within.bit_length() - 1
                    if source * worth[0] + min(b, longest[source]) * worth[1] <= best:
                        break
                    target = (has[source] & fits).bit_length() - 1
                    if target >= 0 and (product := source * worth[0] + target * worth[1]) > best:
                        best, kind = product, source * width + target
                    within ^= 1 << source
                    looks -= 1
            # As long as none of its kinds is used up, the next row would be the same.
            uses = {kind: row.count(kind) for kind in row}
            again = min(left[kind] // n for kind, n in uses.items())
            for kind, n in uses.items():
                left[kind] -= n * again
                if again and not left[kind]:
                    source, target = divmod(kind, width)
                    has[source] ^= 1 << target
                    lengths ^= (not has[source]) << source
            for _ in range(1 + again):
                for kind in row:
                    places.append(following[kind])
                    following[kind] += 1
                first.append(len(places))
    return Packing(order[np.array(places, np.int64)], np.array(first, np.int64))


def next_fit(sources: np.ndarray, targets: np.ndarray, room: tuple[int, int]) -> int:
    """Rows that seqio's greedy packing needs: each pair joins the row before it, or starts the next.

    That is `seqio.trim_and_pack_dataset` as it is by default. Arguments as `best_fit`.
    """
    rows, a, b = 0, 0, 0
    for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
        if source > a or target > b:
            rows, (a, b) = rows + 1, room
        a, b = a - source, b - target
    return rows
