"""Mixtures of prepared tasks: rates are as asked, nothing is lost, prefixes stand in front of sources."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from tiny import encdec

from encdec_jax.data import pieces
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.corpus import verses
from encdec_jax.data.mixing import mix, shares, weights_of
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError

VOCAB = ByteVocab()
SIZES = {"small": 10, "large": 30}


def texts(task: str, split: str, feature: str) -> list[str]:
    cache = TokenCache.open(task, "bytes")
    tokens, offsets = cache.tokens(split, feature), cache.offsets(split, feature)
    return [cache.vocab.decode(tokens[a:b]) for a, b in itertools.pairwise(offsets)]


@pytest.fixture
def tasks(folders):
    for name, size in SIZES.items():
        rows = [(VOCAB.encode(f"{name} {k}"), VOCAB.encode(f"{k}")) for k in range(size)]
        write_cache(name, VOCAB, ("inputs", "targets"), {"train": rows, "validation": rows[:4]})
    return folders


@pytest.mark.parametrize(
    ("rates", "numbers"),
    [("proportional", (10, 30)), ("equal", (30, 30)), ("temperature=2", (17, 30)),
     ("1,1", (30, 30)),
     ("1,6", (10, 60)), ("3,1", (90, 30))],
)  # fmt: skip
def test_one_pass_has_the_rates_and_every_example(tasks, rates, numbers):
    mix("both", list(SIZES), rates, "bytes")
    found = Counter(texts("both", "train", "inputs"))
    for (name, size), number in zip(SIZES.items(), numbers, strict=True):
        counts = [found[f"{name}: {name} {k}"] for k in range(size)]
        assert sum(counts) == number
        assert min(counts) >= 1
        assert max(counts) - min(counts) <= 1
    assert sum(found.values()) == sum(numbers)
    held_out = texts("both", "validation", "inputs")
    assert sorted(held_out) == sorted(f"{name}: {name} {k}" for name in SIZES for k in range(4))
    pairs = zip(texts("both", "train", "inputs"), texts("both", "train", "targets"), strict=True)
    assert all(source.endswith(f" {target}") for source, target in pairs)


def test_shares_never_leave_an_example_out():
    assert shares([10, 30], [1, 1]) == [30, 30]
    assert shares([7, 1000], weights_of("temperature=4", [7, 1000])) == [289, 1000]


def test_texts_have_no_prefix_and_a_change_of_a_part_is_noticed(folders):
    for name in ("a", "b"):
        write_cache(name, VOCAB, ("targets",), {"train": [(VOCAB.encode(name),)]})
    mix("ab", ["a", "b"], "equal", "bytes")
    assert sorted(texts("ab", "train", "targets")) == ["a", "b"]
    write_cache("a", VOCAB, ("targets",), {"train": [(VOCAB.encode("other"),)]})
    with pytest.raises(UserError, match="first encdec prepare --task ab --mix a,b --rates equal"):
        TokenCache.open("ab", "bytes")


def test_known_tasks_have_their_prefixes(folders):
    for name in ("cmudict", "wordnet"):
        write_cache(name, VOCAB, ("inputs", "targets"), {"train": [(VOCAB.encode("cat"), VOCAB.encode("x"))]})
    mix("both", ["cmudict", "wordnet"], "equal", "bytes")
    assert sorted(texts("both", "train", "inputs")) == ["define: cat", "pronounce: cat"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("small", "equal"), "mix = 'small' is not accepted: at least two"),
        (("small,small", "equal"), "at least two different tasks"),
        (("small,both", "equal"), "a name of the mixture's own"),
        (("small,absent", "equal"), "first encdec prepare --task absent"),
        (("small,large", "1"), "rates = '1' is not accepted: 'proportional', 'equal'"),
        (("small,large", "1,0"), "rates = '1,0'"),
        (("small,large", "1,nan"), "rates = '1,nan'"),
        (("small,large", "temperature=0.5"), "rates = 'temperature=0.5'"),
        (("small,text", "equal"), "mix = 'text' is not accepted: tasks that all have inputs, targets, as small has"),
    ],
)
def test_mistakes_are_one_line(tasks, arguments, message):
    write_cache("text", VOCAB, ("targets",), {"train": [(VOCAB.encode("a"),)]})
    with pytest.raises(UserError, match=message) as caught:
        mix("both", arguments[0].split(","), arguments[1], "bytes")
    assert "\n" not in str(caught.value)


def test_pieces_of_two_texts_are_refused(folders):
    for name in ("kjv", "web"):
        made = pieces.train("spm330", 330, [verse.text for verse in verses(name)[:60]])
        write_cache(name, made, ("targets",), {"train": [(made.encode("the earth"),)]})
    with pytest.raises(UserError, match=r"mix = 'web' is not accepted: .* prepare web with --vocab .*vocab.model"):
        mix("both", ["kjv", "web"], "equal", "spm330")


def test_the_verb(tasks):
    done = encdec("prepare", "--task", "both", "--mix", "small,large", "--rates", "equal")
    assert done.returncode == 0
    assert "small: 30 of 10 examples, 50.0% of the mixture" in done.stdout
    for wrong in (["--mix", "small,large"], ["--task", "small", "--rates", "equal"]):
        assert encdec("prepare", *wrong).returncode == 2
