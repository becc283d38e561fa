"""The token cache: each split's documents, tokenised once, as memory-mapped arrays under a manifest of hashes.

    <cache root>/tokens/<task>-<vocab>/
        manifest.json                    what is here, the SHA-256 of every file, and what it was made from
        <split>.<feature>.bin            token ids of all documents, one after the other
        <split>.<feature>.offsets        int64 [documents + 1]: where each one starts, and the end of the last
        vocab.model                      the SentencePiece model, where there is one

Every document ends with one end-of-document token, which its offsets include.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike

from encdec_jax.data import corpus
from encdec_jax.data.origin import Origin, changed, shipped
from encdec_jax.data.vocab import MODEL_FILE, UNK, Vocab, vocab_in
from encdec_jax.errors import UserError, require
from encdec_jax.files import cache_root, read_json, sha256_file, write_json

FORMAT = 1

Document = Sequence[ArrayLike]  # token ids of each feature


def cache_folder(task: str, vocab: str) -> Path:
    """Where the tokens of a task in a vocabulary are, or would be."""
    return cache_root() / "tokens" / f"{quote(task, safe='')}-{quote(vocab, safe='')}"  # no two tasks in one


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
        """The cache of a task in a vocabulary, each file checked by the manifest, its origin by what is there.

        Raises:
          UserError: there is none, it is damaged, or what it was made from has changed.
        """
        folder = cache_folder(task, vocab)
        if not (folder / "manifest.json").exists():
            raise UserError(f"data.task = {task!r} has no tokens in {folder}: first {_command(task, vocab)}")
        manifest = read_json(folder / "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("digest") != _digest(manifest):
            raise _damaged(folder, "manifest.json was changed", task, vocab)
        if (manifest["format"], manifest["task"], manifest["vocab"]) != (FORMAT, task, vocab):
            raise _damaged(folder, "manifest.json is of another task, vocabulary or version", task, vocab)
        for name, entry in manifest["files"].items():
            path = folder / name
            if not path.exists():
                raise _damaged(folder, f"{name} is missing", task, vocab)
            if path.stat().st_size != entry["bytes"]:
                raise _damaged(folder, f"{name} has {path.stat().st_size} bytes, not {entry['bytes']}", task, vocab)
            if sha256_file(path) != entry["sha256"]:
                raise _damaged(folder, f"{name} has another SHA-256 than its manifest", task, vocab)
        what = _changed(task, manifest["source"])
        if what is not None:
            again = _command(task, vocab, manifest["source"])
            raise UserError(f"data.task = {task!r}: {what} since its tokens were made: first {again}")
        return cls(folder, manifest)

    def tokens(self, split: str, feature: str) -> np.memmap:
        """Token ids of a split, documents end to end: uint16 or int32 [tokens].

        Raises:
          UserError: the cache has no such split or feature.
        """
        return self._array(split, feature, "bin", np.dtype(self.manifest["dtype"]))

    def offsets(self, split: str, feature: str) -> np.ndarray:
        """Where each document starts, and the end of the last: int64 [documents + 1].

        Raises:
          UserError: the cache has no such split or feature.
        """
        return self._array(split, feature, "offsets", np.dtype("<i8"))

    def _array(self, split: str, feature: str, ending: str, dtype: np.dtype) -> np.memmap:
        require(split in self.splits, "split", split, "one of " + ", ".join(self.splits))
        require(feature in self.features, "feature", feature, "one of " + ", ".join(self.features))
        return np.memmap(self.folder / f"{split}.{feature}.{ending}", dtype, mode="r")


def write_cache(
    task: str,
    vocab: Vocab,
    features: tuple[str, ...],
    splits: Mapping[str, Iterable[Document]],
    source: Callable[[], Origin] = dict,
) -> TokenCache:
    """Write a cache whole or not at all, in place of any that is there.

    Args:
      task: its name.
      vocab: what the ids are of.
      features: of every document, in its order.
      splits: each split's documents, read once.
      source: gives what the documents were made from, if that is known, once they are read.

    Raises:
      UserError: the folder can't be written to, the disk is full, a split is empty, or an id is none of the vocabulary
        or stands for no text.
    """
    folder = cache_folder(task, vocab.name)
    with _made(folder, task, vocab, features, splits, source) as (temporary, _):
        _put(temporary, folder)
    return TokenCache.open(task, vocab.name)


def digest_of(task: str, vocab: Vocab, features: tuple[str, ...], splits: Mapping[str, Iterable[Document]]) -> str:
    """The digest that a cache of these documents would have; leaves nothing. Arguments and errors as `write_cache`."""
    with _made(cache_folder(task, vocab.name), task, vocab, features, splits, dict) as (_, digest):
        return digest


@contextlib.contextmanager
def _made(
    folder: Path,
    task: str,
    vocab: Vocab,
    features: tuple[str, ...],
    splits: Mapping[str, Iterable[Document]],
    source: Callable[[], Origin],
) -> Iterator[tuple[Path, str]]:
    """A whole cache in a temporary folder beside `folder`, and its digest."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        dtype = np.dtype("<u2" if vocab.size <= 65535 else "<i4")
        counts = {split: _write_split(temporary, split, features, docs, vocab, dtype) for split, docs in splits.items()}
        if vocab.model is not None:
            (temporary / MODEL_FILE).write_bytes(vocab.model)
        written = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in sorted(temporary.iterdir())}
        manifest = {
            "format": FORMAT,
            "task": task,
            "vocab": vocab.name,
            "vocab_size": vocab.size,
            "dtype": dtype.str,
            "features": list(features),
            "splits": counts,
            "source": source(),
            "files": written,
        }
        digest = _digest(manifest)
        write_json(temporary / "manifest.json", manifest | {"digest": digest})
        yield temporary, digest
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_split(
    folder: Path, split: str, features: tuple[str, ...], documents: Iterable[Document], vocab: Vocab, dtype: np.dtype
) -> dict[str, Any]:
    offsets = [array("q", [0]) for _ in features]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / f"{split}.{feature}.bin").open("wb")) for feature in features]
        for number, document in enumerate(documents):
            for file, starts, ids in zip(files, offsets, document, strict=True):
                row = np.asarray(ids, np.int64)
                if not row.size or row[-1] != vocab.eos_id:
                    row = np.append(row, vocab.eos_id)
                _check_ids(row[:-1], vocab, f"example {number} of split {split!r}")
                file.write(row.astype(dtype).tobytes())
                starts.append(starts[-1] + row.size)
    require(len(offsets[0]) > 1, f"split {split!r}", "no documents", "at least one document")
    for feature, starts in zip(features, offsets, strict=True):
        np.asarray(starts, "<i8").tofile(folder / f"{split}.{feature}.offsets")
    return {"documents": len(offsets[0]) - 1, "tokens": {f: s[-1] for f, s in zip(features, offsets, strict=True)}}


def _check_ids(ids: np.ndarray, vocab: Vocab, where: str) -> None:
    """Refuse ids that are none, and those that stand for no text: a model would learn what no text says."""
    outside = ids[(ids < 0) | (ids >= vocab.size)]
    if outside.size:
        raise UserError(f"token id = {outside[0]} in {where} is not accepted: 0 to {vocab.size - 1}")
    empty = ids[(vocab.token_bytes(ids) == 0) & (vocab.exact | (ids != UNK))]
    if empty.size:
        raise UserError(
            f"token id = {empty[0]} in {where} is not accepted: padding, the unknown, an end before the last place and"
            " other ids that stand for no text can't be told from text that is lost"
        )


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
    if folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".old.") as old:
            os.rename(folder, Path(old) / folder.name)
            os.rename(temporary, folder)
    else:
        os.rename(temporary, folder)


def _command(task: str, vocab: str, source: Origin | str = "") -> str:
    told = source if isinstance(source, dict) else {}
    named = {"--module": "module", "--text": "text", "--field": "field"}
    options = "".join(f" {option} {told[name]}" for option, name in named.items() if told.get(name))
    return f"encdec prepare --task {task}{'' if vocab == 'bytes' else f' --vocab {vocab}'}{options}"


def _damaged(folder: Path, what: str, task: str, vocab: str) -> UserError:
    return UserError(f"token cache {folder} is damaged ({what}): remove it, then {_command(task, vocab)}")
