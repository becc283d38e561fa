"""(d) The input pipeline on one core: tokens a second over what the train step consumes, and over seqio's pipeline.

Both pipelines begin at the same tokens, prepared, and end at batches of an encoder-decoder's span corruption (T5). That
of seqio is a Task whose preprocessor corrupts windows that were cut before, in TensorFlow, and its converter: it
neither reads a disk nor tokenises, cuts or hashes. Ours does all that it does in a run: it reads, shuffles, cuts and
corrupts windows, and hashes them. The seconds of these two are the process's on the core, all threads together, so
that other work on the machine is in neither.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np

from encdec_jax.config import RunConfig
from encdec_jax.data.batches import Batches, combine
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.config import ObjectiveConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.prepare import prepare
from encdec_jax.data.windows import Windows
from encdec_jax.sweep.algebra import override
from encdec_jax.sweep.experiment import load
from encdec_jax.train.loop import train

SECONDS = float(os.environ.get("SECONDS_EACH", "3"))
LENGTH, BATCH, ROUNDS = 512, 128, 3  # of span corruption, as T5 was trained


def main() -> None:
    runs = load(Path("experiments/quickstart")).runs.values()
    prepare("bible_en")
    for arch in ("causal_lm", "prefix_lm", "enc_dec"):
        # The smallest model takes the most tokens a second.
        run = min((run for run in runs if run.model.arch == arch), key=lambda run: run.model.decoder.d_model)
        run = override(run, {"train.tokens": 200_000, "train.checkpoint_every": 0, "budget_flops": None})
        with tempfile.TemporaryDirectory() as folder:
            consumed = train(run, Path(folder))["tokens_per_s"]
        made = pipeline(run, time.perf_counter)
        size = f"{arch}, d_model {run.model.decoder.d_model}"
        rates = f"pipeline {made:,.0f} / step {consumed:,.0f} tokens a second"
        print(f"(d) {size}: {rates} = {made / consumed:.1f}; aim: at least 10")
    spans = replace(
        run,
        objective=ObjectiveConfig("span_corruption"),
        data=replace(run.data, length=LENGTH),
        train=replace(run.train, batch_size=BATCH),
    )
    ours, theirs = zip(*((pipeline(spans, time.process_time), with_seqio(spans)) for _ in range(ROUNDS)), strict=True)
    ratio = float(np.median(np.divide(ours, theirs)))
    rates = f"ours {np.median(ours):,.0f} / seqio {np.median(theirs):,.0f} tokens a second"
    print(
        f"(d) span corruption, {LENGTH} tokens: {rates} of the core = {ratio:.1f}, median of {ROUNDS}; aim: at least 5"
    )


def pipeline(run: RunConfig, clock: Callable[[], float]) -> float:
    cache = TokenCache.open(run.data.task, run.data.vocab)
    batches = Batches(cache, run)
    per_call, seen, digest = run.train.steps_per_call, 0, ""
    start = clock()
    while clock() - start < SECONDS:
        batches.chunk(seen, per_call)
        for step in range(seen, seen + per_call):
            digest = combine(batches.digests(step), digest)
        seen += per_call
    tokens = seen * run.train.batch_size * run.data.length
    return tokens / (clock() - start)


def with_seqio(run: RunConfig) -> float:
    """Tokens a second of seqio's pipeline: its Task of windows in memory, corrupted and converted."""
    import seqio
    import tensorflow as tf

    cache = TokenCache.open(run.data.task, run.data.vocab)
    length, layout = run.data.length, geometry(run).layout
    cut = Windows(cache, run.data.split, length)
    windows = cut[np.arange(cut.count)][:, :-1]
    vocabulary = seqio.ByteVocabulary()
    noise = round(length * run.objective.noise_density)
    spans = max(1, round(noise / run.objective.mean_span))
    first = tf.constant(vocabulary.vocab_size - 1, tf.int32)

    def parts(total: int, seed: tf.Tensor) -> tf.Tensor:
        """`spans` lengths of at least 1 that add up to `total`, all as likely."""
        begins = tf.random.experimental.stateless_shuffle(tf.range(total - 1) < spans - 1, seed)
        return tf.math.bincount(tf.concat([[0], tf.cumsum(tf.cast(begins, tf.int32))], 0), minlength=spans)

    @seqio.map_over_dataset(num_seeds=2)
    def corrupted(example: dict[str, tf.Tensor], seeds: tf.Tensor) -> dict[str, tf.Tensor]:
        text = example["targets"]
        lengths = tf.reshape(tf.stack([parts(length - noise, seeds[0]), parts(noise, seeds[1])], 1), [-1])
        masked = tf.repeat(tf.range(2 * spans) % 2 == 1, lengths)

        def with_sentinels(hidden: tf.Tensor) -> tf.Tensor:
            begins = hidden & ~tf.concat([[False], hidden[:-1]], 0)
            marks = first + 1 - tf.cumsum(tf.cast(begins, tf.int32))
            return tf.boolean_mask(tf.where(begins, marks, text), ~hidden | begins)

        return {"inputs": with_sentinels(masked), "targets": with_sentinels(~masked)}

    name = f"spans_{time.monotonic_ns()}"
    feature = seqio.Feature(vocabulary, add_eos=True)
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices({"targets": windows}),
            splits=["train"],
        ),
        preprocessors=[corrupted, seqio.preprocessors.append_eos],
        output_features={"inputs": feature, "targets": feature},
    )
    room = {"inputs": layout.source + 1, "targets": layout.target + 1}
    converter = seqio.EncDecFeatureConverter(pack=False)
    data = seqio.get_dataset(name, room, dataset_split="train", shuffle=True, feature_converter=converter, seed=0)
    batches = data.repeat().batch(run.train.batch_size, drop_remainder=True).prefetch(2).as_numpy_iterator()
    example = next(batches)  # what is made once is not timed
    held = [(example[name] > 0).sum(axis=1) for name in ("encoder_input_tokens", "decoder_target_tokens")]
    assert (held[0] == length - noise + spans + 1).all()
    assert (held[1] == noise + spans + 1).all()
    seen, start = 0, time.process_time()
    while time.process_time() - start < SECONDS:
        next(batches)
        seen += 1
    return seen * run.train.batch_size * length / (time.process_time() - start)


if __name__ == "__main__":
    main()
