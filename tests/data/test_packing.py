from itertools import pairwise

import numpy as np
import pytest
from data.fake import FakeCache, pair_cache
from hypothesis import given, settings
from hypothesis import strategies as st

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.objective import START, Segments
from encdec_jax.data.objectives.seq2seq import Seq2Seq
from encdec_jax.data.packing import OPEN_ROWS, Pairs, assemble, pack
from encdec_jax.errors import UserError
from encdec_jax.model.arch import ARCHS

DATA = DataConfig(task="pairs", source_length=32, target_length=24)
lengths = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 15)), min_size=1, max_size=400)


@given(lengths, st.randoms())
@settings(max_examples=50, deadline=None)
def test_pack_places_every_pair_once_and_within_the_room(pairs, random):
    sources, targets = np.array(pairs).T
    order = np.array(random.sample(range(len(pairs)), len(pairs)))
    packing = pack(order, sources, targets, (20, 15))
    assert sorted(packing.pairs.tolist()) == list(range(len(pairs)))
    for first, last in pairwise(packing.first):
        assert first < last
        assert sources[packing.pairs[first:last]].sum() <= 20
        assert targets[packing.pairs[first:last]].sum() <= 15


def test_pack_is_first_fit_in_both_dimensions():
    sources, targets = np.array([6, 6, 4, 4, 1]), np.array([2, 2, 2, 9, 8])
    packing = pack(np.arange(5), sources, targets, (10, 10))
    # 2 joins 0; 3 has source room beside 1 but no target room; 4 fits row 1 (6 + 1, 2 + 8).
    assert packing.pairs.tolist() == [0, 2, 1, 4, 3]
    assert packing.first.tolist() == [0, 2, 4, 5]


def test_only_the_last_rows_stay_open():
    n = OPEN_ROWS + 444
    sources = np.array([9] * n + [1] * n)
    packing = pack(np.arange(2 * n), sources, np.ones(2 * n, int), (10, 10))
    assert len(packing.first) - 1 == n + 45  # of n short pairs 444 find no open row, and go into new ones by tens


def segments_of(pairs: list[tuple[list[int], list[int]]]) -> Segments:
    inputs = [[START, *target[:-1]] for _, target in pairs]
    return Segments(
        np.array([t for source, _ in pairs for t in source], np.int32),
        np.array([len(source) for source, _ in pairs]),
        np.array([t for target in inputs for t in target], np.int32),
        np.array([t for _, target in pairs for t in target], np.int32),
        np.array([len(target) for _, target in pairs]),
    )


def fields(stream, labels, weights, segment):
    """All that a model sees of one segment, apart from its number."""
    mine = stream.segment == segment
    seen = [stream.tokens[mine], stream.position[mine], stream.open[mine]]
    return [part.tolist() for part in [*seen, *([] if labels is None else [labels[mine], weights[mine]])]]


@pytest.mark.parametrize("arch", ARCHS)
def test_each_packed_segment_is_the_pair_alone(arch):
    choices, shape = ARCHS[arch], Seq2Seq().layout(ARCHS[arch], DATA)
    pairs = [([5, 6, 7], [8, 9]), ([10], [11, 12, 1]), ([13, 14], [15]), ([16, 17, 18, 19], [20, 1])]
    rows = np.array([0, 0, 0, 1])
    packed = assemble(choices, shape, rows, 3, segments_of(pairs))
    assert packed.labels.shape == (3, shape.scored)
    for i, (row, segment) in enumerate([(0, 1), (0, 2), (0, 3), (1, 1)]):
        alone = assemble(choices, shape, np.array([0]), 1, segments_of(pairs[i : i + 1]))
        for one, many in ((alone.source, packed.source), (alone.target, packed.target)):
            if one is None:
                assert many is None
                continue
            is_target = many is packed.target
            at = type(many)(*(field[row] for field in many))
            labels = (packed.labels[row], packed.weights[row]) if is_target else (None, None)
            expected = (alone.labels[0], alone.weights[0]) if is_target else (None, None)
            first = type(one)(*(field[0] for field in one))
            assert fields(at, *labels, segment) == fields(first, *expected, 1)
    assert packed.weights.sum() == sum(len(target) for _, target in pairs)
    assert not packed.target.segment[2].any()
    assert not packed.target.tokens[packed.target.segment == 0].any()
    assert not packed.target.open[packed.target.segment == 0].any()


@pytest.mark.parametrize("arch", ["enc_dec", "prefix_lm", "causal_lm"])
def test_positions_and_openness_of_one_pair(arch):
    choices, shape = ARCHS[arch], Seq2Seq().layout(ARCHS[arch], DATA)
    batch = assemble(choices, shape, np.array([0]), 1, segments_of([([5, 6, 7], [8, 9])]))
    if choices.own_stream:
        assert batch.source.position[0, :3].tolist() == [0, 1, 2]
        assert batch.source.open[0, :4].tolist() == [True, True, True, False]
        assert batch.target.tokens[0, :3].tolist() == [START, 8, 0]
        assert batch.target.position[0, :2].tolist() == [3, 4]
        assert batch.labels[0, :2].tolist() == [8, 9]
    else:
        assert batch.source is None
        assert batch.target.tokens[0, :6].tolist() == [5, 6, 7, START, 8, 0]
        assert batch.target.position[0, :5].tolist() == [0, 1, 2, 3, 4]
        assert batch.target.open[0, :5].tolist() == [choices.source_open] * 3 + [False] * 2
        assert batch.labels[0, :6].tolist() == [0, 0, 0, 8, 9, 0]
        assert batch.weights[0, :6].tolist() == [0, 0, 0, 1, 1, 0]


def test_pairs_that_fit_no_row_are_dropped_and_counted():
    cache = pair_cache(60, longest=14)
    pairs = Pairs(cache, "train", DataConfig(source_length=8, target_length=10))
    documents = cache.documents["train"]
    sizes = [(len(s), len(t)) for s, t in zip(documents["inputs"], documents["targets"], strict=True)]
    assert pairs.fitting.tolist() == [i for i, (s, t) in enumerate(sizes) if s <= 8 and t <= 10]
    assert pairs.dropped == 60 - len(pairs.fitting) > 0
    i, j = pairs.fitting[[2, 0]]
    inputs, targets = documents["inputs"], documents["targets"]
    segments = pairs.segments(np.array([i, j]))
    assert segments.source.tolist() == inputs[i] + inputs[j]
    assert segments.labels.tolist() == targets[i] + targets[j]
    assert segments.inputs.tolist() == [START, *targets[i][:-1], START, *targets[j][:-1]]


def test_no_pair_that_fits_is_the_users_mistake():
    cache = FakeCache({"train": {"inputs": [[5, 6, 7]], "targets": [[5, 6, 1]]}})
    with pytest.raises(UserError, match=r"data\.source_length"):
        Pairs(cache, "train", DataConfig(source_length=2))
