import re

import numpy as np
import pytest
from data.fake import FakeCache, pair_cache, text_cache

from encdec_jax.data.config import DataConfig
from encdec_jax.data.heldout import eval_batch, further_sets
from encdec_jax.errors import UserError
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.arch import ARCHS

TEXT = text_cache()
EVALUATE = EvalConfig(prefix=10, suffix=6, windows=20)
every_arch = pytest.mark.parametrize("arch", ARCHS)


def expected() -> np.ndarray:
    tokens = TEXT.tokens("validation", "targets")
    first = np.arange(20) * (len(tokens) - 17) // 19
    return np.stack([tokens[i : i + 17] for i in first])


@every_arch
def test_prefix_is_read_and_suffix_scored(arch):
    batch, nbytes = eval_batch(TEXT, ARCHS[arch], DataConfig(), EVALUATE)
    windows = expected()
    np.testing.assert_array_equal(batch.labels, windows[:, 11:])
    np.testing.assert_array_equal(batch.weights, 1)
    np.testing.assert_array_equal(nbytes, (windows[:, 11:] != 1).sum(axis=1))  # the end of a document has no bytes
    assert nbytes.min() < 6
    streams = [batch.target] if batch.source is None else [batch.source, batch.target]
    assert (batch.source is None) != ARCHS[arch].own_stream
    tokens, position, segment, is_open = (np.concatenate(fields, axis=1) for fields in zip(*streams, strict=True))
    np.testing.assert_array_equal(tokens, windows[:, :-1])
    np.testing.assert_array_equal(position, np.tile(np.arange(16), (20, 1)))
    assert (segment == 1).all()
    np.testing.assert_array_equal(is_open, np.tile((np.arange(16) < 10) & ARCHS[arch].source_open, (20, 1)))


def test_windows_reach_both_ends_of_the_split_and_do_not_overlap():
    tokens = np.arange(3, 203)
    cache = FakeCache({"train": {"targets": [[5]]}, "validation": {"targets": [tokens.tolist()]}})
    batch, _ = eval_batch(cache, ARCHS["enc_dec"], DataConfig(), EvalConfig(prefix=10, suffix=6, windows=12))
    assert batch.source.tokens[0, 0] == tokens[0]
    assert batch.labels[-1, -1] == tokens[-1]
    assert np.diff(batch.source.tokens[:, 0]).min() >= 16


def test_one_window_too_many_is_the_users_mistake():
    most = (len(TEXT.tokens("validation", "targets")) - 1) // 16
    eval_batch(TEXT, ARCHS["enc_dec"], DataConfig(), EvalConfig(10, 6, most))
    with pytest.raises(UserError, match=f"evaluate.windows = {most + 1} is not accepted: at most {most}"):
        eval_batch(TEXT, ARCHS["enc_dec"], DataConfig(), EvalConfig(10, 6, most + 1))
    with pytest.raises(UserError, match=r"data\.eval_split = 'test'"):
        eval_batch(TEXT, ARCHS["enc_dec"], DataConfig(eval_split="test"), EVALUATE)


@every_arch
def test_pairs_are_scored_on_their_targets_alone(arch):
    cache, data = pair_cache(30, 9), DataConfig(source_length=12, target_length=11)
    batch, nbytes = eval_batch(cache, ARCHS[arch], data, EvalConfig(windows=10))
    documents = cache.documents["validation"]
    for row in range(10):
        source, target = documents["inputs"][row * 3], documents["targets"][row * 3]
        assert batch.labels[row][batch.weights[row] > 0].tolist() == target
        reader = batch.target if batch.source is None else batch.source
        assert reader.tokens[row, : len(source)].tolist() == source
        assert nbytes[row] == len(target) - 1
    with pytest.raises(UserError, match=r"evaluate\.windows = 31"):
        eval_batch(cache, ARCHS[arch], data, EvalConfig(windows=31))


def test_text_of_no_bytes_is_refused_before_it_is_scored():
    """Its rate was not a number, and the run 'diverged'."""
    ends = FakeCache({split: {"inputs": [[70, 1]] * 30, "targets": [[1]] * 30} for split in ("train", "validation")})
    with pytest.raises(
        UserError, match=r"data\.eval_split = 'validation' is not accepted: a split with text in what is"
    ):
        eval_batch(ends, ARCHS["enc_dec"], DataConfig(), EVALUATE)


@pytest.mark.parametrize("arch", ["enc_dec", "prefix_lm"])
def test_shorter_prefixes_have_the_same_suffixes(arch):
    evaluate = EvalConfig(10, 6, 8, prefixes=(4, 1), splits=("train",))
    batch, nbytes = eval_batch(TEXT, ARCHS[arch], DataConfig(), evaluate)
    sets = {name: (rows, size) for name, rows, size in further_sets(TEXT, ARCHS[arch], DataConfig(), evaluate)}
    assert list(sets) == ["validation/4", "validation/1", "train/10", "train/4", "train/1"]
    for name in ("validation/4", "validation/1"):
        rows, size = sets[name]
        np.testing.assert_array_equal(rows.labels, batch.labels)
        np.testing.assert_array_equal(size, nbytes)
        read, whole = ((b.target if b.source is None else b.source).tokens for b in (rows, batch))
        prefix = int(name.rpartition("/")[2])
        np.testing.assert_array_equal(read[:, :prefix], whole[:, 10 - prefix : 10])
        assert (rows.target.position.max(axis=1) == prefix + 5).all()
    assert not np.array_equal(sets["train/10"][0].labels, batch.labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefixes": (10,)}, r"evaluate.prefixes = (10,) is not accepted: tokens of at least 1 and less than"),
        ({"prefixes": (4, 4)}, "evaluate.prefixes = (4, 4) is not accepted"),
        ({"splits": ("test", "test")}, "evaluate.splits = ('test', 'test') is not accepted: each split once"),
        ({"splits": ("validation",)}, "evaluate.splits = ('validation',) is not accepted: other splits than"),
        ({"splits": ("test",)}, "data.eval_split = 'test' is not accepted: one of train, validation"),
    ],
)
def test_sets_that_are_not_accepted(changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        list(further_sets(TEXT, ARCHS["enc_dec"], DataConfig(), EvalConfig(10, 6, 8, **changes)))


def test_pairs_have_no_shorter_prefixes():
    evaluate = EvalConfig(windows=8, prefixes=(4,))
    with pytest.raises(UserError, match=r"evaluate\.prefixes = \(4,\) is not accepted: none, because"):
        list(further_sets(pair_cache(), ARCHS["enc_dec"], DataConfig(), evaluate))
