"""Rows of pairs: planned once, kept with the cache, and what they hold counted."""

from dataclasses import replace

import numpy as np
import pytest
from data.fake import FakeCache, pair_cache
from support import model_config

from encdec_jax.config import RunConfig
from encdec_jax.data.batches import Batches
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.objectives.objective import START
from encdec_jax.data.pairs import Items, Pairs, dropped
from encdec_jax.data.rows import KINDS, kept_fill, planned, told
from encdec_jax.data.rows import kinds as kinds_of
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.train.config import TrainConfig

CACHE = pair_cache(60, longest=14)
DOCUMENTS = CACHE.documents["train"]
SIZES = [(len(s), len(t)) for s, t in zip(DOCUMENTS["inputs"], DOCUMENTS["targets"], strict=True)]
DATA = DataConfig(source_length=8, target_length=10)


def texts(data: DataConfig) -> list[tuple[int, int, list[int], list[int]]]:
    """(pair, part, source, target) of every item of the planned rows, by pair and part."""
    pairs, rows = Pairs(CACHE, "train", data), planned(CACHE, data)
    found = []
    for row in rows.items:
        segments = pairs.segments(Items(*row[:, None]))
        found.append((int(row[0]), int(row[1]), segments.source.tolist(), segments.labels.tolist()))
    return sorted(found)


def test_pairs_that_fit_no_row_are_dropped_and_counted():
    pairs, fill = Pairs(CACHE, "train", DATA), planned(CACHE, DATA).fill
    fits = [i for i, (s, t) in enumerate(SIZES) if s <= 8 and t <= 10]
    assert pairs.fitting().tolist() == fits == [pair for pair, _, _, _ in texts(DATA)]
    assert fill.longer == fill.left == 60 - len(fits) > 0
    assert dropped(CACHE, "train", DATA) == pytest.approx(fill.left / 60)
    assert fill.left_tokens == tuple(sum(SIZES[i][side] for i in set(range(60)) - set(fits)) for side in (0, 1))
    i, j = fits[2], fits[0]
    inputs, targets = DOCUMENTS["inputs"], DOCUMENTS["targets"]
    segments = pairs.whole(np.array([i, j]))
    assert segments.source.tolist() == inputs[i] + inputs[j]
    assert segments.labels.tolist() == targets[i] + targets[j]
    assert segments.inputs.tolist() == [START, *targets[i][:-1], START, *targets[j][:-1]]


def test_long_pairs_are_truncated_as_asked():
    data = replace(DATA, long="truncate")
    expected = [(i, 0, DOCUMENTS["inputs"][i][:8], DOCUMENTS["targets"][i][:10]) for i in range(60)]
    assert texts(data) == expected
    fill = planned(CACHE, data).fill
    assert (fill.left, fill.items) == (0, 60)
    assert fill.left_tokens == tuple(sum(max(0, s[side] - room) for s in SIZES) for side, room in enumerate((8, 10)))


def test_long_pairs_are_split_into_parts_that_lose_nothing():
    data = replace(DATA, long="split", source_length=4, target_length=5)
    found, fill = texts(data), planned(CACHE, data).fill
    assert all(0 < len(source) <= 4 and 0 < len(target) <= 5 for _, _, source, target in found)
    whole = {}
    for pair, part, source, target in found:
        before = whole.setdefault(pair, ([], [], []))
        assert part == len(before[2])
        for side, more in zip(before, (source, target, [part]), strict=True):
            side.extend(more)
    for pair, (source, target, parts) in whole.items():
        assert (source, target) == (DOCUMENTS["inputs"][pair], DOCUMENTS["targets"][pair])
        assert len(parts) == max(-(-SIZES[pair][0] // 4), -(-SIZES[pair][1] // 5))
    out = set(range(60)) - set(whole)  # a side has fewer tokens than the other has parts
    assert all(min(SIZES[i]) < max(-(-SIZES[i][0] // 4), -(-SIZES[i][1] // 5)) for i in out)
    assert (fill.left, fill.items) == (len(out), len(found))
    assert fill.left > 0
    assert fill.left_tokens == tuple(sum(SIZES[i][side] for i in out) for side in (0, 1))


@pytest.mark.parametrize("long", ["drop", "truncate", "split"])
@pytest.mark.parametrize("packing", ["apart", "joined"])
def test_what_rows_hold_is_what_is_counted(long, packing):
    data = replace(DATA, long=long, packing=packing, source_length=16, target_length=12)
    rows, pairs = planned(CACHE, data), Pairs(CACHE, "train", data)
    fill, both = rows.fill, []
    for number in range(fill.rows):
        (begin,), (end,) = rows.of(np.array([number]))
        segments = pairs.segments(Items(*rows.items[begin:end].T))
        s, t = segments.source_lengths, segments.target_lengths
        if packing == "apart":
            assert s.sum() <= 16
            assert t.sum() <= 12
        assert s.sum() + t.sum() <= 28
        both += list(zip(s.tolist(), t.tolist(), strict=True))
    assert fill.items == len(both)
    assert fill.tokens == tuple(map(sum, zip(*both, strict=True)))
    assert sorted((s, t) for s, t, n in fill.kinds for _ in range(round(n * fill.rows))) == sorted(both)
    assert fill.shares() == (fill.tokens[0] / (fill.rows * 16), fill.tokens[1] / (fill.rows * 12))
    assert fill.rows < fill.greedy


def test_joined_rows_are_fuller():
    apart, joined = (
        planned(CACHE, DataConfig(source_length=20, target_length=20, packing=p)).fill for p in ("apart", "joined")
    )
    assert apart.tokens == joined.tokens
    assert joined.rows < apart.rows


def test_no_pair_that_fits_is_the_users_mistake():
    cache = FakeCache({"train": {"inputs": [[5, 6, 7]], "targets": [[5, 6, 1]]}})
    with pytest.raises(UserError, match=r"data\.source_length"):
        planned(cache, DataConfig(source_length=2))
    with pytest.raises(UserError, match=r"data\.source_length"):
        Pairs(cache, "train", DataConfig(source_length=2)).fitting()


def test_blocks_of_pairs_are_packed_one_after_the_other(monkeypatch):
    data = DataConfig(source_length=20, target_length=20)
    monkeypatch.setattr("encdec_jax.data.rows.BLOCK", 25)
    rows = planned(CACHE, data)
    assert sorted(rows.items[:, 0].tolist()) == list(range(60))
    assert sorted(rows.items[:25, 0].tolist()) == list(range(25))
    assert (np.diff(rows.first) > 0).all()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path))
    split = list(zip(DOCUMENTS["inputs"], DOCUMENTS["targets"], strict=True))
    return write_cache("pairs", ByteVocab(), ("inputs", "targets"), {"train": split})


def test_a_plan_is_kept_with_the_cache_and_read_again(cache, monkeypatch):
    data = DataConfig("pairs", source_length=20, target_length=20)
    assert kept_fill(cache.folder, data, cache.digest) is None
    made = planned(cache, data)
    assert kept_fill(cache.folder, data, cache.digest) == made.fill
    monkeypatch.setattr("encdec_jax.data.rows.best_fit", None)
    again = planned(TokenCache.open("pairs", "bytes"), data)
    assert again.fill == made.fill
    assert np.array_equal(again.items, made.items)
    assert np.array_equal(again.first, made.first)
    assert kept_fill(cache.folder, replace(data, long="split"), cache.digest) is None
    assert kept_fill(cache.folder, data, "another") is None


@pytest.mark.parametrize("ending", ["items", "first"])
def test_a_damaged_plan_is_made_again(cache, ending):
    data = DataConfig("pairs", source_length=20, target_length=20)
    made = planned(cache, data)
    (path,) = (cache.folder / "rows").glob(f"*.{ending}")
    path.write_bytes(path.read_bytes()[:-8])
    again = planned(cache, data)
    assert np.array_equal(again.items, made.items)
    assert np.array_equal(again.first, made.first)


def test_what_is_told_names_fill_greedy_and_what_is_left_out():
    fill = planned(CACHE, DATA).fill
    first, second = told(fill, DATA)
    assert f"{fill.rows} rows at data.source_length = 8, data.target_length = 10" in first
    assert f"seqio's greedy packing {fill.greedy} rows" in first
    assert f"filled to {fill.tokens[0] / fill.rows / 8:.1%} of source, {fill.tokens[1] / fill.rows / 10:.1%}" in first
    joined = replace(DATA, packing="joined")
    fill = planned(CACHE, joined).fill
    assert f"filled to {sum(fill.tokens) / fill.rows / 18:.1%};" in told(fill, joined)[0]
    assert f"{fill.longer} of 60 pairs are dropped" in second
    assert "truncated" in told(fill, replace(DATA, long="truncate"))[1]


def test_joined_rows_are_for_architectures_of_one_stream():
    data, objective = replace(DATA, packing="joined"), ObjectiveConfig("seq2seq")
    RunConfig(model_config("causal_lm"), data, objective)
    with pytest.raises(UserError, match=r"data\.packing = 'joined' is not accepted: 'apart'"):
        RunConfig(model_config("enc_dec"), data, objective)


def test_a_model_reads_joined_rows_whole():
    data = DataConfig(source_length=20, target_length=20, packing="joined")
    run = RunConfig(model_config("prefix_lm"), data, ObjectiveConfig("seq2seq"), train=TrainConfig(batch_size=4))
    batches = Batches(CACHE, run)
    steps = range(-(-batches.epoch // 4))
    seen = sum(int((batches(step).target.segment > 0).sum()) for step in steps)
    raw = np.concatenate([batches.windows(step) for step in steps])
    assert seen == (raw > 0).sum() >= sum(batches.fill.tokens)
    assert batches.epoch == batches.fill.rows


def test_many_kinds_of_lengths_are_told_by_few():
    """Sums of tokens and of their squares are kept, and those of products nearly."""
    rng = np.random.default_rng(0)
    source = rng.gamma(4, 30, 20_000).astype(int) + 1
    target = (source * rng.uniform(0.7, 1.4, 20_000)).astype(int) + 1
    kinds = np.array(kinds_of(source, target))
    assert len(kinds) <= KINDS
    s, t, n = kinds.T
    assert (n @ s, n @ t, n.sum()) == pytest.approx((source.sum(), target.sum(), 20_000))
    for ours, theirs in ((s * s, source * source), (s * t, source * target), (t * t, target * target)):
        assert n @ ours == pytest.approx(theirs.sum(), rel=1e-3)
