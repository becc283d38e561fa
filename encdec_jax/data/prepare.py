"""`encdec prepare`: tokenise a seqio Task or Mixture once, into the token cache.

TensorFlow and seqio are imported inside `prepare`, and only when there is something to do: a cache that is there and
whole is given back without them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from encdec_jax.data import corpus, pieces
from encdec_jax.data.cache import TokenCache, cache_folder, digest_of, write_cache
from encdec_jax.data.config import DataConfig
from encdec_jax.data.fetch.catalogue import FETCHED
from encdec_jax.data.named_vocab import OWN, Lossy, checked, vocab_file, vocab_name
from encdec_jax.data.origin import changed, module_file, opened, shipped, with_read
from encdec_jax.data.plain import Plain, default_name, fetched_task, shipped_task, text_task
from encdec_jax.data.rows import planned, told
from encdec_jax.data.splits import RUN
from encdec_jax.data.tokenising import tokenised
from encdec_jax.data.vocab import ByteVocab, Vocab
from encdec_jax.data.writing import Document
from encdec_jax.errors import UserError, require
from encdec_jax.files import absolute
from encdec_jax.text import progress_console

if TYPE_CHECKING:
    from encdec_jax.data.reading import Reading

T = TypeVar("T")


def prepare(
    task: str | None,
    vocab: str = "bytes",
    module: str | None = None,
    vocab_size: int | None = None,
    check: bool = False,
    text: str | None = None,
    field: str = "text",
) -> Path:
    """Tokenise every split of a task, unless that is done, and print where the tokens are.

    The cache is a function of the task's examples alone: they are read in order, once, and SentencePiece is trained
    deterministically on the train split. It is done if the cache's origin (`encdec_jax.data.origin`) is as it was.

    Args:
      task: one of the shipped ones, or a seqio Task or Mixture that `module` registers; of `text`, the name that it is
        to have, or None for one made of the files'.
      vocab: 'bytes'; 'spm' with `vocab_size`, or 'spm4096' for short, to train that many SentencePiece pieces; a file,
        of a SentencePiece model or a tokenizer.json; or 'own', for a task that makes token ids itself.
      module: Python module that registers the task, by dotted name or as FILE.py, if it is not a shipped one.
      vocab_size: pieces, for 'spm'.
      check: make the tokens anew and compare them with those that are there, which stay as they are.
      text: files to make a task of: a file, a folder or a pattern (`encdec_jax.data.plain.text_task`).
      field: of their documents, that is the text; two, with a comma between them, are the source and target of pairs.

    Returns:
      The folder of the tokens.

    Raises:
      UserError: an argument is not accepted, TensorFlow or seqio is not installed, a corpus file is missing, an example
        can't be kept exactly, the cache can't be written, or tokens are checked and differ. Nothing half-written is
        left.
    """
    name = vocab_name(vocab, vocab_size)
    task = _task_name(task, module, text)
    file = None if module is None else module_file(module)
    if not check and _is_done(task, name, file, text, field):
        print(f"already prepared: {cache_folder(task, name)}")
        return cache_folder(task, name)
    there = TokenCache.open(task, name) if check else None
    with opened() as files:
        reading = _reading(task, module, text, field)
        found = shipped() if task in corpus.FEATURES else reading.origin
        made = _vocabulary(reading, name, vocab)
        lossy = Lossy()
        documents = {split: _Documents(reading, split, made, lossy) for split in reading.splits}
        if there is not None:
            digest = digest_of(task, made, reading.features, documents)
            if digest != there.digest:
                differ = f"digest {there.digest[:12]}, now {digest[:12]}"
                raise UserError(
                    f"task = {task!r} does not give the tokens in {there.folder} ({differ}): remove that folder"
                )
            print(f"checked: {there.folder} holds what the task gives")
            return there.folder
        cache = write_cache(
            task,
            made,
            reading.features,
            documents,
            lambda: with_read(found, files),
            lossy,
            lambda: _is_done(task, name, file, text, field),
        )
    _say(cache, reading, lossy)
    return cache.folder


def _say(cache: TokenCache, reading: Reading | Plain, lossy: Lossy) -> None:
    """Print what was prepared, and what of it a reader should know."""
    for split in reading.splits:
        entry = cache.manifest["splits"][split]
        counts = ", ".join(f"{entry['tokens'][feature]:,} tokens of {feature}" for feature in reading.features)
        print(f"{split}: {entry['documents']:,} documents, {counts}")
        for line in _pairs(cache, split) if "inputs" in reading.features else ():
            print(f"{split}: {line}")
        if lacking := reading.lacking(split):
            print(f"{split}: {', '.join(lacking)} of the mixture have no such split and are left out of it")
        if isinstance(reading, Plain) and split != "train" and "train" in reading.splits:
            shares = zip(reading.features, reading.leakage(split), strict=True)
            leaked = ", ".join(f"{share:.1%} of the runs of {RUN} words in {feature}" for feature, share in shares)
            print(f"{split}: {leaked} stand in train too")
    if not cache.vocab.exact:
        print(lossy)
    print(f"to train on: data.task={reading.name} data.vocab={cache.vocab.name}, {cache.vocab.size:,} ids")
    print(f"prepared: {cache.folder}")


def _task_name(task: str | None, module: str | None, text: str | None) -> str:
    """The name of the task that is asked for."""
    if text is None:
        require(task is not None, "task", task, "the name of a task; or give --text FILES")
        return str(task)
    require(module is None, "module", module, f"none, because text = {text!r} is given")
    name = task or default_name(text)
    taken = name in corpus.FEATURES or name in FETCHED
    require(not taken, "task", name, "a name that no shipped or fetched task has; give --task NAME")
    return name


def _is_done(task: str, name: str, module: Path | None, text: str | None, field: str) -> bool:
    """Whether the tokens are there, whole, and made from what is there now, by the module or files that are given."""
    try:
        source = TokenCache.open(task, name).manifest["source"]
    except UserError:
        return False
    if task in corpus.FEATURES:
        return bool(source == shipped())
    if not isinstance(source, dict):
        return False
    if text is None:
        known = source.get("module") == str(module) if module is not None else source.get("fetched") == task
    else:
        known = (source.get("text"), source.get("field")) == (absolute(text), field)
    return known and changed(source, whole=True) is None


def _pairs(cache: TokenCache, split: str) -> list[str]:
    """How full packed rows are, and what is left out, at the lengths that hold unless a run sets others."""
    data = DataConfig(task=cache.manifest["task"], vocab=cache.manifest["vocab"], split=split)
    longest = (f"{np.diff(cache.offsets(split, name)).max():,}" for name in ("inputs", "targets"))
    try:
        lines = told(planned(cache, data).fill, data)
    except UserError as error:  # none fits: a run can ask for longer rows
        lines = [str(error)]
    return [*lines, "the longest pairs have {} and {} tokens".format(*longest)]


def _reading(task: str, module: str | None, text: str | None, field: str) -> Reading | Plain:
    if text is not None:
        return text_task(text, field, task)
    if task in corpus.FEATURES:
        return shipped_task(task)
    if task in FETCHED and module is None:
        return fetched_task(task)
    return registered(task, module)


def registered(task: str, module: str | None) -> Reading:
    """A seqio Task or Mixture, to be read.

    Raises:
      UserError: seqio or TensorFlow is not installed, or as `Reading`.
    """
    try:
        with _quiet():
            from encdec_jax.data.reading import Reading
    except ImportError as error:
        what = error.name or str(error)
        raise UserError(
            f"a seqio Task needs {what}, which is not installed: in a checkout, pip install '.[data]'"
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


def _vocabulary(reading: Reading | Plain, name: str, given: str) -> Vocab:
    if name == OWN:
        return reading.vocabulary()
    if name == "bytes":
        return ByteVocab()
    found = vocab_file(name, given)
    if found is not None:
        return found
    require("train" in reading.splits, "splits", reading.splits, f"one named train, to train vocab {name!r} on")
    examples = _shown(reading.texts("train"), f"training {name}", reading.examples("train"))
    return pieces.train(name, int(name.removeprefix("spm")), (text for example in examples for text in example))


class _Documents:
    """The documents of a split as token ids; refuses those whose text they would not keep, as far as any are kept."""

    def __init__(self, reading: Reading | Plain, split: str, vocab: Vocab, lossy: Lossy) -> None:
        self._reading, self._split, self._vocab, self._lossy = reading, split, vocab, lossy

    def after(self, number: int) -> Iterator[Document]:
        """Those behind the first `number`, which are read but not tokenised."""
        reading, split, total = self._reading, self._split, self._reading.examples(self._split)
        if self._vocab.name != OWN:
            texts = islice(_shown(reading.texts(split), split, total), number, None)
            yield from tokenised(texts, self._vocab, number, split, self._lossy)
            return
        examples = islice(_shown(reading.ids(split), split, total), number, None)
        for place, (ids, kept) in enumerate(examples, number):
            yield self._checked(ids, kept, f"example {place} of split {split!r}")

    def _checked(self, ids: tuple[np.ndarray, ...], texts: tuple[str | None, ...], where: str) -> Document:
        vocab = self._vocab
        for row, text in zip(ids, texts, strict=True):
            if text is not None:
                checked([i for i in row.tolist() if i != vocab.eos_id], text, vocab, where, self._lossy)
            elif not vocab.exact:
                raise UserError(
                    f"vocab = {vocab.name!r} is not accepted: the task's vocabulary does not keep text exactly, and the"
                    " task keeps no text beside its ids, whose bytes could be counted"
                )
        return ids


def _shown(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    """The items, with a line of progress on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = progress_console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=what)
