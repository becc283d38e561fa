"""The text that ships with the package: three public-domain Bibles, split by book.

Three tasks read it. `bible_en` is the chapters of the King James Version, then those of the World English Bible, each
one document with its verses joined by spaces. `bible_en_es` is verse pairs, World English Bible to Reina-Valera 1909;
`bible_kjv_web` is verse pairs too, archaic to modern English.
`corpus/README.md` tells where the text comes from. This module imports no TensorFlow.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import lzma
from pathlib import Path
from typing import NamedTuple

from encdec_jax.errors import UserError, require

FOLDER = Path(__file__).parent / "corpus"
FILES = {"kjv": "kjv.tsv.xz", "web": "web.tsv.xz", "rv1909": "rv1909.tsv.xz"}
PAIRS = {"bible_en_es": ("web", "rv1909"), "bible_kjv_web": ("kjv", "web")}  # translations of source and target
FEATURES = {"bible_en": ("targets",), **dict.fromkeys(PAIRS, ("inputs", "targets"))}  # of each task's examples
SPLITS = ("train", "validation", "test")

# Held out whole, in every translation, because the same story told again a book further on would leak: the Gospels
# share whole paragraphs, so do Samuel, Kings, Chronicles and Isaiah 36-39, Ezra and 1 Esdras, the books of Maccabees,
# Ephesians and Colossians, Jude and 2 Peter, and Psalms with the histories. All of those stay in train. What is held
# out has no such twin, or (Esther) goes with it, and spans story, verse, prophecy and letter: no held-out book shares
# more than 2 % of its runs of eight words with the books of train; 2 Kings would share 14 %.
VALIDATION = ("Ruth", "Job", "Eccl", "Song", "Lam", "Dan", "Jonah", "Jdt", "Acts", "Jas")
TEST = ("Esth", "EsthGr", "Hos", "Amos", "Zech", "Heb", "Rev")


class Verse(NamedTuple):
    """One verse: `book` as in OSIS ('Gen', '1Sam'), `chapter` and `number` counted from 1."""

    book: str
    chapter: int
    number: int
    text: str


@functools.cache
def verses(translation: str) -> tuple[Verse, ...]:
    """All verses of 'kjv', 'web' or 'rv1909', in the order of the book.

    Raises:
      UserError: there is no such translation, or its file is missing or damaged.
    """
    require(translation in FILES, "translation", translation, "one of " + ", ".join(FILES))
    path = FOLDER / FILES[translation]
    try:
        lines = lzma.decompress(_read(translation)).decode().splitlines()
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"corpus file {path} is damaged ({error}): install encdec_jax again") from error
    rows = (line.split("\t", 3) for line in lines)
    return tuple(Verse(book, int(chapter), int(number), text) for book, chapter, number, text in rows)


def split_of(book: str) -> str:
    """The one split that holds all of a book."""
    return "validation" if book in VALIDATION else "test" if book in TEST else "train"


def documents(task: str, split: str) -> list[dict[str, str]]:
    """The examples of one split, in a fixed order: the text of each of the task's `FEATURES`.

    Raises:
      UserError: there is no such task or split, or a corpus file is missing or damaged.
    """
    require(task in FEATURES, "task", task, "one of " + ", ".join(FEATURES))
    require(split in SPLITS, "split", split, "one of " + ", ".join(SPLITS))
    if task in PAIRS:
        sources, targets = (_held(verses(translation), split) for translation in PAIRS[task])
        there = {verse[:3]: verse.text for verse in targets}
        return [{"inputs": v.text, "targets": there[v[:3]]} for v in sources if v[:3] in there]
    chapters = itertools.chain.from_iterable(
        itertools.groupby(_held(verses(translation), split), key=lambda v: (v.book, v.chapter))
        for translation in ("kjv", "web")
    )
    return [{"targets": " ".join(verse.text for verse in chapter)} for _, chapter in chapters]


def digest() -> str:
    """SHA-256 over the shipped files: changes when a new release ships other text.

    Raises:
      UserError: a corpus file is missing.
    """
    return hashlib.sha256(b"".join(_read(translation) for translation in FILES)).hexdigest()


def _read(translation: str) -> bytes:
    path = FOLDER / FILES[translation]
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"can't read corpus file {path} ({error.strerror}): install encdec_jax again") from error


def _held(rows: tuple[Verse, ...], split: str) -> list[Verse]:
    return [verse for verse in rows if split_of(verse.book) == split]
