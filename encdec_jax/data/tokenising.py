"""Texts to token ids, in order: in several processes once there is enough to do."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import fields

import numpy as np

from encdec_jax.cpus import available
from encdec_jax.data.named_vocab import Lossy, checked
from encdec_jax.data.vocab import ByteVocab, Vocab
from encdec_jax.data.vocab_file import vocab_of
from encdec_jax.data.writing import Document

BLOCK = 1 << 20  # characters that are tokenised at once
ALONE = 32  # blocks that this process tokenises by itself: starting others takes as long

Row = tuple[str, ...]  # the text of each feature
Block = tuple[int, list[Row]]  # the number of its first example, and its examples
_vocab: list[Vocab] = []  # of a process that tokenises for another


def tokenised(texts: Iterable[Row], vocab: Vocab, first: int, split: str, lossy: Lossy) -> Iterator[Document]:
    """The token ids of each example, none of whose text is lost but as the vocabulary loses it, which `lossy` counts.

    Args:
      texts: of the examples.
      vocab: to tokenise with.
      first: number of the first example, for messages.
      split: that they are of, for messages.
      lossy: counts what a vocabulary loses that is not exact.

    Raises:
      UserError: an example's text is lost.
    """
    blocks = _blocks(texts, first)
    for number, block in enumerate(blocks, 1):
        yield from _encoded(block, vocab, split, lossy)
        if number == ALONE and len(available()) > 1:
            break
    else:
        return
    jobs = len(available())
    given = (vocab.name, vocab.model, os.getpid())
    context = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork
    with ProcessPoolExecutor(jobs, context, _begin, given) as pool:
        waiting: deque[Future[tuple[list[Document], Lossy]]] = deque()
        try:
            for block in blocks:
                waiting.append(pool.submit(_work, block, split))
                if len(waiting) > 2 * jobs:
                    yield from _received(waiting.popleft(), lossy)
            while waiting:
                yield from _received(waiting.popleft(), lossy)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _blocks(texts: Iterable[Row], first: int) -> Iterator[Block]:
    rows: list[Row] = []
    size = 0
    for row in texts:
        rows.append(row)
        size += sum(map(len, row))
        if size >= BLOCK:
            yield first, rows
            first, rows, size = first + len(rows), [], 0
    if rows:
        yield first, rows


def _encoded(block: Block, vocab: Vocab, split: str, lossy: Lossy) -> Iterator[Document]:
    for number, row in enumerate(block[1], block[0]):
        where = f"example {number} of split {split!r}"
        yield tuple(checked(vocab.encode(text), text, vocab, where, lossy) for text in row)


def _received(future: Future[tuple[list[Document], Lossy]], lossy: Lossy) -> list[Document]:
    documents, more = future.result()
    for field in fields(lossy):
        setattr(lossy, field.name, getattr(lossy, field.name) + getattr(more, field.name))
    return documents


def _begin(name: str, model: bytes | None, parent: int) -> None:
    """Make a process that tokenises ready; it ends with the one that it tokenises for, however that ends."""
    _vocab.append(ByteVocab(name) if model is None else vocab_of(name, model))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(block: Block, split: str) -> tuple[list[Document], Lossy]:
    lossy = Lossy()
    documents = _encoded(block, _vocab[0], split, lossy)
    return [tuple(np.asarray(ids, np.int32) for ids in document) for document in documents], lossy  # small to send
