"""The token cache: each split's documents, tokenised once, as memory-mapped arrays under a manifest of hashes.

    <cache root>/tokens/<task>-<vocab>/
        manifest.json                    what is here, the SHA-256 of every file, and what it was made from
        <split>.<feature>.bin            token ids of all documents, one after the other
        <split>.<feature>.offsets        int64 [documents + 1]: where each one starts, and the end of the last
        vocab.model                      the vocabulary's model, where there is one
        checked.json                     which files were hashed (`encdec_jax.data.stamps`)
        rows/                            how pairs are packed (`encdec_jax.data.rows`)

A split of more than `encdec_jax.data.writing.SHARD` tokens is in shards, <split>.<feature>.00000.bin and so on, each
of whole documents with offsets of its own. Every document ends with one end-of-document token, which its offsets
include.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np

from encdec_jax.data import corpus
from encdec_jax.data.hidden import LOCK
from encdec_jax.data.origin import Origin, changed, shipped
from encdec_jax.data.remote import lacking, present, refresh, upload
from encdec_jax.data.shards import Sharded, Values
from encdec_jax.data.stamps import stamp
from encdec_jax.data.vocab import Vocab
from encdec_jax.data.vocab_file import MODEL_FILE, vocab_in
from encdec_jax.data.writing import PROGRESS, Making, Splits, making, thrown_away
from encdec_jax.errors import UserError, require
from encdec_jax.files import cache_root, read_json, write_json

FORMAT = 1


def cache_folder(task: str, vocab: str) -> Path:
    """Where the tokens of a task in a vocabulary are, or would be; a bucket's manifest is copied there, once."""
    folder = cache_root() / "tokens" / f"{quote(task, safe='')}-{quote(vocab, safe='')}"  # no two tasks in one
    _refreshed(folder)
    return folder


@functools.cache
def _refreshed(folder: Path) -> None:
    refresh(folder)


def manifest_of(task: str, vocab: str) -> dict[str, Any] | None:
    """The manifest of the tokens of a task in a vocabulary, which are not looked at; None if there is none."""
    path = cache_folder(task, vocab) / "manifest.json"
    found = read_json(path) if path.exists() else None
    return found if isinstance(found, dict) and "digest" in found else None


class TokenCache:
    """A verified cache, open for reading.

    Attributes:
      folder: where it is.
      manifest: what it holds.
      digest: SHA-256 of all that decides the data: names, counts and the hash of every file.
      features: ('targets',) or ('inputs', 'targets').
      splits: names of its splits.
      vocab: the vocabulary that its ids are of.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.digest: str = manifest["digest"]
        self.features: tuple[str, ...] = tuple(manifest["features"])
        self.splits: tuple[str, ...] = tuple(manifest["splits"])
        self.vocab: Vocab = vocab_in(folder, manifest["vocab"])

    @classmethod
    def open(cls, task: str, vocab: str) -> TokenCache:
        """The cache of a task in a vocabulary, its files checked by the manifest, its origin by what is there.

        Files are hashed at their first use (`encdec_jax.data.stamps`); after that no token is read.

        Raises:
          UserError: there is none, it is damaged, or what it was made from has changed.
        """
        folder = cache_folder(task, vocab)
        refresh(folder)
        if not (folder / "manifest.json").exists():
            raise UserError(f"data.task = {task!r} has no tokens in {folder}: first {_command(task, vocab)}")
        manifest = read_json(folder / "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("digest") != _digest(manifest):
            raise _damaged(folder, "manifest.json was changed", task, vocab)
        if (manifest["format"], manifest["task"], manifest["vocab"]) != (FORMAT, task, vocab):
            raise _damaged(folder, "manifest.json is of another task, vocabulary or version", task, vocab)
        try:
            wrong = lacking(folder, manifest["files"])
            if MODEL_FILE in manifest["files"]:
                present(folder / MODEL_FILE, manifest["files"])
        except OSError as error:
            raise UserError(f"can't read {folder}: {error.strerror or error}") from error
        if wrong is not None:
            raise _damaged(folder, wrong, task, vocab)
        what = _changed(task, manifest["source"])
        if what is not None:
            again = _command(task, vocab, manifest["source"])
            raise UserError(f"data.task = {task!r}: {what} since its tokens were made: first {again}")
        return cls(folder, manifest)

    def tokens(self, split: str, feature: str) -> Values:
        """Token ids of a split, documents end to end: uint16 or int32 [tokens].

        Raises:
          UserError: the cache has no such split or feature.
        """
        dtype, paths = np.dtype(self.manifest["dtype"]), self._paths(split, feature, "bin")
        return self._opened(paths, self._starts(paths, dtype), dtype)

    def offsets(self, split: str, feature: str) -> Values:
        """Where each document starts, and the end of the last: int64 [documents + 1].

        Raises:
          UserError: the cache has no such split or feature.
        """
        dtype, paths = np.dtype("<i8"), self._paths(split, feature, "offsets")
        starts = self._starts(paths, dtype)
        ends = [start - place for place, start in enumerate(starts)]  # each file holds the end of its last document too
        ends[-1] += 1
        of_tokens = self._paths(split, feature, "bin")
        return self._opened(paths, ends, dtype, self._starts(of_tokens, np.dtype(self.manifest["dtype"]))[:-1])

    def _opened(self, paths: list[Path], starts: list[int], dtype: np.dtype, base: list[int] | None = None) -> Values:
        here = functools.partial(present, files=self.manifest["files"])
        if len(paths) == 1:
            return np.memmap(here(paths[0]), dtype, mode="r")
        return Sharded(paths, starts, dtype, base, here)

    def _paths(self, split: str, feature: str, ending: str) -> list[Path]:
        require(split in self.splits, "split", split, "one of " + ", ".join(self.splits))
        require(feature in self.features, "feature", feature, "one of " + ", ".join(self.features))
        return [self.folder / name for name in names(split, feature, ending, self.manifest["files"])]

    def _starts(self, paths: list[Path], dtype: np.dtype) -> list[int]:
        sizes = (self.manifest["files"][path.name]["bytes"] // dtype.itemsize for path in paths)
        return [0, *itertools.accumulate(sizes)]


def names(split: str, feature: str, ending: str, files: Collection[str]) -> list[str]:
    """The files that hold one array: one, or its shards in their order."""
    if (whole := f"{split}.{feature}.{ending}") in files:
        return [whole]
    numbered = (f"{split}.{feature}.{number:05}.{ending}" for number in itertools.count())
    return list(itertools.takewhile(files.__contains__, numbered))


def write_cache(
    task: str,
    vocab: Vocab,
    features: tuple[str, ...],
    splits: Splits,
    source: Callable[[], Origin] = dict,
    tally: object = None,
    done: Callable[[], bool] = lambda: False,
) -> TokenCache:
    """Write a cache whole or not at all, in place of any that is there.

    Args:
      task: its name.
      vocab: what the ids are of.
      features: of every document, in its order.
      splits: each split's documents, read once; of those that can be read from any on, only those that are not done
        yet (`encdec_jax.data.writing`).
      source: gives what the documents were made from, if that is known, as far as they are read.
      tally: an object whose attributes count what is read.
      done: whether another process made it while this one waited.

    Raises:
      UserError: the folder can't be written to, the disk is full, a split is empty, or an id is none of the vocabulary
        or stands for no text.
    """
    folder = cache_folder(task, vocab.name)
    try:
        with making(folder, vocab, features, splits, source, tally or SimpleNamespace(), done) as made:
            if made is not None:
                manifest = _manifest(task, vocab, features, made) | {"source": source()}
                write_json(made.folder / "manifest.json", manifest)
                stamp(made.folder, made.files)
                upload(made.folder, folder, made.files)
                _put(made.folder, folder)
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror or error}") from error
    return TokenCache.open(task, vocab.name)


def digest_of(task: str, vocab: Vocab, features: tuple[str, ...], splits: Splits) -> str:
    """The digest that a cache of these documents would have; leaves nothing. Arguments and errors as `write_cache`."""
    folder = cache_folder(task, vocab.name)
    try:
        with thrown_away(folder, vocab, features, splits) as made:
            return str(_manifest(task, vocab, features, made)["digest"])
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror or error}") from error


def _manifest(task: str, vocab: Vocab, features: tuple[str, ...], made: Making) -> dict[str, Any]:
    manifest = {
        "format": FORMAT,
        "task": task,
        "vocab": vocab.name,
        "vocab_size": vocab.size,
        "dtype": made.dtype.str,
        "features": list(features),
        "splits": made.splits,
        "files": made.files,
    }
    return manifest | {"digest": _digest(manifest)}


def _changed(task: str, source: Origin | str) -> str | None:
    if task in corpus.FEATURES and source != shipped():
        return "the shipped text, or how it is split, has changed"
    return changed(source, whole=False) if isinstance(source, dict) and source else None


def _digest(manifest: dict[str, Any]) -> str:
    data = {field: value for field, value in manifest.items() if field not in ("source", "digest")}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _put(temporary: Path, folder: Path) -> None:
    """Rename the finished folder into place. What was there goes first: a folder can't be renamed over a full one."""
    temporary.chmod(0o755)
    for name in (LOCK, PROGRESS):
        (temporary / name).unlink(missing_ok=True)
    if folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".old.") as old:
            os.rename(folder, Path(old) / folder.name)
            os.rename(temporary, folder)
    else:
        os.rename(temporary, folder)


def _command(task: str, vocab: str, source: Origin | str = "") -> str:
    told = source if isinstance(source, dict) else {}
    named = {o: o.removeprefix("--") for o in ("--module", "--text", "--field", "--mix", "--rates")}
    options = "".join(f" {option} {told[name]}" for option, name in named.items() if told.get(name))
    return f"encdec prepare --task {task}{'' if vocab == 'bytes' else f' --vocab {vocab}'}{options}"


def _damaged(folder: Path, what: str, task: str, vocab: str) -> UserError:
    return UserError(f"token cache {folder} is damaged ({what}): remove it, then {_command(task, vocab)}")
