"""Read any seqio Task or Mixture, once and in order, as text or as the ids it makes itself.

What is supported: features `targets`, or `inputs` and `targets`. Each is raw text (a scalar string), or token ids with
the text they came from kept beside them as `<feature>_pretokenized` (seqio's `tokenize` keeps it), or token ids alone,
for which the vocabulary is 'own'. A Mixture is read as seqio samples it: by its rates, until its sampling function ends
(by default when the first of its tasks is used up).

This module imports TensorFlow, so only `prepare` may import it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from encdec_jax.data import public, tasks  # noqa: F401 (register the shipped, fetched and public tasks)
from encdec_jax.data.origin import load, origin
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
        sources = {} if module is None else load(module)
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
        self.origin = origin(module, sources, self._patterns())

    def lacking(self, split: str) -> list[str]:
        """The tasks of a Mixture that have no such split, and are left out of it."""
        parts = self._task.tasks if isinstance(self._task, seqio.Mixture) else []
        return [part.name for part in parts if split not in part.splits]

    def examples(self, split: str) -> int | None:
        """How many examples a split has, where the task says so."""
        try:
            return self._task.num_input_examples(split)
        except Exception:  # of any data source; it only shows progress, and reading will say what is wrong
            return None

    def texts(self, split: str) -> Iterator[tuple[str, ...]]:
        """The text of each feature, example by example.

        Raises:
          UserError: a feature is not text and keeps none, a text is not UTF-8, or the task fails.
        """
        dataset = self._dataset(split)
        keys = tuple(self._text_key(feature, dataset.element_spec) for feature in self.features)
        rows = dataset.map(lambda example: tuple(example[key] for key in keys)).batch(BATCH)
        number = 0
        for batch in self._examples(split, rows):
            for row in zip(*batch, strict=True):
                yield tuple(self._decoded(text, split, number) for text in row)
                number += 1

    def examples_of(self, split: str) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
        """Each example as the task makes it, and the text of each of its features.

        Raises:
          UserError: as `texts`.
        """
        dataset = self._dataset(split)
        keys = tuple(self._text_key(feature, dataset.element_spec) for feature in self.features)
        for number, example in enumerate(self._examples(split, dataset)):
            yield example, tuple(self._decoded(example[key], split, number) for key in keys)

    def metric_functions(self) -> tuple[list[Any], list[Any]]:
        """The task's metrics of (targets, predictions), and of (targets, log-likelihoods); a Mixture has none."""
        if isinstance(self._task, seqio.Mixture):
            return [], []
        return list(self._task.predict_metric_fns), list(self._task.score_metric_fns)

    def postprocessed(self, text: str, example: dict[str, Any], is_target: bool) -> Any:
        """What the task's postprocessor makes of a prediction or target, as seqio's evaluator calls it."""
        if isinstance(self._task, seqio.Mixture):
            return text
        return self._task.postprocess_fn(text, example=example, is_target=is_target)

    def ids(self, split: str) -> Iterator[tuple[tuple[np.ndarray, ...], tuple[str | None, ...]]]:
        """The token ids of each feature, int arrays of one dimension, and the text that the task keeps of each, if any.

        Raises:
          UserError: a feature is not token ids, a text is not UTF-8, or the task fails.
        """
        dataset = self._dataset(split)
        for feature in self.features:
            spec = dataset.element_spec[feature]
            whole = spec.dtype.is_integer and spec.shape.rank == 1
            require(whole, f"feature {feature!r} of task {self.name!r}", _kind(spec), "token ids, for vocab 'own'")
        keys = tuple(f"{feature}_pretokenized" for feature in self.features)
        kept = {key for key in keys if key in dataset.element_spec and _is_text(dataset.element_spec[key])}
        for number, example in enumerate(self._examples(split, dataset)):
            texts = tuple(self._decoded(example[key], split, number) if key in kept else None for key in keys)
            yield tuple(example[feature] for feature in self.features), texts

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

    def _decoded(self, text: bytes, split: str, number: int) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            what = f"byte {error.start} is {text[error.start]:#04x}, no UTF-8"
            raise UserError(
                f"example {number} of split {split!r} of task {self.name!r} is not accepted: {what}"
            ) from error

    def _patterns(self) -> Iterator[str]:
        """Names of the data files that the task's sources tell of; those of other machines are none of ours."""
        for task in self._task.tasks if isinstance(self._task, seqio.Mixture) else [self._task]:
            given = getattr(task.source, "_split_to_filepattern", None)
            for split in self.splits:
                try:
                    named = task.source.list_shards(split) if given is None else given[split]
                except Exception:  # of any data source; reading will say what is wrong
                    continue
                for name in [named] if isinstance(named, str | os.PathLike) else named:
                    if "://" not in str(name) and str(name) != split:
                        yield str(name)
        for feature in self._task.output_features.values():
            if isinstance(feature.vocabulary, seqio.SentencePieceVocabulary):
                yield feature.vocabulary.sentencepiece_model_file

    def _unreadable(self, split: str, error: Exception) -> UserError:
        return UserError(f"can't read split {split!r} of task {self.name!r}: {_told(error)}")

    def _text_key(self, feature: str, spec: dict[str, tf.TensorSpec]) -> str:
        for key in (feature, f"{feature}_pretokenized"):
            if key in spec and _is_text(spec[key]):
                return key
        field = f"feature {feature!r} of task {self.name!r}"
        raise UserError(f"{field} = {_kind(spec[feature])} is not accepted: text; for a task's own ids, --vocab own")


def _is_text(spec: tf.TensorSpec) -> bool:
    return bool(spec.dtype == tf.string and spec.shape.rank == 0)


def _kind(spec: tf.TensorSpec) -> str:
    return f"{spec.dtype.name} {spec.shape}"


def _told(error: Exception) -> str:
    """What an exception says, in a line."""
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return f"{type(error).__name__}: {reason}"
