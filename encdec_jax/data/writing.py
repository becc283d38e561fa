"""Writing a token cache: shard by shard, in a hidden folder beside it until it is whole.

    .<name>.making/
        lock             held by the process that writes
        progress.json    what is done so far: the finished shards, and what they were made from
        ...              the shards

A process that is killed leaves its finished shards to the next one that makes the same: the texts behind them are not
tokenised again. Where shards end is decided by the documents alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from encdec_jax.data.hidden import LOCK, held, remove_abandoned
from encdec_jax.data.origin import Origin, changed
from encdec_jax.data.stamps import damage
from encdec_jax.data.vocab import UNK, Vocab
from encdec_jax.data.vocab_file import MODEL_FILE
from encdec_jax.errors import UserError, require
from encdec_jax.files import read_json, write_json

SHARD = 1 << 27  # tokens of a feature at which a shard ends
_READ = ("data", "sources")  # of an origin, what grows while a task is read
PROGRESS = "progress.json"

Document = Sequence[ArrayLike]  # token ids of each feature


@runtime_checkable
class Resumable(Protocol):
    """Documents that can be read from any one on."""

    def after(self, number: int) -> Iterable[Document]:
        """Those behind the first `number`."""


Splits = Mapping[str, Iterable[Document] | Resumable]


class Making:
    """A cache that is being made.

    Attributes:
      folder: that it is in until it is whole.
      files: of the finished shards: name -> bytes and SHA-256.
      splits: of each that is begun, documents and tokens of each feature.
    """

    def __init__(self, folder: Path, vocab: Vocab, features: tuple[str, ...], keep: bool = True) -> None:
        self.folder, self.files, self.splits = folder, dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
        self._vocab, self._features, self._keep = vocab, features, keep
        self.dtype = np.dtype("<u2" if vocab.size <= 65535 else "<i4")

    def write(self, splits: Splits, note: Callable[[], None]) -> None:
        """Write what is not done.

        Args:
          splits: each split's documents.
          note: called after each shard.
        """
        for later, (split, documents) in enumerate(splits.items(), 1):
            if len(self.splits) > later:
                continue  # the next one is begun
            entry = self.splits.setdefault(split, {"documents": 0, "tokens": dict.fromkeys(self._features, 0)})
            done = entry["documents"]
            rest = (
                documents.after(done) if isinstance(documents, Resumable) else itertools.islice(documents, done, None)
            )
            shards = len([name for name in self.files if name.startswith(f"{split}.{self._features[0]}.")]) // 2
            numbered = enumerate(rest, done)
            for number in itertools.count(shards):
                with _Shard(self.folder, split, self._features, number, self.dtype) as shard:
                    for place, document in numbered:
                        shard.add(self._rows(document, f"example {place} of split {split!r}"))
                        if shard.full:
                            break
                if not shard.documents:
                    break
                self.files |= shard.files
                entry["documents"] += shard.documents
                for feature, tokens in zip(self._features, shard.tokens, strict=True):
                    entry["tokens"][feature] += tokens
                if not self._keep:
                    for name in shard.files:
                        (self.folder / name).unlink()
                note()
                if not shard.full:
                    break
            require(entry["documents"] > 0, f"split {split!r}", "no documents", "at least one document")

    def finish(self) -> None:
        """Add the vocabulary's model; give a split's one shard the name of the whole."""
        if self._vocab.model is not None:
            (self.folder / MODEL_FILE).write_bytes(self._vocab.model)
            sha256 = hashlib.sha256(self._vocab.model).hexdigest()
            self.files[MODEL_FILE] = {"bytes": len(self._vocab.model), "sha256": sha256}
        for split, feature, ending in itertools.product(self.splits, self._features, ("bin", "offsets")):
            one, whole = f"{split}.{feature}.00000.{ending}", f"{split}.{feature}.{ending}"
            if f"{split}.{feature}.00001.{ending}" not in self.files and one in self.files:
                self.files[whole] = self.files.pop(one)
                if self._keep:
                    os.rename(self.folder / one, self.folder / whole)
        self.files = dict(sorted(self.files.items()))

    def _rows(self, document: Document, where: str) -> list[np.ndarray]:
        rows = []
        for ids in document:
            row = np.asarray(ids, np.int64)
            if not row.size or row[-1] != self._vocab.eos_id:
                row = np.append(row, self._vocab.eos_id)
            _check_ids(row[:-1], self._vocab, where)
            rows.append(row.astype(self.dtype))
        return rows


class _Shard:
    """A shard that is being written, hashed as it is.

    Attributes:
      documents: in it.
      tokens: of each feature.
      full: whether it ends here.
      files: name -> bytes and SHA-256, once it is closed.
    """

    def __init__(self, folder: Path, split: str, features: tuple[str, ...], number: int, dtype: np.dtype) -> None:
        self.documents, self.tokens, self.full = 0, [0] * len(features), False
        self.files: dict[str, dict[str, Any]] = {}
        self._folder, self._item = folder, dtype.itemsize
        self._names = [f"{split}.{feature}.{number:05}" for feature in features]
        self._offsets = [array("q", [0]) for _ in features]
        self._hashes = [hashlib.sha256() for _ in features]
        self._open: list[BinaryIO] = []

    def __enter__(self) -> _Shard:
        self._open = [(self._folder / f"{name}.bin").open("wb") for name in self._names]
        return self

    def add(self, rows: list[np.ndarray]) -> None:
        """Add a document."""
        for place, row in enumerate(rows):
            raw = row.tobytes()
            self._open[place].write(raw)
            self._hashes[place].update(raw)
            self.tokens[place] += row.size
            self._offsets[place].append(self.tokens[place])
        self.documents += 1
        self.full = max(self.tokens) >= SHARD

    def __exit__(self, kind: type | None, *rest: object) -> None:
        for file in self._open:
            if kind is None:
                _settle(file)
            file.close()
        if kind is not None or not self.documents:
            for name in self._names:
                (self._folder / f"{name}.bin").unlink(missing_ok=True)
            return
        for place, name in enumerate(self._names):
            raw = np.asarray(self._offsets[place], "<i8").tobytes()
            with (self._folder / f"{name}.offsets").open("wb") as file:
                file.write(raw)
                _settle(file)
            entry = {"bytes": self.tokens[place] * self._item, "sha256": self._hashes[place].hexdigest()}
            self.files[f"{name}.bin"] = entry
            self.files[f"{name}.offsets"] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


@contextlib.contextmanager
def making(
    folder: Path,
    vocab: Vocab,
    features: tuple[str, ...],
    splits: Splits,
    source: Callable[[], Origin],
    tally: object,
    done: Callable[[], bool],
) -> Iterator[Making | None]:
    """A whole cache of the splits in a hidden folder beside `folder`, to be put into place within; None if it is done.

    What a killed process has done of the same, from what is still as it was, is gone on with.

    Args:
      folder: of the cache.
      vocab, features, splits: as `encdec_jax.data.cache.write_cache`.
      source: gives what the documents were made from, as far as they are read; {} for what can't be gone on with.
      tally: counts of what was read, as attributes, which go on too.
      done: asked where another process was waited for.
    """
    hidden = folder.parent / f".{folder.name}.making"
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder.parent)
    with held(hidden) as waited:
        if waited and done():
            shutil.rmtree(hidden, ignore_errors=True)
            yield None
            return
        made = Making(hidden, vocab, features)
        of = hashlib.sha256(repr((vocab.name, vocab.size, vocab.model, features, SHARD, sorted(splits))).encode())
        _go_on(made, of.hexdigest(), source(), tally)

        def note() -> None:
            told = {"of": of.hexdigest(), "source": source(), "files": made.files, "splits": made.splits}
            write_json(hidden / PROGRESS, told | {"tally": vars(tally)})

        try:
            made.write(splits, note)
            made.finish()
            yield made
        except BaseException as error:
            if isinstance(error, UserError) or not (hidden / PROGRESS).exists():
                shutil.rmtree(hidden, ignore_errors=True)
            raise


@contextlib.contextmanager
def thrown_away(folder: Path, vocab: Vocab, features: tuple[str, ...], splits: Splits) -> Iterator[Making]:
    """As `making`, but shards are removed as soon as they are hashed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as hidden:
        made = Making(Path(hidden), vocab, features, keep=False)
        made.write(splits, lambda: None)
        made.finish()
        yield made


def _go_on(made: Making, of: str, source: Origin, tally: object) -> None:
    """Take up what is done, if it is of the same; else begin with an empty folder."""
    hidden = made.folder
    with contextlib.suppress(UserError, KeyError, TypeError):
        done = read_json(hidden / PROGRESS)
        before = done["source"]
        same = done["of"] == of and source and all(before.get(k) == source[k] for k in source if k not in _READ)
        if same and changed(before, whole=True) is None and damage(hidden, done["files"]) is None:
            made.files, made.splits = done["files"], done["splits"]
            vars(tally).update(done["tally"])
            print(f"going on behind {sum(entry['documents'] for entry in made.splits.values()):,} documents")
    for path in hidden.iterdir():
        if path.name not in (*made.files, LOCK):
            path.unlink()


def _settle(file: BinaryIO) -> None:
    """Let what was written survive a power cut: it is trusted by the time that it was written."""
    file.flush()
    os.fsync(file.fileno())


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
