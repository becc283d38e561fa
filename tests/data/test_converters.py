"""seqio's feature converters as oracles: what they make of our sources and labels is what our rows hold."""

from __future__ import annotations

import numpy as np
import pytest

from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import frame_of
from encdec_jax.data.packing import Batch, assemble
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.model.arch import ARCHS

seqio = pytest.importorskip("seqio")
pytestmark = pytest.mark.slow  # TensorFlow
LENGTH, ROWS = 40, 6
OBJECTIVES = {
    "span_corruption": ObjectiveConfig("span_corruption"),
    "scattered_spans": ObjectiveConfig("scattered_spans"),
    "ul2": ObjectiveConfig("ul2"),
    "bart": ObjectiveConfig("bart", noise_density=0.3),
    "drop_tokens": ObjectiveConfig("drop_tokens"),
    "gap_sentences": ObjectiveConfig("gap_sentences"),
}


def batches(config: ObjectiveConfig, arch: str) -> tuple[Batch, list[dict[str, np.ndarray]]]:
    """Rows of one segment each, and the examples that a seqio Task would have for them."""
    objective, vocab, data = objective_of(config), ByteVocab(), DataConfig(length=LENGTH)
    text = np.array(vocab.encode("Two of them went. One of them came back? Nobody saw! " * 20))
    windows = np.stack([text[i * 31 :][: LENGTH + 1] for i in range(ROWS)]).astype(np.int32)
    segments = objective.view(windows, np.arange(ROWS), 0, frame_of(objective, vocab, data))
    layout = objective.layout(ARCHS[arch], data)
    parts = [
        np.split(tokens, np.cumsum(lengths)[:-1])
        for tokens, lengths in (
            (segments.source, segments.source_lengths),
            (segments.labels, segments.target_lengths),
        )
    ]
    examples = [{"inputs": source, "targets": labels} for source, labels in zip(*parts, strict=True)]
    return assemble(ARCHS[arch], layout, np.arange(ROWS), ROWS, segments), examples


def converted(converter: type, examples: list[dict[str, np.ndarray]], **lengths: int) -> dict[str, np.ndarray]:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_generator(
        lambda: iter(examples),
        output_signature={name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")},
    )
    rows = list(converter(pack=False)(dataset, lengths).as_numpy_iterator())
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_streams_are_those_of_the_encoder_decoder_converter(name):
    batch, examples = batches(OBJECTIVES[name], "enc_dec")
    source, target = batch.source.tokens.shape[1], batch.target.tokens.shape[1]
    theirs = converted(seqio.EncDecFeatureConverter, examples, inputs=source, targets=target)
    np.testing.assert_array_equal(batch.source.tokens, theirs["encoder_input_tokens"])
    read = theirs["decoder_loss_weights"] > 0  # behind a target its last label is read too, to predict padding
    np.testing.assert_array_equal(batch.target.tokens, np.where(read, theirs["decoder_input_tokens"], 0))
    np.testing.assert_array_equal(batch.labels, theirs["decoder_target_tokens"])
    np.testing.assert_array_equal(batch.weights, theirs["decoder_loss_weights"])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_stream_scores_what_the_prefix_lm_converter_scores(name):
    """It shifts source and target together, we the target alone: START stands before the source, or behind it."""
    batch, examples = batches(OBJECTIVES[name], "prefix_lm")
    longest = {name: max(len(example[name]) for example in examples) for name in ("inputs", "targets")}
    theirs = converted(seqio.PrefixLMFeatureConverter, examples, **longest)
    for row in range(ROWS):
        weights = theirs["decoder_loss_weights"][row] > 0
        labels = theirs["decoder_target_tokens"][row][weights]
        np.testing.assert_array_equal(batch.labels[row][batch.weights[row] > 0], labels)
        read = theirs["decoder_input_tokens"][row][: len(examples[row]["inputs"]) + len(labels)]
        ours = batch.target.tokens[row][: len(read)]
        n = len(examples[row]["inputs"])
        np.testing.assert_array_equal(np.roll(ours[: n + 1], 1), read[: n + 1])
        np.testing.assert_array_equal(ours[n + 1 :], read[n + 1 :])
        assert batch.target.open[row].sum() == theirs["decoder_causal_attention"][row].sum() - 1
