"""The shipped text, and what `encdec fetch` fetched, as seqio Tasks: importing this module registers them.

Features are raw text; `prepare` tokenises. This module imports TensorFlow, so only `prepare` may import it.
"""

from __future__ import annotations

import functools

import seqio
import tensorflow as tf

from encdec_jax.data.corpus import FEATURES, SPLITS
from encdec_jax.data.fetch.catalogue import FETCHED
from encdec_jax.data.plain import fetched_task, shipped_task

# A feature of text: a scalar string, which no vocabulary has touched.
TEXT = seqio.Feature(seqio.PassThroughVocabulary(size=1), add_eos=False, dtype=tf.string, rank=0)


def _dataset(split: str, shuffle_files: bool, task: str) -> tf.data.Dataset:
    del shuffle_files  # the examples have one order
    found = shipped_task(task) if task in FEATURES else fetched_task(task)
    signature = {feature: tf.TensorSpec((), tf.string) for feature in found.features}
    return tf.data.Dataset.from_generator(
        lambda: (dict(zip(found.features, row, strict=True)) for row in found.texts(split)), output_signature=signature
    )


for _task, _features in {**FEATURES, **{name: task.features for name, task in FETCHED.items()}}.items():
    seqio.TaskRegistry.add(
        _task,
        source=seqio.FunctionDataSource(functools.partial(_dataset, task=_task), splits=SPLITS),
        preprocessors=[],
        output_features=dict.fromkeys(_features, TEXT),
    )
