"""Splits by hash, and the leakage between them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encdec_jax.data.corpus import SPLITS
from encdec_jax.data.splits import RUN, SHARE, HashSplits, Leakage, place
from encdec_jax.errors import UserError

unit = st.floats(0, 1, exclude_max=True)


def test_shares_are_as_stated_and_new_documents_move_no_old_one():
    places = [place(str(n)) for n in range(20_000)]
    few, many = HashSplits(places[:1000], "text"), HashSplits(places, "text")
    assert [few(p) for p in places] == [many(p) for p in places]
    held_out = [many(p) for p in places]
    for split in ("validation", "test"):
        assert held_out.count(split) / len(places) == pytest.approx(SHARE, rel=0.1)


@given(st.lists(unit, unique=True, min_size=1, max_size=12))
def test_no_split_is_empty_or_it_is_said(places):
    beyond = sorted(p for p in places if p >= SHARE)
    try:
        split = HashSplits(places, "text")
    except UserError:
        assert len(places) < 3 or len(beyond) < 2 or beyond[-1] < 2 * SHARE
    else:
        assert {split(p) for p in places} == set(SPLITS)


def words(draw: random.Random, n: int) -> str:
    return " ".join(f"w{draw.randrange(10**6)}" for _ in range(n))


def test_leakage_is_the_share_of_runs_that_recur():
    draw = random.Random(0)
    held_out, train = [words(draw, 40) for _ in range(5)], [words(draw, 40) for _ in range(50)]
    assert Leakage(held_out).share(train) == 0
    assert Leakage(held_out).share([*train, held_out[0].upper() + "!"]) == pytest.approx(1 / 5)
    assert Leakage(held_out).share([*train, *held_out]) == 1
    half = " ".join(held_out[0].split()[:20])  # of 33 runs in a text, those that lie in its first 20 words
    assert Leakage(held_out).share([f"{words(draw, 9)} {half} {words(draw, 9)}"]) == pytest.approx(13 / 33 / 5)


def test_a_text_shorter_than_a_run_is_one():
    assert Leakage(["one two"]).share(["zero one two three", "one"]) == 0
    assert Leakage(["one two", "four"]).share(["One, two!", "three"]) == 0.5
    assert Leakage([""]).share(["x"]) == 0
    assert RUN > 2


def test_scripts_without_spaces_have_words_too():
    text = "春はあけぼのやうやう白くなりゆく山ぎは"
    assert Leakage([text]).share([f"清少納言{text[:12]}"]) == pytest.approx(5 / (len(text) - 7))
