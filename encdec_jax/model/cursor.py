"""What is stacked along a stack's layers or sublayers, handed out by segment."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array


class Cursor:
    """Hands out, segment by segment, what a leading axis holds for each layer or sublayer."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {}

    def take(self, tree: Any, times: int, n: int, kind: str) -> list[Any] | None:
        """The next `times` x n rows of a tree as n trees with `times` rows; None of no tree."""
        if tree is None:
            return None
        start = self._at.get(kind, 0)
        self._at[kind] = start + times * n
        if n == 1 and start == 0 and all(leaf.shape[0] == times for leaf in jax.tree.leaves(tree)):
            return [tree]

        def part(leaf: Array, i: int) -> Array:
            return leaf[start : start + times * n].reshape(times, n, *leaf.shape[1:])[:, i]

        return [jax.tree.map(lambda leaf, i=i: part(leaf, i), tree) for i in range(n)]
