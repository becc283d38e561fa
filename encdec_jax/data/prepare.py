"""`encdec prepare`: tokenise a seqio Task or Mixture once, into the token cache.

TensorFlow and seqio are imported inside `prepare`, and only when there is something to do: a cache that is there and
whole is given back without them.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from encdec_jax.data import corpus, pieces
from encdec_jax.data.cache import Document, TokenCache, cache_folder, digest_of, write_cache
from encdec_jax.data.config import DataConfig
from encdec_jax.data.origin import changed, module_file, opened, shipped, with_read
from encdec_jax.data.packing import dropped_pairs
from encdec_jax.data.vocab import ByteVocab, Vocab
from encdec_jax.errors import UserError, require
from encdec_jax.text import progress_console

if TYPE_CHECKING:
    from encdec_jax.data.reading import Reading

T = TypeVar("T")

OWN = "own"  # the vocabulary of a task that makes token ids itself
_PROBE = "two  spaces \ufb01\u00c5\n"  # that normalisation changes
SMALLEST = 300  # pieces of a SentencePiece vocabulary: pad, eos, unk, 256 bytes, and some to learn


def prepare(
    task: str, vocab: str = "bytes", module: str | None = None, vocab_size: int | None = None, check: bool = False
) -> Path:
    """Tokenise every split of a task, unless that is done, and print where the tokens are.

    The cache is a function of the task's examples alone: they are read in order, once, and SentencePiece is trained
    deterministically on the train split. It is done if the cache's origin (`encdec_jax.data.origin`) is as it was.

    Args:
      task: a seqio Task or Mixture, one of the shipped ones or registered by `module`.
      vocab: 'bytes'; 'spm' with `vocab_size`, or 'spm4096' for short, to train that many SentencePiece pieces; or
        'own', for a task that makes token ids itself.
      module: Python module that registers the task, by dotted name or as FILE.py, if it is not a shipped one.
      vocab_size: pieces, for 'spm'.
      check: make the tokens anew and compare them with those that are there, which stay as they are.

    Returns:
      The folder of the tokens.

    Raises:
      UserError: an argument is not accepted, TensorFlow or seqio is not installed, a corpus file is missing, an example
        can't be kept exactly, the cache can't be written, or tokens are checked and differ. Nothing half-written is
        left.
    """
    name = vocab_name(vocab, vocab_size)
    file = None if module is None else module_file(module)
    if not check and _is_done(task, name, file):
        print(f"already prepared: {cache_folder(task, name)}")
        return cache_folder(task, name)
    there = TokenCache.open(task, name) if check else None
    with opened() as files:
        reading = _reading(task, module)
        found = shipped() if task in corpus.FEATURES else reading.origin
        made = _vocabulary(reading, name)
        documents = {split: _documents(reading, split, made) for split in reading.splits}
        if there is not None:
            digest = digest_of(task, made, reading.features, documents)
            if digest != there.digest:
                differ = f"digest {there.digest[:12]}, now {digest[:12]}"
                raise UserError(
                    f"task = {task!r} does not give the tokens in {there.folder} ({differ}): remove that folder"
                )
            print(f"checked: {there.folder} holds what the task gives")
            return there.folder
        cache = write_cache(task, made, reading.features, documents, lambda: with_read(found, files))
    for split in reading.splits:
        entry = cache.manifest["splits"][split]
        counts = ", ".join(f"{entry['tokens'][feature]:,} tokens of {feature}" for feature in reading.features)
        print(f"{split}: {entry['documents']:,} documents, {counts}")
        if "inputs" in reading.features:
            print(f"{split}: {_dropped(cache, split)}")
        if lacking := reading.lacking(split):
            print(f"{split}: {', '.join(lacking)} of the mixture have no such split and are left out of it")
    print(f"prepared: {cache.folder}")
    return cache.folder


def _is_done(task: str, name: str, module: Path | None) -> bool:
    """Whether the tokens are there, whole, and made from what is there now, by the module that is given."""
    try:
        source = TokenCache.open(task, name).manifest["source"]
    except UserError:
        return False
    if task in corpus.FEATURES:
        return bool(source == shipped())
    known = isinstance(source, dict) and module is not None and source.get("module") == str(module)
    return known and changed(source, whole=True) is None


def _dropped(cache: TokenCache, split: str) -> str:
    """How many pairs training and scoring drop for their length, at the lengths that hold unless a run sets others."""
    room = DataConfig()
    dropped, pairs = dropped_pairs(cache, split, room)
    sources, targets = (int(np.diff(cache.offsets(split, name)).max()) for name in ("inputs", "targets"))
    return (
        f"{dropped:,} of {pairs:,} pairs are dropped at data.source_length = {room.source_length}, data.target_length ="
        f" {room.target_length}; the longest have {sources:,} and {targets:,} tokens"
    )


def vocab_name(vocab: str, vocab_size: int | None) -> str:
    """The one name of a vocabulary: 'bytes', 'own', or 'spm' and its size, as `data.vocab` has it.

    Raises:
      UserError: there is no such vocabulary, or the size is missing, too small or one too many.
    """
    accepted = "'bytes', 'own', or 'spm' with a vocab_size, as in 'spm4096'"
    match = re.fullmatch(r"bytes|own|spm([1-9][0-9]*)?", vocab)
    if match is None:
        raise UserError(f"vocab = {vocab!r} is not accepted: {accepted}")
    if vocab in ("bytes", OWN):
        require(vocab_size is None, "vocab_size", vocab_size, f"none, because vocab {vocab!r} has a size of its own")
        return vocab
    size = int(match[1]) if match[1] else vocab_size
    if size is None:
        raise UserError(f"vocab = {vocab!r} is not accepted: {accepted}")
    require(vocab_size in (None, size), "vocab_size", vocab_size, f"{size}, because vocab = {vocab!r}")
    require(size >= SMALLEST, "vocab_size", size, f"at least {SMALLEST} pieces")
    return f"spm{size}"


def _reading(task: str, module: str | None) -> Reading:
    try:
        with _quiet():
            from encdec_jax.data.reading import Reading
    except ImportError as error:
        what = error.name or str(error)
        raise UserError(
            f"`prepare` needs {what}, which is not installed: in a checkout, pip install '.[data]'"
        ) from error
    return Reading(task, module)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what TensorFlow's start prints past Python, which no setting of its own silences, unless it fails."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _vocabulary(reading: Reading, name: str) -> Vocab:
    if name == OWN:
        return reading.vocabulary()
    if name == "bytes":
        return ByteVocab()
    require("train" in reading.splits, "splits", reading.splits, f"one named train, to train vocab {name!r} on")
    examples = _shown(reading.texts("train"), f"training {name}", reading.examples("train"))
    return pieces.train(name, int(name.removeprefix("spm")), (text for example in examples for text in example))


def _documents(reading: Reading, split: str, vocab: Vocab) -> Iterator[Document]:
    """The token ids of each example; refuses one whose text they would not keep exactly."""
    if vocab.name != OWN:
        for number, example in enumerate(_shown(reading.texts(split), split, reading.examples(split))):
            where = f"example {number} of split {split!r}"
            yield tuple(_exact(vocab.encode(text), text, vocab, where) for text in example)
        return
    for number, (ids, texts) in enumerate(_shown(reading.ids(split), split, reading.examples(split))):
        for row, text in zip(ids, texts, strict=True):
            if text is None:
                _check_lossless(vocab)
            else:
                _exact(
                    [i for i in row.tolist() if i != vocab.eos_id], text, vocab, f"example {number} of split {split!r}"
                )
        yield ids


def _check_lossless(vocab: Vocab) -> None:
    """Refuse a vocabulary that normalises text, where a task keeps no text to compare with."""
    if vocab.decode(ids := vocab.encode(_PROBE)) != _PROBE or vocab.token_bytes(ids).sum() != len(_PROBE.encode()):
        raise UserError(
            f"vocab = {vocab.name!r} is not accepted: the task's vocabulary does not keep text exactly, and the task"
            " keeps no text beside its ids, whose bytes could be counted"
        )


def _exact(ids: list[int], text: str, vocab: Vocab, where: str) -> list[int]:
    """The ids, if they stand for the text and all its bytes: bits per byte divides by what they stand for."""
    if isinstance(vocab, ByteVocab) and vocab.name != OWN:
        return ids
    found, size = vocab.decode(ids), int(vocab.token_bytes(ids).sum())
    if found == text and size == len(text.encode()):
        return ids
    lost = next((a for a, b in zip_longest(text, found) if a != b), None)
    what = f"{len(text.encode())} bytes of text became {size}" if lost is None else f"{lost!r} is not kept"
    raise UserError(f"{where} is not accepted in vocab {vocab.name!r}: {what}; 'bytes' keeps every text")


def _shown(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    """The items, with a line of progress on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = progress_console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=what)
