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
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from encdec_jax.data import corpus, pieces
from encdec_jax.data.cache import Document, TokenCache, cache_folder, write_cache
from encdec_jax.data.vocab import ByteVocab, Vocab
from encdec_jax.errors import UserError, require
from encdec_jax.text import progress_console

if TYPE_CHECKING:
    from encdec_jax.data.reading import Reading

T = TypeVar("T")

OWN = "own"  # the vocabulary of a task that makes token ids itself
SMALLEST = 300  # pieces of a SentencePiece vocabulary: pad, eos, unk, 256 bytes, and some to learn


def prepare(task: str, vocab: str = "bytes", module: str | None = None, vocab_size: int | None = None) -> Path:
    """Tokenise every split of a task, unless that is done, and print where the tokens are.

    The cache is a function of the task's examples alone: they are read in order, once, and SentencePiece is trained
    deterministically on the train split.

    Args:
      task: a seqio Task or Mixture, one of the shipped ones or registered by `module`.
      vocab: 'bytes'; 'spm' with `vocab_size`, or 'spm4096' for short, to train that many SentencePiece pieces; or
        'own', for a task that makes token ids itself.
      module: Python module that registers the task, by dotted name or as FILE.py, if it is not a shipped one.
      vocab_size: pieces, for 'spm'.

    Returns:
      The folder of the tokens.

    Raises:
      UserError: an argument is not accepted, TensorFlow or seqio is not installed, a corpus file is missing, or the
        cache can't be written. Nothing half-written is left.
    """
    name = vocab_name(vocab, vocab_size)
    source = corpus.digest() if task in corpus.FEATURES else ""
    if _is_whole(task, name, source):
        print(f"already prepared: {cache_folder(task, name)}")
        return cache_folder(task, name)
    reading = _reading(task, module)
    features = reading.features
    made = _vocabulary(reading, name)
    documents = {split: _documents(reading, split, made) for split in reading.splits}
    cache = write_cache(task, made, features, documents, source)
    for split in reading.splits:
        entry = cache.manifest["splits"][split]
        counts = ", ".join(f"{entry['tokens'][feature]:,} tokens of {feature}" for feature in features)
        print(f"{split}: {entry['documents']:,} documents, {counts}")
    print(f"prepared: {cache.folder}")
    return cache.folder


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


def _is_whole(task: str, name: str, source: str) -> bool:
    try:
        return TokenCache.open(task, name).manifest["source"] == source
    except UserError:
        return False


def _reading(task: str, module: str | None) -> Reading:
    try:
        with _quiet():
            from encdec_jax.data.reading import Reading
    except ImportError as error:
        what = error.name or str(error)
        raise UserError(f"`prepare` needs {what}, which is not installed: pip install 'encdec_jax[data]'") from error
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
    if vocab.name == OWN:
        yield from _shown(reading.ids(split), split, reading.examples(split))
        return
    for example in _shown(reading.texts(split), split, reading.examples(split)):
        yield tuple(vocab.encode(text) for text in example)


def _shown(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    """The items, with a line of progress on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = progress_console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=what)
