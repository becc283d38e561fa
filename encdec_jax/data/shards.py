"""Arrays in several files that are read as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np


class Sharded:
    """One array in files end to end. A file is opened when it is read, and then only the pages that are.

    Args:
      paths: of the files, in order.
      starts: where each file's values start in the whole, and the end of the last: [files + 1].
      dtype: of the values.
      base: what is added to each file's values, [files]; None for nothing.
      here: called with a file's path before it is opened; gives where it is.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        starts: Sequence[int],
        dtype: np.dtype,
        base: Sequence[int] | None = None,
        here: Callable[[Path], Path] = lambda path: path,
    ):
        self._here = here
        self._paths, self._starts = paths, np.asarray(starts, np.int64)
        self.dtype = np.dtype(dtype)
        self._base = None if base is None else np.asarray(base, np.int64)
        self._open: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def shape(self) -> tuple[int]:
        """Of one dimension."""
        return (len(self),)

    def __getitem__(self, key: Any) -> Any:
        """Values at a place, at an array of places, or in a slice of step 1, in memory."""
        if isinstance(key, slice):
            first, last, step = key.indices(len(self))
            assert step == 1
            return self._between(first, max(first, last))
        places = np.asarray(key, np.int64)
        places = np.where(places < 0, places + len(self), places)
        if places.size and not (places.min() >= 0 and places.max() < len(self)):
            raise IndexError(f"place {key} of {len(self)}")
        flat = places.reshape(-1)
        of = np.searchsorted(self._starts, flat, side="right") - 1
        found = np.empty(flat.shape, self.dtype)
        for file in np.unique(of).tolist():
            mine = of == file
            found[mine] = self._values(file, flat[mine] - self._starts[file])
        return found.reshape(places.shape)[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole, in memory."""
        return self._between(0, len(self)).astype(dtype or self.dtype, copy=False)

    def _between(self, first: int, last: int) -> np.ndarray:
        parts = [np.empty(0, self.dtype)]
        for file in range(len(self._paths)):
            begin, end = int(self._starts[file]), int(self._starts[file + 1])
            if begin < last and first < end:
                parts.append(self._values(file, slice(max(first, begin) - begin, min(last, end) - begin)))
        return np.concatenate(parts)

    def _values(self, file: int, places: np.ndarray | slice) -> np.ndarray:
        if file not in self._open:
            self._open[file] = np.memmap(self._here(self._paths[file]), self.dtype, mode="r")
        found = np.asarray(self._open[file][places])
        return found if self._base is None else found + self._base[file]


Values = np.ndarray | Sharded  # one dimension, on disk or in memory; what is asked of it is in memory
