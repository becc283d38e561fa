"""Tokens in a bucket: prepared once, copied as far as they are read, believed by their hashes. By moto's S3 server."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tiny import encdec, write_noise

from encdec_jax.bucket import bucket
from encdec_jax.data import writing
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.files import cache_root

TEXTS = np.random.default_rng(0).integers(100, 126, (20, 50))


@pytest.fixture
def cache(s3, monkeypatch):
    """Tokens in five shards of a split, and another split; gives the bucket's URL."""
    monkeypatch.setenv("ENCDEC_CACHE", s3)
    monkeypatch.setattr(writing, "SHARD", 200)
    write_cache("some", ByteVocab(), ("targets",), {"train": [(row,) for row in TEXTS], "validation": [(TEXTS[0],)]})
    return s3


def another_machine() -> None:
    shutil.rmtree(cache_root())


def copied() -> list[str]:
    return sorted(path.name for path in cache_root().rglob("*.bin"))


def test_another_machine_copies_what_it_reads(cache):
    here = TokenCache.open("some", "bytes")
    whole = np.asarray(here.tokens("train", "targets"))
    another_machine()
    there = TokenCache.open("some", "bytes")
    assert there.digest == here.digest
    assert copied() == []
    tokens = there.tokens("train", "targets")
    assert tokens[205:210].tolist() == whole[205:210].tolist()
    assert copied() == ["train.targets.00001.bin"]
    np.testing.assert_array_equal(np.asarray(tokens), whole)
    assert there.offsets("train", "targets")[:].tolist() == list(range(0, 1021, 51))
    assert len(copied()) == 5


def test_a_copy_is_read_again_without_the_bucket_only_by_its_stamps(cache):
    another_machine()
    first = np.asarray(TokenCache.open("some", "bytes").tokens("train", "targets"))
    (damaged,) = cache_root().rglob("train.targets.00002.bin")
    damaged.write_bytes(bytes(len(damaged.read_bytes())))
    assert np.asarray(TokenCache.open("some", "bytes").tokens("train", "targets")).tolist() == first.tolist()


def test_what_the_bucket_lacks_is_said_before_anything_is_spent(cache):
    store = bucket(cache)
    another_machine()
    (key,) = (key for key in store.list("tokens/some-bytes/files") if key.endswith("train.targets.00003.bin"))
    raw = store.read(key)[0]
    store.write(key, raw[:-2])
    with pytest.raises(UserError, match=r"00003.bin has .* bytes in s3://.*encdec prepare --task some"):
        TokenCache.open("some", "bytes")
    store.write(key, bytes(len(raw)))
    tokens = TokenCache.open("some", "bytes").tokens("train", "targets")
    assert len(tokens[:100]) == 100
    with pytest.raises(UserError, match=r"00003.bin is damaged: it has another SHA-256"):
        tokens[650:]
    store.remove([key])
    with pytest.raises(UserError, match=r"00003.bin is missing in s3://"):
        TokenCache.open("some", "bytes")


def test_who_reads_the_tokens_of_before_goes_on_when_others_are_made(cache):
    another_machine()
    before = TokenCache.open("some", "bytes")
    expected = np.concatenate([[*row, 1] for row in TEXTS]).astype(np.uint16)
    assert before.tokens("train", "targets")[:9].tolist() == expected[:9].tolist()
    kept = cache_root().rename(cache_root().with_name("kept"))
    write_cache("some", ByteVocab(), ("targets",), {"train": [(row + 1,) for row in TEXTS]})
    another_machine()
    kept.rename(cache_root())
    np.testing.assert_array_equal(np.asarray(before.tokens("train", "targets")), expected)
    another_machine()
    after = np.asarray(TokenCache.open("some", "bytes").tokens("train", "targets"))
    np.testing.assert_array_equal(after, np.where(expected == 1, 1, expected + 1))


def test_a_cache_counts_only_with_its_manifest(s3, monkeypatch):
    """`prepare` that dies on the way leaves no tokens, and the next goes on."""
    monkeypatch.setenv("ENCDEC_CACHE", s3)
    store = bucket(s3)
    write, splits = store.write, {"train": [(row,) for row in TEXTS]}

    def dies(key, data):
        if key.endswith("manifest.json"):
            raise OSError("the bucket refuses")
        write(key, data)

    monkeypatch.setattr(store, "write", dies)
    with pytest.raises(UserError, match="the bucket refuses"):
        write_cache("some", ByteVocab(), ("targets",), splits)
    with pytest.raises(UserError, match="has no tokens"):
        TokenCache.open("some", "bytes")
    monkeypatch.setattr(store, "write", write)
    assert write_cache("some", ByteVocab(), ("targets",), splits).splits == ("train",)


@pytest.mark.slow
def test_prepared_here_and_read_on_another_machine(s3, folders, monkeypatch):
    """The vocabulary's model travels too."""
    monkeypatch.setenv("ENCDEC_CACHE", s3)
    lines = (json.dumps({"text": f"a line of {n} words and more of them"}) for n in range(400))
    (folders / "some.jsonl").write_text("\n".join(lines))
    made = encdec("prepare", "--text", "some.jsonl", "--task", "mine", "--vocab", "spm300")
    assert made.returncode == 0, made.stderr
    again = encdec("prepare", "--text", "some.jsonl", "--task", "mine", "--vocab", "spm300")
    assert "already prepared" in again.stdout, again.stderr
    another_machine()
    seen = encdec("preview", "--task", "mine", "--vocab", "spm300", "--arch", "causal_lm", "--objective", "causal_lm")
    assert seen.returncode == 0, seen.stderr
    assert (cache_root() / "tokens" / "mine-spm300" / "vocab.model").exists()
    assert not (folders / "s3:").exists()
    for path in folders.rglob("*.json"):
        assert "secret" not in path.read_text()


@pytest.mark.slow
def test_training_reads_a_bucket(s3, folders, monkeypatch):
    from tiny import tiny_run

    from encdec_jax.train.loop import train

    write_noise()
    here = train(tiny_run(updates=5), folders / "here")
    monkeypatch.setenv("ENCDEC_CACHE", s3)
    write_noise()
    another_machine()
    there = train(tiny_run(updates=5), folders / "there")
    assert there["suffix_bits_per_byte"] == here["suffix_bits_per_byte"]
    assert there["data_hash"] == here["data_hash"]
