"""Tasks that take no TensorFlow: the shipped text, what `encdec fetch` fetched, and a user's own files."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from glob import has_magic
from pathlib import Path

import numpy as np

from encdec_jax.data import corpus
from encdec_jax.data.corpus import SPLITS
from encdec_jax.data.fetch import fetch
from encdec_jax.data.fetch.artifacts import fetched_root
from encdec_jax.data.fetch.catalogue import FETCHED
from encdec_jax.data.origin import Origin, origin, shipped
from encdec_jax.data.splits import SHARE, HashSplits, Leakage, place
from encdec_jax.data.textfiles import Row, files_of, given_split, rows
from encdec_jax.data.vocab import Vocab
from encdec_jax.errors import UserError, require
from encdec_jax.files import absolute, expanded

Rows = Callable[[str], Iterable[Row]]  # a split's documents, anew at each call


class Plain:
    """A task as `prepare` reads it: texts of splits, in a fixed order.

    Attributes:
      name: of the task.
      features: ('targets',) or ('inputs', 'targets').
      splits: names, in the order that they are stored in.
      origin: what it is made from.
    """

    def __init__(
        self, name: str, features: tuple[str, ...], counts: dict[str, int], source: Origin, rows: Rows
    ) -> None:
        self.name, self.features, self.splits, self.origin = name, features, list(counts), source
        self._counts, self._rows = counts, rows

    def lacking(self, split: str) -> list[str]:
        """None: this is no mixture."""
        return []

    def examples(self, split: str) -> int:
        """How many examples a split has."""
        return self._counts[split]

    def texts(self, split: str) -> Iterator[Row]:
        """The text of each feature, example by example."""
        yield from self._rows(split)

    def ids(self, split: str) -> Iterator[tuple[tuple[np.ndarray, ...], tuple[str | None, ...]]]:
        """Refused: there are none.

        Raises:
          UserError: always.
        """
        raise self._without_ids()

    def vocabulary(self) -> Vocab:
        """Refused: there is none.

        Raises:
          UserError: always.
        """
        raise self._without_ids()

    def leakage(self, split: str) -> list[float]:
        """Of each feature, the share of a split's runs of `RUN` words that stand in train too."""
        found = []
        for at in range(len(self.features)):
            held_out = Leakage(row[at] for row in self._rows(split))
            found.append(held_out.share(row[at] for row in self._rows("train")))
        return found

    def _without_ids(self) -> UserError:
        return UserError(f"vocab = 'own' is not accepted: task {self.name!r} is text, and makes no token ids")


def shipped_task(name: str) -> Plain:
    """A task of the shipped text.

    Raises:
      UserError: a corpus file is missing or damaged.
    """
    features = corpus.FEATURES[name]
    found = {split: [tuple(d[f] for f in features) for d in corpus.documents(name, split)] for split in SPLITS}
    counts = {split: len(found[split]) for split in ("train", "validation", "test")}
    return Plain(name, features, counts, shipped(), found.__getitem__)


def fetched_task(name: str) -> Plain:
    """A task that `encdec fetch` fetched.

    Raises:
      UserError: it has not been fetched.
    """
    counts = {split: sum(1 for _ in fetch.examples(name, split)) for split in SPLITS}
    source = {**origin(None, {}, [str(fetched_root() / name / "*.jsonl")]), "fetched": name}
    return Plain(name, FETCHED[name].features, counts, source, lambda split: fetch.examples(name, split))


def text_task(pattern: str, field: str, name: str) -> Plain:
    """A task of a user's files.

    Splits are those of a `datasets` folder that has some; else they go by the hash of a document (of a pair, of its
    source), so that a text that stands in the files twice is in one split. Documents without text are left out.

    Args:
      pattern: a file, a folder, or a pattern.
      field: of the documents that is their text; two, with a comma between them, are the source and target of pairs.
      name: of the task.

    Raises:
      UserError: nothing matches, a file can't be read, a document is not as it should be, or there are too few.
    """
    fields = tuple(part.strip() for part in field.split(","))
    require(len(fields) in (1, 2) and all(fields), "field", field, "one name, or two as in 'source,target'")
    files = files_of(pattern)
    given = {path: given_split(path) for path in files}
    by_hash = not any(given.values())
    blank = 0  # documents without text, of all passes

    def documents() -> Iterator[tuple[Path, Row]]:
        nonlocal blank
        for path in files:
            for row in rows(path, fields):
                if all(text.strip() for text in row):
                    yield path, row
                else:
                    blank += 1

    if by_hash:
        places = array("d", (place(row[0]) for _, row in documents()))
        require(len(places) > 0, "text", pattern, _EMPTY)
        split_of = HashSplits(places, f"text {pattern!r}")
        labels = [split_of(at) for at in places]
        how = f"{SHARE:.0%} each in validation and test, by the hash of the {'source' if fields[1:] else 'document'}"
    else:
        labels = [given[path] or "" for path, _ in documents()]
        require(bool(labels), "text", pattern, _EMPTY)
        how = "as the folder has them"

    def texts(split: str) -> Iterator[Row]:
        yield from (row for label, (_, row) in zip(labels, documents(), strict=True) if label == split)

    counts = Counter(labels)
    ordered = {split: counts[split] for split in sorted(counts, key=lambda s: (s not in SPLITS, s != "train", s))}
    patterns = [f"{pattern}/**"] if expanded(pattern).is_dir() else [pattern]
    source = {**origin(None, {}, patterns), "text": absolute(pattern), "field": field}
    features = ("targets",) if len(fields) == 1 else ("inputs", "targets")
    print(f"task {name}: {len(labels):,} documents of {len(files):,} file{'s' * (len(files) != 1)}; splits: {how}")
    if blank:
        print(f"documents without text, left out: {blank:,}")
    return Plain(name, features, ordered, source, texts)


_EMPTY = "files with text in them; all that match are empty"


def default_name(pattern: str) -> str:
    """The name of a task of files: that of the folder or file, or of the folder that a pattern's files are in."""
    path = Path(pattern)
    while has_magic(path.name):
        path = path.parent
    name = re.sub(r"[^\w-]+", "_", path.name.partition(".")[0]).strip("_")
    require(bool(name), "text", pattern, "a name to call the task by; give --task NAME")
    return name
