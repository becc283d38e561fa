"""Buckets: one of many creates, a stale tag is refused, what is fetched is whole. On servers of S3 and Azure here."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from encdec_jax import bucket as buckets
from encdec_jax.bucket import Bucket, bucket
from encdec_jax.cli.main import main
from encdec_jax.errors import UserError
from encdec_jax.files import bucket_url, cache_root, expanded
from encdec_jax.sweep.replica import prove


def test_of_many_who_create_one_does(place):
    store = bucket(place)
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda n: store.create("lease", str(n).encode()), range(16)))
    (winner,) = (n for n, tag in enumerate(won) if tag is not None)
    assert store.read("lease") == (str(winner).encode(), won[winner])


def test_of_many_who_replace_one_state_one_does_and_a_stale_tag_is_refused(place):
    store = bucket(place)
    first = store.create("lease", b"first")
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda n: store.replace("lease", str(n).encode(), first), range(16)))
    assert sum(tag is not None for tag in won) == 1
    assert store.replace("lease", b"late", first) is None
    store.remove(["lease"])
    assert store.replace("lease", b"late", first) is None
    assert store.read("lease") is None


def test_an_answer_that_was_lost_is_found_out(place):
    """A request is sent again when its answer does not come: the second is refused, though the first was not."""
    store = bucket(place)
    made = store.create("lease", b"mine")
    assert store.create("lease", b"mine") == made
    again = store.replace("lease", b"beat", made)
    assert store.replace("lease", b"beat", made) == again


def test_files_come_back_range_by_range_and_whole_or_not_at_all(place, tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "PART", 1000)
    raw = bytes(range(256)) * 20
    (tmp_path / "raw").write_bytes(raw)
    store, to = bucket(place), tmp_path / "got" / "raw"
    store.write("a%2Fb/raw", tmp_path / "raw")
    for size, digest in ((len(raw), "0" * 64), (len(raw) + 1, None)):
        with pytest.raises(OSError, match=r"raw is (damaged|shorter)"):
            store.fetch("a%2Fb/raw", to, size, digest)
        assert list(to.parent.iterdir()) == []
    store.fetch("a%2Fb/raw", to, len(raw), hashlib.sha256(raw).hexdigest())
    assert to.read_bytes() == raw
    store.write("a%2Fb/c/d", b"")
    assert {key: one.size for key, one in store.list("a%2Fb").items()} == {"a%2Fb/raw": len(raw), "a%2Fb/c/d": 0}
    assert list(store.beside("a%2Fb")) == ["a%2Fb/raw"]


def test_a_store_that_does_not_answer_is_one_line_without_keys(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(buckets, "PATIENCE", buckets.timedelta(seconds=0.1))
    with pytest.raises(OSError, match="can't read s3://") as refused:
        Bucket(s3).read("lease")
    assert len(str(refused.value).splitlines()) == 1
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "given", ["s3://", "gs:/name", "http://host/x", "s3://key:secret@name/x", "s3://name/x?sig=secret"]
)
def test_what_is_no_bucket_is_refused_without_its_keys(monkeypatch, given):
    monkeypatch.setenv("ENCDEC_CACHE", given)
    with pytest.raises(UserError, match="ENCDEC_CACHE") as refused:
        bucket_url("ENCDEC_CACHE")
    assert "secret" not in str(refused.value)


def test_copies_of_two_buckets_lie_apart_on_this_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = []
    for url in ("gs://one/cache/", "gs://one/other"):
        monkeypatch.setenv("ENCDEC_CACHE", url)
        found.append(cache_root())
    assert found[0] != found[1]
    assert all(path.is_relative_to(tmp_path) and ":" not in str(path) for path in found)


@pytest.mark.parametrize("url", ["s3://name/x", "gs://name/x", "az://name/x", "hdfs://name/x", "file:///x", "s3:/name"])
def test_no_path_is_a_url(url):
    with pytest.raises(UserError, match="is not accepted: a path on this machine"):
        expanded(url)


@pytest.mark.parametrize(
    "verb",
    [
        ("status", "URL"),
        ("run", "URL"),
        ("train", "configs/base.py:enc_dec", "--folder", "URL"),
        ("evaluate", "URL", "--task", "x"),
        ("prepare", "--text", "URL"),
        ("prepare", "--task", "bible_en", "--vocab", "URL/a.model"),
        ("fit", "URL/a.csv"),
        ("compare", "URL/a.csv", "URL/b.csv"),
        ("logs", "URL/run"),
        ("match", "--budget", "1e15", "--out", "URL"),
    ],
    ids=lambda verb: verb[0],
)
def test_no_verb_takes_a_url_for_a_folder(folders, capsys, verb):
    assert main([part.replace("URL", "gs://name/place") for part in verb]) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert "gs:/" in said.err
    assert not [path for path in folders.rglob("*") if path.name.startswith("gs")]


def test_what_is_not_there_is_removed_without_a_word(place):
    store = bucket(place)
    for name in ("a", "b", "c"):
        store.write(name, b"")
    store.remove(["none", "a", "nor this", "b"])
    assert list(store.list("")) == ["c"]


def test_conditional_writes_are_proven(place):
    prove(bucket(place))
    assert list(bucket(place).list("")) == []
