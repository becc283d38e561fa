"""The shipped text as seqio Tasks: importing this module registers `bible_en` and `bible_en_es`.

Features are raw text; `prepare` tokenises. This module imports TensorFlow, so only `prepare` may import it.
"""

from __future__ import annotations

import functools

import seqio
import tensorflow as tf

from encdec_jax.data.corpus import FEATURES, SPLITS, documents

# A feature of text: a scalar string, which no vocabulary has touched.
TEXT = seqio.Feature(seqio.PassThroughVocabulary(size=1), add_eos=False, dtype=tf.string, rank=0)


def _dataset(split: str, shuffle_files: bool, task: str) -> tf.data.Dataset:
    del shuffle_files  # there are no files: the examples have one order
    examples = documents(task, split)
    return tf.data.Dataset.from_tensor_slices({f: [example[f] for example in examples] for f in FEATURES[task]})


for _task, _features in FEATURES.items():
    seqio.TaskRegistry.add(
        _task,
        source=seqio.FunctionDataSource(functools.partial(_dataset, task=_task), splits=SPLITS),
        preprocessors=[],
        output_features=dict.fromkeys(_features, TEXT),
    )
