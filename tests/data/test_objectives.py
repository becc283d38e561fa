import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.objectives.cut import cut, random_cuts
from encdec_jax.data.objectives.denoise import corrupt
from encdec_jax.data.objectives.masks import in_runs, noise_mask
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import START, Frame, required_vocab_size
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.model.presets import preset

SENTINEL = 259


def view(windows, places, objective, seed):
    return objective_of(objective).view(windows, places, seed, Frame(SENTINEL))


def windows(n: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, SENTINEL, (n, length + 1)).astype(np.int32)


def restored(source: list[int], labels: list[int]) -> list[int]:
    """The text that a source and its target stand for: every sentinel replaced by its run."""
    runs: dict[int, list[int]] = {}
    for token in labels:
        if token >= SENTINEL:
            runs[current := token] = []
        else:
            runs[current].append(token)
    assert list(runs) == list(range(SENTINEL, SENTINEL + len(runs)))
    assert runs[current] == []  # the final sentinel
    return [token for item in source for token in runs.get(item, [item])]


@given(st.integers(4, 200), st.floats(0.01, 0.99), st.floats(1, 20), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_span_corruption_inverts_to_the_text_and_fills_its_lengths(length, density, mean, seed):
    objective = ObjectiveConfig("span_corruption", noise_density=density, mean_span=mean)
    text = windows(3, length, seed)
    segments = view(text, np.arange(3) + seed, objective, seed)
    ((source, target, share),) = objective_of(objective).lengths(DataConfig(length=length))
    noise = min(max(round(length * density), 1), length - 1)
    assert share == 1
    assert segments.source_lengths.tolist() == [source] * 3
    assert segments.target_lengths.tolist() == [target] * 3
    labels, inputs = segments.labels.reshape(3, target), segments.inputs.reshape(3, target)
    assert ((labels < SENTINEL).sum(axis=1) == noise).all()
    for row, kept in enumerate(segments.source.reshape(3, source)):
        assert restored(kept.tolist(), labels[row].tolist()) == text[row, :-1].tolist()
    np.testing.assert_array_equal(inputs[:, 1:], labels[:, :-1])
    assert (inputs[:, 0] == START).all()


def test_a_fixed_prefix_is_as_long_as_it_says():
    objective = ObjectiveConfig("prefix_lm", "fixed", prefix_length=3)
    text = windows(2, 10)
    segments = view(text, np.arange(2), objective, 0)
    assert segments.source_lengths.tolist() == [3, 3]
    assert segments.source.tolist() == text[:, :3].ravel().tolist()
    assert segments.labels.tolist() == text[:, 4:].ravel().tolist()


def test_a_prefix_length_without_a_fixed_prefix_or_beyond_the_window_is_refused():
    with pytest.raises(UserError, match=r"objective\.prefix_length = 0 is not accepted: at least 1 token"):
        ObjectiveConfig("prefix_lm", "fixed")
    with pytest.raises(UserError, match=r"objective\.prefix_length = 3 is not accepted: 0, because"):
        ObjectiveConfig("prefix_lm", "half", prefix_length=3)
    with pytest.raises(UserError, match=r"objective\.prefix_length = 9 is not accepted: less than data\.length = 8"):
        RunConfig(
            preset("enc_dec", d_model=8, dec_layers=1, vocab_size=9),
            DataConfig(length=8),
            ObjectiveConfig("prefix_lm", "fixed", prefix_length=9),
        )


def test_corrupt_of_a_known_mask():
    mask = np.array([[0, 1, 1, 0, 0, 1]], bool)
    segments = corrupt(np.array([[10, 11, 12, 13, 14, 15]], np.int32), in_runs(mask), 100)
    assert segments.source.tolist() == [10, 100, 13, 14, 101]
    assert segments.labels.tolist() == [100, 11, 12, 101, 15, 102]
    assert segments.inputs.tolist() == [START, 100, 11, 12, 101, 15]


def test_noise_runs_have_the_right_number_and_mean():
    mask = noise_mask(100, 15, 5, np.arange(2000), seed=0)
    assert (mask.sum(axis=1) == 15).all()
    assert not mask[:, 0].any()
    assert mask[:, -1].all()
    starts = mask[:, 1:] & ~mask[:, :-1]
    assert (starts.sum(axis=1) == 5).all()
    # Both ends of the first run: 85 kept tokens in 5 runs, 15 noise tokens in 5 runs, all cuts as likely.
    first = mask.argmax(axis=1)
    assert abs(first.mean() - 85 / 5) < 1
    lengths = (~mask[np.arange(2000)[:, None], first[:, None] + np.arange(12)]).argmax(axis=1)
    assert abs(lengths.mean() - 15 / 5) < 0.2


def test_cut_gives_every_architecture_the_same_tokens():
    text = windows(2, 6)
    segments = cut(text, np.array([2, 5]))
    (w, x), (a, b) = text.tolist(), segments.source_lengths.tolist()
    assert (a, b) == (2, 5)
    assert segments.source.tolist() == w[:2] + x[:5]
    assert segments.inputs.tolist() == w[2:6] + x[5:6]
    assert segments.labels.tolist() == w[3:7] + x[6:7]


@pytest.mark.parametrize(("name", "source"), [("causal_lm", 0), ("prefix_lm", 4)])
def test_text_views_cut_where_they_say(name, source):
    segments = view(windows(3, 9), np.arange(3), ObjectiveConfig(name), 0)
    assert segments.source_lengths.tolist() == [source] * 3
    assert segments.target_lengths.tolist() == [9 - source] * 3


def test_random_cuts_come_in_antithetic_pairs_over_the_whole_window():
    cuts = random_cuts(10, np.arange(2000), seed=3)
    assert (cuts[::2] + cuts[1::2] == 10).all()
    assert set(cuts.tolist()) == set(range(1, 10))


@pytest.mark.parametrize("objective", [ObjectiveConfig("prefix_lm", "random"), ObjectiveConfig("span_corruption")])
def test_draws_depend_on_seed_and_place_alone(objective):
    text = windows(1, 64).repeat(8, axis=0)
    places = np.arange(8)
    whole = view(text, places, objective, 0)
    parts = [view(text[p : p + 1], places[p : p + 1], objective, 0) for p in range(8)]
    np.testing.assert_array_equal(whole.source, np.concatenate([part.source for part in parts]))
    np.testing.assert_array_equal(whole.labels, np.concatenate([part.labels for part in parts]))
    assert len({tuple(part.source.tolist()) for part in parts}) > 4
    assert view(text, places, objective, 1).source.tolist() != whole.source.tolist()


@given(st.integers(4, 300), st.floats(0.05, 0.9), st.floats(1, 9))
@settings(max_examples=50, deadline=None)
def test_required_vocab_size_is_one_above_the_highest_id(length, density, mean):
    objective = ObjectiveConfig("span_corruption", noise_density=density, mean_span=mean)
    segments = view(windows(1, length), np.arange(1), objective, 0)
    needed = required_vocab_size(objective_of(objective), ByteVocab(), DataConfig(length=length))
    assert needed == segments.labels.max() + 1


def test_required_vocab_size_without_sentinels():
    for name in ("causal_lm", "prefix_lm", "seq2seq"):
        assert required_vocab_size(objective_of(ObjectiveConfig(name)), ByteVocab(), DataConfig()) == 259
