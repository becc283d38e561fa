"""Arrays in several files are read as one, and a cache in shards as one that is whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encdec_jax.data import writing
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.shards import Sharded
from encdec_jax.data.vocab import ByteVocab

VALUES = np.arange(100, 123)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder, starts = tmp_path_factory.mktemp("shards"), [0, 5, 6, 20, 23]
    paths = [folder / str(i) for i in range(4)]
    for path, begin, end in zip(paths, starts[:-1], starts[1:], strict=True):
        (VALUES[begin:end] - begin).astype("<u2").tofile(path)
    return Sharded(paths, starts, np.dtype("<u2"), starts[:-1])


@given(st.integers(-23, 22), st.slices(23).filter(lambda s: s.step in (None, 1)), st.lists(st.integers(0, 22)))
@settings(max_examples=100, deadline=None)
def test_every_way_of_reading_is_an_arrays(sharded, place, part, places):
    assert sharded[place] == VALUES[place]
    np.testing.assert_array_equal(sharded[part], VALUES[part])
    grid = np.array(places, int)[:, None] + np.zeros(2, int)
    np.testing.assert_array_equal(sharded[grid], VALUES[grid])
    np.testing.assert_array_equal(np.asarray(sharded), VALUES)
    assert (len(sharded), sharded.shape) == (23, (23,))
    with pytest.raises(IndexError):
        sharded[23]


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_a_cache_in_shards_reads_as_one(tmp_path, monkeypatch, most):
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.integers(3, 259, rng.integers(0, 6)) for _ in range(2)) for _ in range(30)]
    splits = {"train": pairs, "validation": pairs[:1]}
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path / "one"))
    one = write_cache("some", ByteVocab(), ("inputs", "targets"), splits)
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path / "many"))
    monkeypatch.setattr(writing, "SHARD", most)
    write_cache("some", ByteVocab(), ("inputs", "targets"), splits)
    many = TokenCache.open("some", "bytes")
    for split in splits:
        for feature in one.features:
            for array in ("tokens", "offsets"):
                whole, parts = (np.asarray(getattr(cache, array)(split, feature)) for cache in (one, many))
                np.testing.assert_array_equal(whole, parts)
    assert many.manifest["splits"] == one.manifest["splits"]
    shards = len(list(many.folder.glob("train.inputs.*.bin")))
    assert {1: shards == 30, 7: 1 < shards < 30, 1000: shards == 0}[most]  # one file is named for the whole
    assert (shards > 0) == (many.digest != one.digest)
