"""Caches are written shard by shard: what was killed goes on, two at once do not meet, and memory stays small."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from encdec_jax.data import tokenising, writing
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.named_vocab import Lossy
from encdec_jax.data.origin import Origin, origin
from encdec_jax.data.prepare import prepare
from encdec_jax.data.tokenising import tokenised
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError

REPOSITORY = Path(__file__).parents[2]
SHIPPED = {"bible_en_es": "096b35ad9e07581732ea50d66daa7704ed6a1155f9e04a9be9c3ab342450d641"}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path))
    return tmp_path


def names(root) -> list[str]:
    return sorted(path.name for path in (root / "tokens").iterdir())


@pytest.mark.slow
def test_the_shipped_texts_keep_their_digests():
    """Rows of studies name them."""
    (digest,) = pl.read_parquet(REPOSITORY / "experiments/quickstart/results.parquet")["cache_digest"].unique()
    for task, known in {**SHIPPED, "bible_en": digest}.items():
        prepare(task)
        assert TokenCache.open(task, "bytes").digest == known


class Documents:
    """Forty documents; notes which are read."""

    def __init__(self, read: list[int], fatal: int | None = None) -> None:
        self.read, self.fatal = read, fatal

    def after(self, number: int):
        for place in range(number, 40):
            if place == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            self.read.append(place)
            yield (np.full(9, 70 + place),)


def made(read: list[int], fatal: int | None = None, text: str = "text", tally: object = None) -> TokenCache:
    splits = {"first": Documents(read), "second": Documents(read, fatal)}
    return write_cache("some", ByteVocab(), ("targets",), splits, lambda: of(text), tally)


def of(text: str) -> Origin:
    return {**origin(None, {}, []), "text": text}


@pytest.fixture
def killed(root, monkeypatch):
    """A process was killed when it was at document 25 of the second split; shards have 5 documents."""
    monkeypatch.setattr(writing, "SHARD", 50)
    code = "from data import test_writing; test_writing.writing.SHARD = 50; test_writing.made([], 27)"
    path = os.pathsep.join([str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == -signal.SIGKILL
    assert names(root) == [".some-bytes.making"]


def test_a_killed_process_is_gone_on_with(killed, root, capsys):
    read: list[int] = []
    cache = made(read)
    assert read == list(range(25, 40))
    assert "going on behind 65 documents" in capsys.readouterr().out
    assert names(root) == ["some-bytes"]
    assert sorted(path.name for path in cache.folder.iterdir())[:2] == ["checked.json", "first.targets.00000.bin"]
    read.clear()
    digest = cache.digest
    (root / "tokens" / "some-bytes").rename(root / "tokens" / "other")
    assert made(read).digest == digest
    assert len(read) == 80


@pytest.mark.parametrize("other", ["origin", "damage", "progress"])
def test_what_is_of_another_text_or_damaged_is_begun_anew(killed, root, other):
    hidden = root / "tokens" / ".some-bytes.making"
    if other == "damage":
        (hidden / "first.targets.00003.bin").write_bytes(b"x" * 100)
    elif other == "progress":
        (hidden / "progress.json").write_text("{")
    read: list[int] = []
    cache = made(read, text="other" if other == "origin" else "text")
    assert len(read) == 80
    assert names(root) == ["some-bytes"]
    assert np.asarray(cache.tokens("first", "targets"))[[0, 10]].tolist() == [70, 71]


def test_a_mistake_leaves_nothing_of_what_was_killed(killed, root):
    with pytest.raises(UserError, match="split 'third'"):
        write_cache("some", ByteVocab(), ("targets",), {"third": []}, lambda: of("text"))
    assert names(root) == []


def test_what_was_counted_goes_on_too(root, monkeypatch):
    monkeypatch.setattr(writing, "SHARD", 50)
    tally = SimpleNamespace(seen=0)

    class Interrupted(Documents):
        def after(self, number: int):
            for document in super().after(number):
                tally.seen += 1
                if tally.seen == 12 and number == 0:
                    raise KeyboardInterrupt
                yield document

    splits = {"train": Interrupted([])}
    for _ in range(2):
        try:
            write_cache("some", ByteVocab(), ("targets",), splits, lambda: of("text"), tally)
        except KeyboardInterrupt:
            tally = SimpleNamespace(seen=0)
    assert tally.seen == 40
    assert names(root) == ["some-bytes"]


def test_two_processes_do_not_make_the_same_twice(root, capsys):
    """The second waits for the first, and takes what that made."""
    (root / "tokens").mkdir()
    hidden = root / "tokens" / ".some-bytes.making"
    code = (
        "import fcntl, pathlib, sys, time; p = pathlib.Path(sys.argv[1]); p.mkdir(); f = (p / 'lock').open('w');"
        "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(hidden)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        asked: list[bool] = []

        def done() -> bool:
            asked.append(True)
            return False

        def documents():
            yield (np.array([70]),)

        threading.Timer(0.5, other.stdin.close).start()
        write_cache("some", ByteVocab(), ("targets",), {"train": documents()}, done=done)
    assert asked == [True]
    assert "waiting for another process" in capsys.readouterr().out
    assert names(root) == ["some-bytes"]


def test_hidden_folders_that_nobody_holds_do_not_stay_for_ever(root):
    for name, age in (("old", 8), ("new", 1)):
        (root / "tokens" / f".{name}.making").mkdir(parents=True)
        then = time.time() - age * 86400
        os.utime(root / "tokens" / f".{name}.making", (then, then))
    write_cache("some", ByteVocab(), ("targets",), {"train": [(np.array([70]),)]})
    assert names(root) == [".new.making", "some-bytes"]


def test_several_processes_tokenise_as_one(monkeypatch):
    texts = [(f"text {i} é", "b" * (i % 7)) for i in range(300)]
    alone = [tuple(map(list, row)) for row in tokenised(texts, ByteVocab(), 0, "train", Lossy())]
    monkeypatch.setattr(tokenising, "BLOCK", 100)
    monkeypatch.setattr(tokenising, "ALONE", 2)
    monkeypatch.setattr(tokenising, "available", lambda: [0, 1])
    together = [tuple(map(list, row)) for row in tokenised(texts, ByteVocab(), 0, "train", Lossy())]
    assert together == alone


LARGE = """
import resource, sys
import numpy as np
from encdec_jax.data import writing
from encdec_jax.data.cache import write_cache
from encdec_jax.data.vocab import ByteVocab
resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
def documents():
    for number in range(550):
        yield (np.full(1 << 20, 70 + number % 9, np.uint8),)
writing.SHARD = 1 << 26
cache = write_cache("large", ByteVocab(), ("targets",), {"train": documents()})
(most,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(cache.tokens("train", "targets")), most)
"""


@pytest.mark.slow
def test_a_corpus_larger_than_memory_is_written(root):
    """1.15 GB of tokens by a process that may have 1 GB."""
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    tokens, most = map(int, done.stdout.split())
    assert tokens == 550 * ((1 << 20) + 1)
    assert most * 1024 < 400 << 20


HUGE = """
import json, os
import numpy as np
from support import model_config
from encdec_jax.config import RunConfig
from encdec_jax.data import stamps
from encdec_jax.data.batches import Batches
from encdec_jax.data.cache import FORMAT, TokenCache, _digest, cache_folder
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.train.config import TrainConfig

folder = cache_folder("huge", "bytes")
folder.mkdir(parents=True)
shards, tokens = 100, 500_000_000
files = {}
for number in range(shards):
    for ending, size in (("bin", 2 * tokens), ("offsets", 16)):
        path = folder / f"train.targets.{number:05}.{ending}"
        path.touch()
        os.truncate(path, size)
        files[path.name] = {"bytes": size, "sha256": "0" * 64}
manifest = {
    "format": FORMAT, "task": "huge", "vocab": "bytes", "vocab_size": 259, "dtype": "<u2", "features": ["targets"],
    "splits": {"train": {"documents": shards, "tokens": {"targets": shards * tokens}}}, "files": files, "source": {},
}
(folder / "manifest.json").write_text(json.dumps(manifest | {"digest": _digest(manifest)}))
stamps.stamp(folder, files)

def read():
    (most,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(open("/proc/self/io").read().split()[1]), int(most)

run = RunConfig(model_config("causal_lm"), DataConfig("huge", length=1024), train=TrainConfig(batch_size=8))
before = read()
batches = Batches(TokenCache.open("huge", "bytes"), run)
batches(10**6)
batches.digests(batches.epoch // 8 * 3 + 1)
print(batches.epoch, *(b - a for a, b in zip(before, read())))
"""


def test_opening_100_gigabytes_reads_next_to_nothing(root):
    """Sparse files: hashing or reading them would show in the bytes read, or in memory."""
    path = os.pathsep.join([str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", HUGE], capture_output=True, text=True, check=True, env=env)
    windows, nbytes, kilobytes = map(int, done.stdout.split())
    assert windows == (100 * 500_000_000 - 1) // 1024
    assert nbytes < 5 << 20
    assert kilobytes < 50 << 10
