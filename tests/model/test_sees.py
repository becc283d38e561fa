"""A pattern's count of pairs is the number of pairs of its mask."""

from __future__ import annotations

import numpy as np
import pytest

from encdec_jax.model.period import segments
from encdec_jax.model.sees import Block, Causal, Earlier, Full, Opened, Prefix, Sees
from encdec_jax.model.streams import Stream, mask, opened

WINDOWS = (0, 1, 2, 3, 5, 20)
PATTERNS = [kind(window) for kind in (Full, Causal, Prefix) for window in WINDOWS] + [Opened()]
PATTERNS += [kind(window, ahead) for kind in (Full, Causal, Prefix) for window in (1, 3) for ahead in (1, 4)]
PATTERNS += [kind(length=length) for kind in (Block, Earlier) for length in (1, 2, 3, 4, 20)]


def rows(opened: int, closed: int, first: int = 0) -> Stream:
    n = opened + closed
    position = np.arange(first, first + n, dtype=np.int32)[None]
    return Stream(position, position, np.ones((1, n), np.int32), np.arange(n)[None] < opened)


@pytest.mark.parametrize("sees", PATTERNS, ids=str)
def test_pairs_are_those_of_the_mask(sees: Sees) -> None:
    for source, target in [(1, 1), (4, 3), (3, 7), (0, 5), (6, 0)]:
        whole = rows(source, target)
        assert sees.mask(whole, whole).sum() == sees.within(source, target)
        if source and target:
            before, behind = rows(source, 0), rows(0, target, source)
            assert sees.mask(behind, before).sum() == sees.across(target, source)


def test_without_a_window_they_are_the_one_formula() -> None:
    some, padding = rows(3, 4), rows(1, 1)._replace(segment=np.zeros((1, 2), np.int32))
    both = Stream(*(np.concatenate(pair, axis=1) for pair in zip(some, padding, strict=True)))
    closed = both._replace(open=np.zeros_like(both.open))
    np.testing.assert_array_equal(Prefix().mask(both, both), mask(both, both))
    np.testing.assert_array_equal(Causal().mask(both, both), mask(closed, closed))
    np.testing.assert_array_equal(Full().mask(both, both), mask(both, opened(both)))


def test_layers_are_written_as_what_repeats() -> None:
    def found(layers: str) -> list[tuple[str, int]]:
        return [("".join(one.period), one.times) for one in segments(list(layers))]  # type: ignore[arg-type]

    assert found("aaaa") == [("a", 4)]
    assert found("lllgllglllgllg") == [("lllgllg", 2)]
    assert found("llgllgllgl") == [("llg", 3), ("l", 1)]
    assert found("aaabbb") == [("a", 3), ("b", 3)]
    assert found("a") == [("a", 1)]
