"""Files of a user as a task: every kind is read alike, and each kind of bad input is one line."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard

from encdec_jax.data.cache import TokenCache
from encdec_jax.data.corpus import SPLITS
from encdec_jax.data.plain import default_name
from encdec_jax.data.prepare import prepare
from encdec_jax.data.textfiles import DOCUMENT
from encdec_jax.errors import UserError

TEXTS = [f"Document {n} is about {n * n} things, ñ and 日本.\n" * (1 + n % 3) for n in range(120)]
LINES = "".join(json.dumps({"id": n, "text": text, "title": text[:12]}) + "\n" for n, text in enumerate(TEXTS))
SHARDS = (TEXTS[:70], TEXTS[70:])


@pytest.fixture(autouse=True)
def here(folders):
    (folders / "data").mkdir()
    return folders


def write_txt(folder: Path) -> None:
    for n, text in enumerate(TEXTS):
        (folder / f"{n:03}.txt").write_text(text)


def write_arrow(folder: Path) -> None:
    """As the library `datasets` saves a dataset without splits: shards of an Arrow stream, and what describes them."""
    for n, shard in enumerate(SHARDS):
        pl.DataFrame({"text": shard}).write_ipc_stream(folder / f"data-{n:05}-of-00002.arrow")
    (folder / "state.json").write_text("{}")


WRITERS = {
    "txt": write_txt,
    "jsonl": lambda folder: (folder / "a.jsonl").write_text(LINES),
    "jsonl.gz": lambda folder: (folder / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode())),
    "jsonl.zst": lambda folder: (folder / "a.jsonl.zst").write_bytes(
        b"".join(zstandard.compress(part.encode()) for part in (LINES[:999], LINES[999:]))
    ),
    "parquet": lambda folder: pl.DataFrame({"text": TEXTS}).write_parquet(folder / "a.parquet"),
    "arrow": write_arrow,
}


def stored(task: str, split: str, feature: str = "targets") -> list[str]:
    cache = TokenCache.open(task, "bytes")
    tokens, offsets = cache.tokens(split, feature), cache.offsets(split, feature)
    return [cache.vocab.decode(tokens[a:b]) for a, b in itertools.pairwise(offsets)]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_the_same_task(here, kind):
    WRITERS[kind](here / "data")
    prepare(None, text="data")
    found = {split: stored("data", split) for split in SPLITS}
    assert sorted(itertools.chain(*found.values())) == sorted(TEXTS)
    (here / "other").mkdir()
    (here / "other/b.jsonl").write_text("".join(reversed(LINES.splitlines(keepends=True))))
    prepare(None, text="other/*.jsonl")
    assert {split: sorted(stored("other", split)) for split in SPLITS} == {s: sorted(found[s]) for s in SPLITS}


def test_the_splits_of_a_datasets_folder_stand(here, capsys):
    for split, shard in zip(("train", "test"), SHARDS, strict=True):
        (here / "data" / split).mkdir()
        pl.DataFrame({"body": shard}).write_ipc_stream(here / "data" / split / "data-00000-of-00001.arrow")
    (here / "data/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    prepare("saved", text="data", field="body")
    assert (stored("saved", "train"), stored("saved", "test")) == SHARDS
    assert "splits: as the folder has them" in capsys.readouterr().out


def test_pairs_are_split_by_their_source(here, capsys):
    rows = [{"en": f"word {n // 2}", "de": f"Wort {n}"} for n in range(400)] + [{"en": " ", "de": "leer"}] * 3
    (here / "data/p.jsonl").write_text("".join(map("{}\n".format, map(json.dumps, rows))))
    prepare("pairs", text="data/p.jsonl", field="en,de")
    sources = {split: set(stored("pairs", split, "inputs")) for split in SPLITS}
    assert sum(map(len, sources.values())) == 200
    assert len(stored("pairs", "train", "targets")) == 2 * len(sources["train"])
    out = capsys.readouterr().out
    assert "400 documents of 1 file; splits: 5% each in validation and test, by the hash of the source" in out
    assert "documents without text, left out: 3" in out


@pytest.mark.parametrize("end", ["\r\n", " ", "木"])
def test_a_long_text_is_cut_behind_lines_or_words_and_nothing_is_lost(here, end):
    line = "All work and no play makes {} a dull boy." + end
    line = line if end.isspace() else line.replace(" ", end)
    whole = "".join(line.format(n) for n in range(30 * DOCUMENT // len(line)))
    (here / "play.txt").write_bytes(whole.encode())
    prepare(None, text="play.txt")
    found = list(itertools.chain(*(stored("play", split) for split in SPLITS)))
    assert sum(map(len, found)) == len(whole)
    assert all(part in whole and part.endswith(end) for part in found if end.isspace())
    assert max(map(len, found)) <= 2 * DOCUMENT


def test_what_is_done_is_known_by_files_and_field(here, capsys):
    WRITERS["jsonl"](here / "data")

    def told(**options: object) -> str:
        prepare(None, text="data/*.jsonl", **options)
        return capsys.readouterr().out

    assert "prepared: " in told()
    assert told().startswith("already prepared: ")
    assert "task data: 120 documents" in told(field="title")
    assert "task data: 120 documents" in told()
    assert told(check=True).splitlines()[-1].startswith("checked: ")
    shutil.copy(here / "data/a.jsonl", here / "data/b.jsonl")
    with pytest.raises(UserError, match=r"first encdec prepare --task data --text .*/data/\*.jsonl --field text"):
        TokenCache.open("data", "bytes")
    assert "task data: 240 documents" in told()


def test_leakage_is_printed(here, capsys):
    common = "the quick brown fox jumps over the lazy dog "  # nine words: two runs of eight
    (here / "data/a.jsonl").write_text("".join(json.dumps({"text": common + f"x{n}"}) + "\n" for n in range(100)))
    prepare(None, text="data")
    assert "validation: 66.7% of the runs of 8 words in targets stand in train too" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "data", "field", "message"),
    [
        ("a.csv", b"a,b", "text", "text = 'data' is not accepted: a folder with files of .txt"),
        ("a.jsonl", LINES, "body", "field = 'body' is not accepted: one of those of line 1 of .*: id, text, title"),
        ("a.jsonl", LINES, "id", "field 'id' in line 1 of .*a.jsonl = 0 is not accepted: text"),
        ("a.jsonl", LINES + "{", "text", "line 121 of .*a.jsonl is not accepted: no JSON"),
        ("a.jsonl", "[1]", "text", r"line 1 of .*a.jsonl = '\[1\]' is not accepted: a JSON object"),
        ("a.jsonl", '{"text": "\\ud800"}', "text", "half of a surrogate pair"),
        ("a.jsonl", b"", "text", "text = 'data' is not accepted: files with text in them"),
        ("a.jsonl", LINES, "a,b,c", "field = 'a,b,c' is not accepted: one name, or two"),
        ("a.txt", b"caf\xe9", "text", "line 1 of .*a.txt is not accepted: its byte 3 is 0xe9, no UTF-8"),
        ("a.txt", b" \n", "text", "files with text in them"),
        ("a.txt", b"one", "text", "text 'data' has too few documents for train, validation and test"),
        ("a.txt", b"one", "en,de", "field = 'en,de' is not accepted: one, of text"),
        ("a.jsonl.gz", gzip.compress(LINES.encode())[:-40], "text", "can't read .*a.jsonl.gz: compressed file ended"),
        ("a.jsonl.gz", LINES, "text", "can't read .*a.jsonl.gz: not a gzipped file"),
        ("a.jsonl.zst", zstandard.compress(LINES.encode())[:-40], "text", "can't read .*zst: the file ends before"),
        ("a.jsonl.zst", LINES, "text", "can't read .*a.jsonl.zst"),
        ("a.parquet", LINES, "text", "can't read .*a.parquet"),
    ],
)
def test_each_kind_of_bad_input_is_one_line(here, name, data, field, message):
    (here / "data" / name).write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(UserError, match=message) as caught:
        prepare(None, text="data", field=field)
    assert "\n" not in str(caught.value)
    assert list((here / "cache").rglob("*.bin")) == []


def test_what_can_be_mistaken_is_refused_before_files_are_read(here):
    with pytest.raises(UserError, match=r"text = 'data/\*.gz' is not accepted: .*nothing matches"):
        prepare(None, text="data/*.gz")
    with pytest.raises(UserError, match="task = None"):
        prepare(None)
    with pytest.raises(UserError, match="no shipped or fetched task has"):
        prepare("bible_en", text="data")
    with pytest.raises(UserError, match="module = 'm'"):
        prepare(None, text="data", module="m")


def test_a_tables_field_must_be_text(here):
    pl.DataFrame({"text": TEXTS, "n": np.arange(len(TEXTS))}).write_parquet(here / "data/a.parquet")
    with pytest.raises(UserError, match=r"field 'n' of .*a.parquet = 'Int64' is not accepted: text"):
        prepare(None, text="data", field="n")
    with pytest.raises(UserError, match=r"field = 'body' is not accepted: one of those of .*a.parquet: text, n"):
        prepare(None, text="data", field="body")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("data/*.jsonl.gz", "data"),
        ("a/wiki.en.txt", "wiki"),
        ("data/", "data"),
        ("d/**/*.txt", "d"),
        ("/x/my data", "my_data"),
    ],
)
def test_a_task_is_named_by_its_files(pattern, name):
    assert default_name(pattern) == name
