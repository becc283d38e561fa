"""The shipped text: complete, clean, split by book, with nothing of the held-out books in train."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from encdec_jax.data import corpus
from encdec_jax.data.corpus import FILES, SPLITS, TEST, VALIDATION, documents, split_of, verses
from encdec_jax.errors import UserError


@pytest.mark.parametrize(("translation", "count"), [("kjv", 31_102), ("web", 37_457), ("rv1909", 31_084)])
def test_every_verse_is_there_once_and_clean(translation, count):
    rows = verses(translation)
    assert len({row[:3] for row in rows}) == len(rows) == count
    assert not [row for row in rows if re.search(r"[<>¶\t\n]|  | [,.;:?!]|^ | $", row.text) or not row.text]


def test_verses_stand_at_their_keys():
    texts = {(t, *row[:3]): row.text for t in FILES for row in verses(t)}
    assert texts["kjv", "Gen", 1, 1] == "In the beginning God created the heaven and the earth."
    assert texts["web", "John", 11, 35] == "Jesus wept."
    assert texts["rv1909", "John", 11, 35] == "Y lloró Jesús."
    assert texts["kjv", "Rev", 22, 21].startswith("The grace of our Lord Jesus Christ")


def test_a_book_is_in_one_split_in_every_translation():
    books = {row.book for translation in FILES for row in verses(translation)}
    assert len(VALIDATION) == 10
    assert not set(VALIDATION) & set(TEST)
    assert books >= {*VALIDATION, *TEST}
    assert {split_of(book) for book in books} == set(SPLITS)


def test_the_splits_make_up_the_corpus():
    words = {split: sum(len(d["targets"].split()) for d in documents("bible_en", split)) for split in SPLITS}
    total = sum(len(row.text.split()) for translation in ("kjv", "web") for row in verses(translation))
    assert sum(words.values()) == total
    assert 780_000 < sum(len(d["targets"].encode()) for d in documents("bible_en", "validation")) < 820_000


def test_a_document_is_a_chapter():
    first = documents("bible_en", "train")[0]["targets"]
    assert first.startswith("In the beginning God created the heaven and the earth. And the earth was without form")
    assert first.endswith("And the evening and the morning were the sixth day.")


def test_pairs_are_of_one_verse():
    pairs = [pair for split in SPLITS for pair in documents("bible_en_es", split)]
    assert len(pairs) == 31_077
    lengths = [len(pair["inputs"]) / len(pair["targets"]) for pair in pairs]
    assert 1.0 < sum(lengths) / len(lengths) < 1.15
    assert {"inputs": "Jesus wept.", "targets": "Y lloró Jesús."} in pairs


def runs_of_words(text: str, length: int = 8) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]


def test_held_out_books_have_no_twin_in_train():
    train = {run for document in documents("bible_en", "train") for run in runs_of_words(document["targets"])}
    for book in (*VALIDATION, *TEST):
        text = " ".join(row.text for translation in ("kjv", "web") for row in verses(translation) if row.book == book)
        runs = runs_of_words(text)
        assert sum(run in train for run in runs) < 0.02 * len(runs), book


def test_a_missing_and_a_damaged_file_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "FOLDER", tmp_path)
    verses.cache_clear()
    with pytest.raises(UserError, match=r"can't read corpus file .*kjv.tsv.xz"):
        verses("kjv")
    (tmp_path / "kjv.tsv.xz").write_bytes(b"no xz")
    with pytest.raises(UserError, match=r"kjv.tsv.xz is damaged"):
        verses("kjv")


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="translation = 'asv'"):
        verses("asv")
    with pytest.raises(UserError, match="task = 'bible'"):
        documents("bible", "train")
    with pytest.raises(UserError, match="split = 'dev'"):
        documents("bible_en", "dev")


WITHOUT_TENSORFLOW = """
import sys
for name in ("tensorflow", "seqio", "tensorflow_datasets", "tensorflow_text"):
    sys.modules[name] = None
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.corpus import documents
from encdec_jax.data.origin import shipped
from encdec_jax.data.prepare import prepare
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.data import batches, corpus, geometry, heldout, objectives, packing, pieces, preview

vocab = ByteVocab()
splits = {"train": [(vocab.encode(d["targets"]),) for d in documents("bible_en", "test")]}
write_cache("bible_en", vocab, ("targets",), splits, shipped)
assert TokenCache.open("bible_en", "bytes").tokens("train", "targets").size > 400_000
prepare("bible_en")
prepare("bible_en_es")
"""


def test_without_tensorflow_everything_works(tmp_path):
    environment = {"ENCDEC_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("already prepared: ")
    assert last == f"prepared: {tmp_path / 'tokens/bible_en_es-bytes'}"
