"""Completing a text: what the model reads is what its objective trains it on."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny import tiny_run, write_noise

from encdec_jax.data.config import ObjectiveConfig
from encdec_jax.data.objectives.cut import cut
from encdec_jax.data.objectives.denoise import corrupt
from encdec_jax.data.objectives.masks import in_runs
from encdec_jax.data.objectives.objective import Layout, Segments
from encdec_jax.data.packing import assemble
from encdec_jax.data.vocab import EOS, ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.infer import complete as module
from encdec_jax.infer.complete import complete
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.streams import streams

TEXT = "the quick brown"
IDS = ByteVocab().encode(TEXT)


@pytest.mark.parametrize("arch", ARCHS)
def test_streams_are_what_training_assembles(arch):
    source, target = np.arange(8)[None] + 3, np.arange(5)[None] + 40
    own = ARCHS[arch].own_stream
    shape = Layout(1, 8 if own else 0, 5 if own else 13, 5, ((8, 5, 1.0),))
    segments = Segments(source[0], np.array([8]), target[0], target[0], np.array([5]))
    batch = assemble(ARCHS[arch], shape, np.array([0]), 1, segments)
    for ours, theirs in zip(streams(ARCHS[arch], source, target), (batch.source, batch.target), strict=True):
        assert (ours is None) == (theirs is None)
        for one, other in zip(ours or (), theirs or (), strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def _objective(name: str) -> Segments:
    """One source and target of the objective, whose source is all that is known of the text."""
    if name == "seq2seq":
        return Segments(np.array([*IDS, EOS]), np.array([len(IDS) + 1]), np.array([0]), np.array([9]), np.array([1]))
    window = np.array([[*IDS, 50, 51, 52]])
    if name == "span_corruption":
        return corrupt(window, in_runs(np.arange(len(IDS) + 3)[None] >= len(IDS)), ByteVocab().sentinel(0))
    return cut(window, np.array([len(IDS) - 1]))


@pytest.mark.parametrize(("name", "ends"), [("prefix_lm", EOS), ("seq2seq", EOS), ("span_corruption", 260)])
def test_a_model_reads_what_its_objective_gives(folders, monkeypatch, name, ends):
    write_noise()
    run = replace(tiny_run("enc_dec"), objective=ObjectiveConfig(name))
    seen = {}

    def written(graph, params, source, first, steps):
        seen.update(source=source, first=first, steps=steps)
        return np.array([[*ByteVocab().encode(" fox"), ends, *IDS]])

    monkeypatch.setattr(module, "greedy", written)
    with jax.disable_jit():
        assert complete(run, None, TEXT, 20) == " fox"
    trained = _objective(name)
    assert seen["source"].tokens[0].tolist() == trained.source.tolist()
    assert seen["first"].tokens[0].tolist() == trained.inputs[:1].tolist()
    assert seen["first"].position[0].tolist() == [len(trained.source)]
    assert seen["steps"] == 20


def test_a_text_too_short_is_refused(folders):
    write_noise()
    with pytest.raises(UserError, match="text = 'I' is not accepted: at least two tokens"):
        complete(tiny_run("enc_dec"), None, "I")
