"""Patterns of attention: which keys a query sees, and beside each the number of pairs that is. No jax here.

Each formula is the other's test (tests/model/test_sees.py counts the pairs of the mask). A new pattern is a subclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from encdec_jax.model.streams import Array, Stream

Fused = Literal["full", "causal", "prefix"]


@dataclass(frozen=True)
class Sees:
    """Every key of the query's segment.

    Attributes:
      window: keys are seen up to `window - 1` positions away; 0 for no such limit.
      ahead: and so many positions farther behind the query than in front of it.
    """

    window: int = 0
    ahead: int = 0
    fused: ClassVar[Fused | None] = "full"  # what splash attention calls it
    halved: ClassVar[bool] = False  # whether it shows only pairs on and below the diagonal, but for a prefix
    ordered: ClassVar[bool] = False  # whether it shows only those, without exception

    @property
    def reach(self) -> int:
        """Positions, the query's own included, behind which it sees nothing in front of it; 0 for no such limit."""
        return self.window

    def mask(self, query: Stream, key: Stream) -> Array:
        """Which key each query may see: bool [batch, query length, key length]. Padding is seen by nobody."""
        shown = (query.segment[:, :, None] == key.segment[:, None, :]) & (key.segment[:, None, :] != 0)
        if not self.window:
            return shown
        away = key.position[:, None, :] - query.position[:, :, None]
        return shown & (away > -self.window) & (away < self.window + self.ahead)

    def within(self, opened: float, closed: float) -> float:
        """Pairs in one segment whose first `opened` tokens are open and whose others are not."""
        return _square(opened + closed, self.window, self.ahead)

    def across(self, queries: float, keys: float) -> float:
        """Pairs of a segment's queries with keys that stand in front of them."""
        w = self.window
        if not w:
            return queries * keys
        return _corner(w - 2) - _corner(w - 2 - keys) - _corner(w - 2 - queries) + _corner(w - 2 - keys - queries)


@dataclass(frozen=True)
class Full(Sees):
    """Every key of the query's segment."""


@dataclass(frozen=True)
class Causal(Sees):
    """The keys that are not behind the query."""

    fused: ClassVar[Fused | None] = "causal"
    halved: ClassVar[bool] = True
    ordered: ClassVar[bool] = True

    def mask(self, query: Stream, key: Stream) -> Array:
        """As `Sees.mask`."""
        return super().mask(query, key) & _ordered(query, key)

    def within(self, opened: float, closed: float) -> float:
        """As `Sees.within`."""
        return _triangle(opened, self.window) + self.across(closed, opened) + _triangle(closed, self.window)


@dataclass(frozen=True)
class Prefix(Sees):
    """The open keys, and those that are not behind the query."""

    fused: ClassVar[Fused | None] = "prefix"
    halved: ClassVar[bool] = True

    def mask(self, query: Stream, key: Stream) -> Array:
        """As `Sees.mask`."""
        return super().mask(query, key) & (key.open[:, None, :] | _ordered(query, key))

    def within(self, opened: float, closed: float) -> float:
        """As `Sees.within`."""
        return _square(opened, self.window, self.ahead) + self.across(closed, opened) + _triangle(closed, self.window)


@dataclass(frozen=True)
class Opened(Sees):
    """The open keys, and the query's own, so that a query in front of no source sees something."""

    fused: ClassVar[Fused | None] = None
    halved: ClassVar[bool] = True

    def mask(self, query: Stream, key: Stream) -> Array:
        """As `Sees.mask`."""
        self_ = query.position[:, :, None] == key.position[:, None, :]
        return super().mask(query, key) & (key.open[:, None, :] | self_)

    def within(self, opened: float, closed: float) -> float:
        """As `Sees.within`."""
        return _square(opened, self.window) + self.across(closed, opened) + closed


@dataclass(frozen=True)
class Block(Sees):
    """The keys of the query's block of `length` positions that are not behind it."""

    length: int = 1
    fused: ClassVar[Fused | None] = None
    halved: ClassVar[bool] = True
    ordered: ClassVar[bool] = True

    @property
    def reach(self) -> int:
        """As `Sees.reach`: what a block holds."""
        return min(self.length, self.window or self.length)

    def mask(self, query: Stream, key: Stream) -> Array:
        """As `Sees.mask`."""
        same = query.position[:, :, None] // self.length == key.position[:, None, :] // self.length
        return super().mask(query, key) & same & _ordered(query, key)

    def within(self, opened: float, closed: float) -> float:
        """As `Sees.within`, without a window."""
        whole, rest = divmod(opened + closed, self.length)
        return whole * _beyond(self.length) + _beyond(rest)

    def across(self, queries: float, keys: float) -> float:
        """As `Sees.across`, without a window: those of the block that the keys end in."""
        begun = keys % self.length
        return begun * min(queries, self.length - begun)


@dataclass(frozen=True)
class Earlier(Sees):
    """The keys of the blocks of `length` positions before the query's."""

    length: int = 1
    fused: ClassVar[Fused | None] = None
    halved: ClassVar[bool] = True
    ordered: ClassVar[bool] = True

    def mask(self, query: Stream, key: Stream) -> Array:
        """As `Sees.mask`."""
        before = query.position[:, :, None] // self.length > key.position[:, None, :] // self.length
        return super().mask(query, key) & before

    def within(self, opened: float, closed: float) -> float:
        """As `Sees.within`, without a window."""
        n = opened + closed
        return _beyond(n) - Block(length=self.length).within(opened, closed)

    def across(self, queries: float, keys: float) -> float:
        """As `Sees.across`, without a window."""
        return queries * keys - Block(length=self.length).across(queries, keys)


def fused(sees: Sees) -> Fused | None:
    """What splash attention calls the pattern; None where it does not know it."""
    return None if sees.window else sees.fused


def _ordered(query: Stream, key: Stream) -> Array:
    return query.position[:, :, None] >= key.position[:, None, :]


def _square(n: float, window: int, ahead: int = 0) -> float:
    """Pairs of n tokens whose key is less than `window` in front of the query, or less than `ahead` more behind it."""
    return n * n - (_beyond(n - window) + _beyond(n - window - ahead) if window else 0)


def _triangle(n: float, window: int) -> float:
    """Those of them on and below the diagonal."""
    return n * (n + 1) / 2 - (_beyond(n - window) if window else 0)


def _beyond(n: float) -> float:
    return n * (n + 1) / 2 if n > 0 else 0


def _corner(m: float) -> float:
    """Pairs of whole numbers, both at least 0, whose sum is at most m."""
    return (m + 1) * (m + 2) / 2 if m >= 0 else 0
