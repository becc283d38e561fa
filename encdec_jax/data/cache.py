"""The token cache: each split's documents, tokenised once, as memory-mapped arrays under a manifest of hashes.

    <cache root>/tokens/<task>-<vocab>/
        manifest.json                    what is here, and the SHA-256 of every file
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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from encdec_jax.data.vocab import MODEL_FILE, Vocab, vocab_in
from encdec_jax.errors import UserError, require
from encdec_jax.files import cache_root, read_json, sha256_file, write_json

FORMAT = 1

Document = Sequence[ArrayLike]  # token ids of each feature


def cache_folder(task: str, vocab: str) -> Path:
    """Where the tokens of a task in a vocabulary are, or would be."""
    return cache_root() / "tokens" / f"{task.replace(os.sep, '_')}-{vocab}"


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
        """The cache of a task in a vocabulary, each file checked against the manifest.

        Raises:
          UserError: there is none, or it is damaged.
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
    task: str, vocab: Vocab, features: tuple[str, ...], splits: Mapping[str, Iterable[Document]], source: str = ""
) -> TokenCache:
    """Write a cache whole or not at all, in place of any that is there.

    Args:
      task: its name.
      vocab: what the ids are of.
      features: of every document, in its order.
      splits: each split's documents, read once.
      source: a hash of what the documents were made from, if known.

    Raises:
      UserError: the folder can't be written to, the disk is full, a split is empty, or an id is none of the vocabulary.
    """
    folder = cache_folder(task, vocab.name)
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
            "source": source,
            "files": written,
        }
        write_json(temporary / "manifest.json", manifest | {"digest": _digest(manifest)})
        _put(temporary, folder)
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return TokenCache.open(task, vocab.name)


def _write_split(
    folder: Path, split: str, features: tuple[str, ...], documents: Iterable[Document], vocab: Vocab, dtype: np.dtype
) -> dict[str, Any]:
    offsets = [array("q", [0]) for _ in features]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / f"{split}.{feature}.bin").open("wb")) for feature in features]
        for document in documents:
            for file, starts, ids in zip(files, offsets, document, strict=True):
                row = np.asarray(ids, np.int64)
                if not row.size or row[-1] != vocab.eos_id:
                    row = np.append(row, vocab.eos_id)
                if row.min() < 0 or row.max() >= vocab.size:
                    worst = int(row.min() if row.min() < 0 else row.max())
                    raise UserError(f"token id = {worst} in split {split!r} is not accepted: 0 to {vocab.size - 1}")
                file.write(row.astype(dtype).tobytes())
                starts.append(starts[-1] + row.size)
    require(len(offsets[0]) > 1, f"split {split!r}", "no documents", "at least one document")
    for feature, starts in zip(features, offsets, strict=True):
        np.asarray(starts, "<i8").tofile(folder / f"{split}.{feature}.offsets")
    return {"documents": len(offsets[0]) - 1, "tokens": {f: s[-1] for f, s in zip(features, offsets, strict=True)}}


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


def _command(task: str, vocab: str) -> str:
    return f"encdec prepare --task {task}" + ("" if vocab == "bytes" else f" --vocab {vocab}")


def _damaged(folder: Path, what: str, task: str, vocab: str) -> UserError:
    return UserError(f"token cache {folder} is damaged ({what}): remove it, then {_command(task, vocab)}")
