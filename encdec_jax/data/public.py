"""Public datasets of TFDS as seqio Tasks, in the text-to-text format of T5 (arXiv 1910.10683, appendix D).

Importing this module registers them; none is downloaded. What is not built on this disk says so in a line when it is
read. `instruct_rte` and `instruct_boolq` put the task as a question in words, with its options, as instruction tuning
does (FLAN, arXiv 2109.01652). This module imports TensorFlow, so only `prepare` may import it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import seqio
import tensorflow as tf

from encdec_jax.data.tasks import TEXT

Example = dict[str, Any]
Format = Callable[[Example], Example]


def _text(example: Example) -> Example:
    return {"targets": example["text"]}


def _translation(example: Example, source: str, target: str) -> Example:
    names = {"en": "English", "de": "German", "fr": "French", "ro": "Romanian"}
    prefix = f"translate {names[source]} to {names[target]}: "
    return {"inputs": tf.strings.join([prefix, example[source]]), "targets": example[target]}


def _summary(example: Example) -> Example:
    return {"inputs": tf.strings.join(["summarize: ", example["article"]]), "targets": example["highlights"]}


def _answer(example: Example) -> Example:
    answers = example["answers"]["text"]
    parts = ["question: ", example["question"], " context: ", example["context"]]
    return {"inputs": tf.strings.join(parts), "targets": answers[0], "answers": answers}


def _entailment(example: Example) -> Example:
    parts = [
        "Read this: ", example["premise"], "\nDoes it follow that ", example["hypothesis"], "\nOptions: yes, no",
    ]  # fmt: skip
    return {"inputs": tf.strings.join(parts), "targets": tf.where(example["label"] == 0, "yes", "no")}


def _yes_or_no(example: Example) -> Example:
    parts = ["Read this: ", example["passage"], "\nQuestion: ", example["question"], "?\nOptions: yes, no"]
    return {"inputs": tf.strings.join(parts), "targets": tf.where(example["answer"], "yes", "no")}


def _all_answers(text: str, example: Example | None = None, is_target: bool = False) -> Any:
    """Of a target, all answers that people gave: metrics take the nearest."""
    return [one.decode() for one in example["answers"]] if is_target and example else text


def _wmt(pair: str, source: str, target: str) -> tuple[str, Format, tuple[str, ...], Any]:
    return pair, functools.partial(_translation, source=source, target=target), ("inputs", "targets"), None


PAIRS = ("inputs", "targets")
PUBLIC: dict[str, tuple[str, Format, tuple[str, ...], Any]] = {  # name: TFDS's, format, features, postprocessor
    "c4": ("c4/en:3.1.0", _text, ("targets",), None),
    "wmt14_en_de": _wmt("wmt14_translate/de-en:1.0.0", "en", "de"),
    "wmt14_de_en": _wmt("wmt14_translate/de-en:1.0.0", "de", "en"),
    "wmt14_en_fr": _wmt("wmt14_translate/fr-en:1.0.0", "en", "fr"),
    "wmt14_fr_en": _wmt("wmt14_translate/fr-en:1.0.0", "fr", "en"),
    "wmt16_en_ro": _wmt("wmt16_translate/ro-en:1.0.0", "en", "ro"),
    "cnn_dailymail": ("cnn_dailymail:3.4.0", _summary, PAIRS, None),
    "squad": ("squad/v1.1:3.0.0", _answer, PAIRS, _all_answers),
    "instruct_rte": ("super_glue/rte:1.0.2", _entailment, PAIRS, None),
    "instruct_boolq": ("super_glue/boolq:1.0.2", _yes_or_no, PAIRS, None),
}


def _formatted(dataset: tf.data.Dataset, form: Format) -> tf.data.Dataset:
    return dataset.map(form, num_parallel_calls=1)


for _name, (_tfds, _form, _features, _postprocess) in PUBLIC.items():
    seqio.TaskRegistry.add(
        _name,
        source=seqio.TfdsDataSource(_tfds),
        preprocessors=[functools.partial(_formatted, form=_form)],
        output_features=dict.fromkeys(_features, TEXT),
        postprocess_fn=_postprocess,
    )
