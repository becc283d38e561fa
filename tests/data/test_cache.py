"""The token cache: what is written is read, damage is refused, and nothing half-written stays."""

from __future__ import annotations

import json
import resource

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encdec_jax.data.cache import TokenCache, cache_folder, digest_of, write_cache
from encdec_jax.data.origin import Origin, origin
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError

VOCAB = ByteVocab()


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path))
    return tmp_path


def written(text: str = "abc", source: Origin | None = None) -> TokenCache:
    splits = {"train": [(VOCAB.encode(text),), ([],)], "validation": [(VOCAB.encode("d"),)]}
    return write_cache("some", VOCAB, ("targets",), splits, lambda: source or {})


def names(root) -> list[str]:
    return sorted(path.name for path in (root / "tokens").iterdir())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.text("aé "), st.text("ñb")), min_size=1))
def test_round_trip(pairs):
    documents = [(VOCAB.encode(source), VOCAB.encode(target)) for source, target in pairs]
    write_cache("pairs", VOCAB, ("inputs", "targets"), {"train": documents})
    cache = TokenCache.open("pairs", "bytes")
    assert (cache.features, cache.splits) == (("inputs", "targets"), ("train",))
    for place, feature in enumerate(cache.features):
        tokens, offsets = cache.tokens("train", feature), cache.offsets("train", feature)
        assert (tokens.dtype, offsets.dtype, offsets[0], offsets[-1]) == (np.uint16, np.int64, 0, len(tokens))
        for document, first, last in zip(pairs, offsets[:-1], offsets[1:], strict=True):
            assert tokens[last - 1] == cache.vocab.eos_id
            assert cache.vocab.decode(tokens[first : last - 1]) == document[place]


def test_an_end_that_is_there_is_not_doubled():
    cache = write_cache("some", VOCAB, ("targets",), {"train": [([70, 71, 1],), ([70],)]})
    assert cache.tokens("train", "targets").tolist() == [70, 71, 1, 70, 1]


def test_large_vocabularies_take_int32(monkeypatch):
    monkeypatch.setattr(VOCAB, "size", 65536, raising=False)
    cache = write_cache("some", VOCAB, ("targets",), {"train": [([65535],)]})
    assert cache.tokens("train", "targets").dtype == np.int32
    assert cache.tokens("train", "targets").tolist() == [65535, 1]


def test_digest_follows_the_tokens_and_only_them():
    first = written().digest
    assert written(source=origin(None, {}, ["elsewhere"])).digest == first
    assert written("abd").digest != first


def test_a_missing_cache_says_how_to_make_it():
    with pytest.raises(UserError, match="encdec prepare --task other --vocab spm4096"):
        TokenCache.open("other", "spm4096")


@pytest.mark.parametrize(
    "file", ["train.targets.bin", "train.targets.offsets", "validation.targets.bin", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_refused_and_mended_by_writing_again(file, damage):
    folder = written().folder
    data = bytearray((folder / file).read_bytes())
    if damage == "gone":
        (folder / file).unlink()
    else:
        data[len(data) // 2] ^= 1
        (folder / file).write_bytes(data if damage == "flip" else data[:-1])
    with pytest.raises(UserError):
        TokenCache.open("some", "bytes")
    written()
    assert TokenCache.open("some", "bytes").offsets("train", "targets").tolist() == [0, 4, 5]


def test_any_other_change_of_the_manifest_is_refused():
    path = written().folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"dtype": "<u4"}))
    with pytest.raises(UserError, match=r"damaged \(manifest.json was changed\)"):
        TokenCache.open("some", "bytes")


@pytest.mark.parametrize(("document", "message"), [([259], "token id = 259"), ([-1], "token id = -1")])
def test_an_id_outside_the_vocabulary_leaves_nothing(root, document, message):
    with pytest.raises(UserError, match=message):
        write_cache("some", VOCAB, ("targets",), {"train": [([70],), (document,)]})
    assert names(root) == []


def test_an_empty_split_leaves_nothing(root):
    with pytest.raises(UserError, match="split 'train'"):
        write_cache("some", VOCAB, ("targets",), {"train": []})
    assert names(root) == []


def test_a_full_disk_leaves_what_was_there(root):
    before = written().digest
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match="can't write"):
            written("x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(root) == ["some-bytes"]
    assert TokenCache.open("some", "bytes").digest == before


def test_a_root_that_is_no_folder_is_the_users_mistake(root, monkeypatch):
    (root / "file").touch()
    monkeypatch.setenv("ENCDEC_CACHE", str(root / "file"))
    with pytest.raises(UserError, match="can't write"):
        written()
    assert (root / "file").read_bytes() == b""


def test_unknown_splits_and_features_are_named():
    cache = written()
    with pytest.raises(UserError, match="one of train, validation"):
        cache.tokens("dev", "targets")
    with pytest.raises(UserError, match="one of targets"):
        cache.offsets("train", "inputs")


def test_every_name_has_a_folder_of_its_own(root):
    """Names that differ in nothing but what a folder's name can't hold shared one, and with it their tokens."""
    names = ["a/b", "a_b", "a%2Fb", "a b", "a:b", "..", "~x", "a-bytes"]
    folders = {cache_folder(name, "bytes") for name in names}
    assert len(folders) == len(names)
    assert {folder.parent for folder in folders} == {root / "tokens"}
    for place, name in enumerate(names):
        write_cache(name, VOCAB, ("targets",), {"train": [([70 + place],)]})
    for place, name in enumerate(names):
        assert TokenCache.open(name, "bytes").tokens("train", "targets").tolist() == [70 + place, 1]


@pytest.mark.parametrize("document", [[70, 1, 71], [0, 70], [70, 2]])
def test_ids_that_stand_for_no_text_are_refused_with_their_example(root, document):
    with pytest.raises(UserError, match=r"token id = [012] in example 1 of split 'train' is not accepted"):
        write_cache("some", VOCAB, ("targets",), {"train": [([70],), (document,)]})
    assert names(root) == []


def test_the_digest_of_documents_is_that_of_their_cache(root):
    splits = {"train": [([70, 71],), ([72],)]}
    digest = digest_of("some", VOCAB, ("targets",), splits)
    assert names(root) == []
    assert digest == write_cache("some", VOCAB, ("targets",), splits).digest
