"""Read any seqio Task or Mixture, once and in order, as text or as the ids it makes itself.

What is supported: features `targets`, or `inputs` and `targets`. Each is raw text (a scalar string), or token ids with
the text they came from kept beside them as `<feature>_pretokenized` (seqio's `tokenize` keeps it), or token ids alone,
for which the vocabulary is 'own'. A Mixture is read as seqio samples it: by its rates, until its sampling function ends
(by default when the first of its tasks is used up).

This module imports TensorFlow, so only `prepare` may import it.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from encdec_jax.data import tasks  # noqa: F401 (registers the shipped tasks)
from encdec_jax.data.vocab import ByteVocab, SentencePieceVocab, Vocab
from encdec_jax.errors import UserError, require

tf.config.set_visible_devices([], "GPU")  # reading text needs none, and TensorFlow would take all of its memory

BATCH = 256  # examples of text taken out of TensorFlow at once: one by one is four times as slow
ORDER = ("train", "validation", "test")  # splits are stored in this order, others after them by name


class Reading:
    """A registered Task or Mixture.

    Args:
      name: of the task.
      module: Python module that registers it, by dotted name or as FILE.py, or None; the working directory is searched
        too.

    Raises:
      UserError: the module can't be imported, the task is not registered or not built, or its features are not
        supported.
    """

    def __init__(self, name: str, module: str | None) -> None:
        if module is not None:
            _import(module)
        names = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
        if name not in names:
            near = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or sorted(names)[:5]
            where = "" if module else "; a task of your own needs --module"
            raise UserError(f"task = {name!r} is not accepted: no such seqio Task or Mixture, near it {near}{where}")
        self.name = name
        self._task = seqio.get_mixture_or_task(name)
        self.splits = sorted(self._splits(), key=lambda s: (ORDER.index(s) if s in ORDER else len(ORDER), s))
        self.features = tuple(sorted(self._task.output_features))
        require(
            self.features in (("targets",), ("inputs", "targets")),
            f"output features of task {name!r}",
            self.features,
            "('targets',) or ('inputs', 'targets')",
        )

    def examples(self, split: str) -> int | None:
        """How many examples a split has, where the task says so."""
        try:
            return self._task.num_input_examples(split)
        except Exception:  # of any data source; it only shows progress, and reading will say what is wrong
            return None

    def texts(self, split: str) -> Iterator[tuple[str, ...]]:
        """The text of each feature, example by example.

        Raises:
          UserError: a feature is not text and keeps none, or the task fails.
        """
        dataset = self._dataset(split)
        keys = tuple(self._text_key(feature, dataset.element_spec) for feature in self.features)
        rows = dataset.map(lambda example: tuple(example[key] for key in keys)).batch(BATCH)
        for batch in self._examples(split, rows):
            for row in zip(*batch, strict=True):
                yield tuple(text.decode(errors="replace") for text in row)

    def ids(self, split: str) -> Iterator[tuple[np.ndarray, ...]]:
        """The token ids of each feature, example by example: int arrays of one dimension.

        Raises:
          UserError: a feature is not token ids, or the task fails.
        """
        dataset = self._dataset(split)
        for feature in self.features:
            spec = dataset.element_spec[feature]
            whole = spec.dtype.is_integer and spec.shape.rank == 1
            require(whole, f"feature {feature!r} of task {self.name!r}", _kind(spec), "token ids, for vocab 'own'")
        for example in self._examples(split, dataset):
            yield tuple(example[feature] for feature in self.features)

    def vocabulary(self) -> Vocab:
        """The task's own vocabulary, under the name 'own'.

        Raises:
          UserError: features differ in it, or it is neither a ByteVocabulary nor a SentencePieceVocabulary.
        """
        own = [feature.vocabulary for feature in self._task.output_features.values()]
        require(all(v == own[0] for v in own), f"vocabularies of task {self.name!r}", own, "one for all features")
        if isinstance(own[0], seqio.ByteVocabulary):
            return ByteVocab("own")
        known = isinstance(own[0], seqio.SentencePieceVocabulary)
        kind, accepted = type(own[0]).__name__, "ByteVocabulary or SentencePieceVocabulary"
        require(known, f"own vocabulary of task {self.name!r}", kind, accepted)
        try:
            with tf.io.gfile.GFile(own[0].sentencepiece_model_file, "rb") as file:
                return SentencePieceVocab("own", file.read())
        except tf.errors.OpError as error:
            raise UserError(f"can't read {own[0].sentencepiece_model_file}: {error.message}") from error

    def _splits(self) -> list[str]:
        try:
            return list(self._task.splits)
        except Exception as error:  # of any data source: TFDS has no such dataset, or it is not built
            told = f"{_told(error)}; a dataset of TFDS must have been built, by `tfds build`"
            raise UserError(f"can't read the splits of task {self.name!r}: {told}") from error

    def _dataset(self, split: str) -> tf.data.Dataset:
        tf.random.set_seed(0)  # of preprocessors that draw
        kept = {"copy_pretokenized": True} if isinstance(self._task, seqio.Mixture) else {}
        try:
            return self._task.get_dataset(sequence_length=None, split=split, shuffle=False, num_epochs=1, **kept)
        except Exception as error:
            raise self._unreadable(split, error) from error

    def _examples(self, split: str, dataset: tf.data.Dataset) -> Iterator[Any]:
        try:
            yield from dataset.as_numpy_iterator()
        except tf.errors.OpError as error:
            raise self._unreadable(split, error) from error

    def _unreadable(self, split: str, error: Exception) -> UserError:
        return UserError(f"can't read split {split!r} of task {self.name!r}: {_told(error)}")

    def _text_key(self, feature: str, spec: dict[str, tf.TensorSpec]) -> str:
        for key in (feature, f"{feature}_pretokenized"):
            if key in spec and spec[key].dtype == tf.string and spec[key].shape.rank == 0:
                return key
        field = f"feature {feature!r} of task {self.name!r}"
        raise UserError(f"{field} = {_kind(spec[feature])} is not accepted: text; for a task's own ids, --vocab own")


def _kind(spec: tf.TensorSpec) -> str:
    return f"{spec.dtype.name} {spec.shape}"


def _told(error: Exception) -> str:
    """What an exception says, in a line."""
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return f"{type(error).__name__}: {reason}"


def _import(module: str) -> None:
    file = Path(module)
    if file.suffix == ".py":
        require(file.is_file(), "module", module, "a dotted name, or a Python file; there is no such file")
    sys.path.insert(0, os.getcwd())
    try:
        if file.suffix == ".py":
            _execute(file)
        else:
            importlib.import_module(module)
    except Exception as error:
        raise UserError(f"module = {module!r} is not accepted: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())


def _execute(file: Path) -> None:
    """Import a file under its own name, from wherever it is; once in a process, as any module."""
    path = str(file.resolve())
    if getattr(sys.modules.get(file.stem), "__file__", None) == path:
        return
    spec = importlib.util.spec_from_file_location(file.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[file.stem] = module
