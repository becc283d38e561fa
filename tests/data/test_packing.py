import numpy as np
import pytest

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.objective import START, Segments
from encdec_jax.data.objectives.seq2seq import Seq2Seq
from encdec_jax.data.packing import assemble
from encdec_jax.model.arch import ARCHS

DATA = DataConfig(task="pairs", source_length=32, target_length=24)


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
