"""What every objective promises: texts that can be restored, the lengths it says, views of seed and place alone."""

from collections import Counter
from dataclasses import replace
from math import ceil
from typing import get_args, get_type_hints

import numpy as np
import pytest
from data.fake import FakeCache, pair_cache
from hypothesis import given, settings
from hypothesis import strategies as st
from support import model_config

from encdec_jax.compute.ledger import count
from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.batches import Batches
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.config import DataConfig, ObjectiveConfig, Part
from encdec_jax.data.geometry import geometry
from encdec_jax.data.objectives.masks import RARE, Infilled, Scattered, Spans
from encdec_jax.data.objectives.named import NAMED, T5GEMMA2, UL2, described, objective_of
from encdec_jax.data.objectives.objective import START, Frame, Segments, frame_of, required_vocab_size
from encdec_jax.data.objectives.orders import sentences_of
from encdec_jax.data.vocab import EOS, ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.arch import ARCHS
from encdec_jax.sweep.algebra import axis, grid, override
from encdec_jax.sweep.identity import run_id
from encdec_jax.train.config import TrainConfig

VOCAB, LENGTH = ByteVocab(), 60
SENTENCES = "In the beginning was the word. Was it so? It was good! And the light shines in the dark, v. 3.5 of it. "
IDS = np.array(VOCAB.encode(SENTENCES) * 400)
COMPOSED = {
    "mixture": ObjectiveConfig(
        "mixture",
        parts=(
            Part(1.0, ObjectiveConfig("prefix_lm", "random")),
            Part(3.0, ObjectiveConfig("scattered_spans")),
            Part(2.0, ObjectiveConfig("bart", noise_density=0.3)),
        ),
    ),
    "schedule": ObjectiveConfig(
        "schedule", parts=(Part(3.0, ObjectiveConfig("ul2")), Part(1.0, ObjectiveConfig("prefix_lm")))
    ),
}
PAIRS = ObjectiveConfig("seq2seq")
ALL = COMPOSED | {name: ObjectiveConfig(name) for name in NAMED if name not in ("seq2seq", *COMPOSED)}
ALL |= {
    "random": ObjectiveConfig("prefix_lm", "random"),
    "fraction": ObjectiveConfig("prefix_lm", "fraction", prefix_fraction=0.3),
    "tuned": ObjectiveConfig("span_corruption", tuning=0.1),
    "random_gaps": ObjectiveConfig("gap_sentences", sentences="random"),
    "bart_paper": ObjectiveConfig("bart", noise_density=0.3),
}
KNOWN = {name: config for name, config in ALL.items() if not objective_of(config).of_text}
every = pytest.mark.parametrize("name", ALL)


def texts(n: int, length: int = LENGTH) -> np.ndarray:
    return np.stack([IDS[i * 37 % 20_000 :][: length + 1] for i in range(n)]).astype(np.int32)


def frame(config: ObjectiveConfig, length: int = LENGTH, windows: int = 0) -> Frame:
    return frame_of(objective_of(config), VOCAB, DataConfig(length=length), windows)


def view(config: ObjectiveConfig, windows: np.ndarray, places: np.ndarray, seed: int = 0, total: int = 0) -> Segments:
    return objective_of(config).view(windows, places, seed, frame(config, windows.shape[1] - 1, total))


def apart(tokens: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    return [part.tolist() for part in np.split(tokens, np.cumsum(lengths)[:-1])]


def each(segments: Segments) -> list[tuple[list[int], list[int], list[int]]]:
    sources = apart(segments.source, segments.source_lengths)
    inputs, labels = (apart(part, segments.target_lengths) for part in (segments.inputs, segments.labels))
    return list(zip(sources, inputs, labels, strict=True))


def readable(name: str, arch: str) -> bool:
    try:
        objective_of(ALL[name]).check(ARCHS[arch], DataConfig(length=LENGTH))
    except UserError:
        return False
    return True


CASES = [(name, arch) for name in ALL for arch in ARCHS if readable(name, arch)]


def run_of(name: str, arch: str, **train: int) -> RunConfig:
    return RunConfig(
        model_config(arch, vocab_size=400),
        DataConfig(length=LENGTH),
        ALL[name],
        train=TrainConfig(**{"batch_size": 4, "tokens": 400 * LENGTH, **train}),
        evaluate=EvalConfig(prefix=8, suffix=8, windows=2),
    )


def test_every_name_is_an_objective():
    assert set(get_args(get_type_hints(ObjectiveConfig)["name"])) == set(NAMED)
    assert {arch for _, arch in CASES} == set(ARCHS)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_each_field_changes_the_view_or_is_refused(name: str) -> None:
    """Else runs that are one computation would have two ids; whole schedules and mixtures are their parts'."""
    base, refused = ALL.get(name, PAIRS), []

    def seen(config: ObjectiveConfig) -> object:
        objective = objective_of(config)
        return objective if objective.pairs else list(map(str, view(config, texts(40), np.arange(40), 0, 80)))

    others = ({"prefix": "random"}, {"prefix": "fixed", "prefix_length": 5}, {"noise_density": 0.3}, {"mean_span": 5.0})
    for changes in (*others, {"prefix": "fraction", "prefix_fraction": 0.2}, {"sentences": "random"}):
        try:
            found = seen(replace(base, **changes))
        except UserError as error:
            refused.append((changes, str(error)))
        else:
            assert found != seen(base), changes
    for changes, message in refused:
        assert any(f"objective.{field} = {value!r} is not accepted: " in message for field, value in changes.items())


@every
def test_a_view_is_of_seed_and_place_alone(name):
    windows, places = texts(8), np.arange(96, 104)
    whole = view(ALL[name], windows, places, 3, 200)
    step = objective_of(ALL[name]).draw
    for first in range(0, 8, step):
        part = view(ALL[name], windows[first : first + step], places[first : first + step], 3, 200)
        for mine, all_ in zip(each(part), each(whole)[first : first + step], strict=True):
            assert mine == all_
    mixed = view(ALL[name], windows[::-1], places[::-1], 3, 200)
    assert each(mixed) == each(whole)[::-1]


@every
def test_ids_are_those_that_the_model_must_know(name):
    segments = view(ALL[name], texts(40), np.arange(40), 0, 80)
    needed = required_vocab_size(objective_of(ALL[name]), VOCAB, DataConfig(length=LENGTH))
    tokens = np.concatenate([segments.source, segments.inputs, segments.labels])
    assert tokens.min() >= 0
    assert tokens.max() < needed


@pytest.mark.parametrize(("name", "arch"), CASES)
def test_batches_have_the_layouts_shapes_and_score_what_they_label(name, arch):
    cache = FakeCache({"train": {"targets": [[*IDS[:8000].tolist(), EOS]]}})
    batches, shape = Batches(cache, run_of(name, arch)), geometry(run_of(name, arch))
    layout = batches.layout
    assert shape.whole or name not in ("causal_lm", "prefix_lm", "fraction", "drop_tokens")
    for step in (0, 99):
        source, target, labels, weights = batches(step)
        assert source is None if not ARCHS[arch].own_stream else source.tokens.shape == (batches.rows, layout.source)
        assert target.tokens.shape == (batches.rows, layout.target)
        assert labels.shape == weights.shape == (batches.rows, layout.scored)
        assert weights.sum() > 0
        if shape.whole:
            for stream in (target,) if source is None else (source, target):
                assert (stream.segment == 1).all()
                assert (np.diff(stream.position, axis=1) == 1).all()
        numbers = np.arange(step * 4, step * 4 + 4)
        segments = batches._read.segments(batches._numbers(numbers), numbers)[1]
        scored = len(segments.labels) if segments.source_weights is None else segments.source_weights.sum()
        assert weights.sum() == scored + (0 if segments.source_weights is None else len(segments.labels))


@pytest.mark.parametrize("name", KNOWN)
def test_the_expected_lengths_are_the_measured_ones(name):
    """Within 0.5 % in tokens and, by their squares, in attention."""
    n = 8000
    config = ALL[name]
    segments = view(config, texts(n), np.arange(n), 5, n)
    expected = objective_of(config).lengths(DataConfig(length=LENGTH))
    assert sum(share for _, _, share in expected) == pytest.approx(1)
    found = Counter(zip(segments.source_lengths.tolist(), segments.target_lengths.tolist(), strict=True))
    assert set(found) <= {(s, t) for s, t, _ in expected}
    for i, measured in ((0, segments.source_lengths), (1, segments.target_lengths)):
        assert sum(kind[i] * kind[2] for kind in expected) == pytest.approx(measured.mean(), rel=0.005)
    squares = sum((s + t) ** 2 * share for s, t, share in expected)
    assert squares == pytest.approx(np.square(segments.source_lengths + segments.target_lengths).mean(), rel=0.005)


@pytest.mark.parametrize(("name", "arch"), [(n, a) for n, a in CASES if n in KNOWN and a in ("enc_dec", "prefix_lm")])
def test_the_ledger_charges_tokens_and_keeps_padding_apart(name, arch):
    run = run_of(name, arch)
    ledger, row = count(run), objective_of(run.objective).layout(ARCHS[arch], run.data)
    source, target, _ = row.held
    expected = objective_of(run.objective).lengths(run.data)
    tokens = row.windows * sum((s + t) * share for s, t, share in expected)
    assert source * row.source + target * row.target == pytest.approx(tokens)
    full = replace(row, segments=((row.source, row.target, 1.0),))
    assert full.held == (1.0, 1.0, 1.0)
    assert (ledger.padding.mask == 0) == (row.held == (1.0, 1.0, 1.0))


def restored(source: list[int], labels: list[int], sentinel: int) -> list[int]:
    runs: dict[int, list[int]] = {}
    for token in labels:
        if token >= sentinel:
            runs[current := token] = []
        else:
            runs[current].append(token)
    assert list(runs) == list(range(sentinel, sentinel + len(runs)))
    assert runs[current] == []
    return [token for item in source for token in runs.get(item, [item])]


@given(
    st.sampled_from(["span_corruption", "scattered_spans", "ul2", "t5gemma2"]),
    st.integers(8, 120),
    st.floats(0.02, 0.95),
    st.floats(1, 12),
    st.integers(0, 2**31),
)
@settings(max_examples=120, deadline=None)
def test_spans_restore_the_text(name, length, density, mean, seed):
    read = {
        "span_corruption": {"mean_span": mean, "noise_density": density},
        "scattered_spans": {"noise_density": density},
    }
    config = ObjectiveConfig(name, **read.get(name, {}))
    windows, known = texts(4, length), frame(config, length)
    modes = set(known.marks.values())
    for text, (source, inputs, labels) in zip(
        windows, each(view(config, windows, np.arange(4) + seed, seed)), strict=True
    ):
        if modes:
            assert source.pop(0) in modes
        assert restored(source, labels, known.sentinel) == text[:-1].tolist()
        assert inputs == [START, *labels[:-1]]


@given(st.integers(8, 120), st.floats(0.02, 0.95), st.floats(1, 8), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_infilling_leaves_one_mask_a_span_and_asks_for_the_whole(length, density, mean, seed):
    config = ObjectiveConfig("text_infilling", noise_density=density, mean_span=mean)
    windows, known = texts(4, length), frame(config, length)
    noise = min(max(round(length * density), 1), length - 1)
    most = objective_of(config).mask.spans(length)[-1][0]
    drawn = objective_of(config).mask.draw(length, np.arange(4) + seed, seed)
    assert (drawn.mask.sum(axis=1) == noise).all()
    assert (drawn.before.sum(axis=1) <= most).all()
    for row, (source, inputs, labels) in enumerate(each(view(config, windows, np.arange(4) + seed, seed))):
        text = windows[row, :-1]
        assert labels == [*text.tolist(), EOS]
        assert inputs == [START, *labels[:-1]]
        kept = [token for token in source if token != known.marks["mask"]]
        assert kept == text[~drawn.mask[row]].tolist()
        assert len(source) - len(kept) == drawn.before[row].sum()


def test_infilled_spans_have_poissons_lengths():
    mask = Infilled(0.3, 3.0)
    drawn = mask.draw(400, np.arange(3000), 1)
    spans = drawn.before.sum(axis=1)
    expected = mask.spans(400)
    assert sum(share for _, share in expected) == pytest.approx(1)
    assert expected[-1][1] <= 2 * RARE
    assert spans.mean() == pytest.approx(sum(n * share for n, share in expected), rel=0.005)
    # 120 tokens in lengths of mean 3, the last cut; 1 in e^3 has none, and leaves a mask where no token went.
    assert ceil(120 / 3) <= spans.mean() <= 120 / 3 + 1
    empty = drawn.before[:, :-1].sum() + drawn.before[:, -1].sum() - _runs(drawn.mask)
    assert empty > 0


def _runs(mask: np.ndarray) -> int:
    return int((mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]).sum())


def test_scattered_runs_are_as_many_as_counted():
    length, mask = 40, Scattered(0.3)
    drawn = mask.draw(length, np.arange(6000), 0)
    assert (drawn.mask.sum(axis=1) == 12).all()
    runs, found = dict(mask.spans(length)), Counter(drawn.before.sum(axis=1).tolist())
    assert sum(runs.values()) == pytest.approx(1)
    for n, share in runs.items():
        assert found[n] / 6000 == pytest.approx(share, abs=0.02)
    assert abs(drawn.mask.mean(axis=0) - 0.3).max() < 0.03  # no place is likelier than another


def test_bert_and_mass_mask_in_place_and_ask_for_the_whole():
    windows = texts(200)
    for name, others in (("mass_style", 0.0), ("bert_style", 0.1)):
        config = ObjectiveConfig(name)
        known = frame(config)
        swaps = 0
        for text, (source, _, labels) in zip(windows, each(view(config, windows, np.arange(200))), strict=True):
            assert labels == [*text[:-1].tolist(), EOS]
            changed = np.array(source) != text[:-1]
            masks = np.array(source) == known.marks["mask"]
            assert masks.sum() <= 9  # 15 % of 60
            swaps += 9 - masks.sum()
            assert changed.sum() <= 9
        assert swaps / (200 * 9) == pytest.approx(others, abs=0.03)
    rare = view(ObjectiveConfig("bert_style"), np.full((300, 61), 100, np.int32), np.arange(300)).source
    assert np.unique(rare[(rare != 100) & (rare < 259)]).size > 100  # of 256 bytes


def test_dropped_tokens_are_the_target_in_their_order():
    config = ObjectiveConfig("drop_tokens", noise_density=0.25)
    windows = texts(5)
    masks = objective_of(config).mask.draw(LENGTH, np.arange(5), 0).mask
    for text, mask, (source, _, labels) in zip(windows, masks, each(view(config, windows, np.arange(5))), strict=True):
        assert source == text[:-1][~mask].tolist()
        assert labels == [*text[:-1][mask].tolist(), EOS]


def test_orders_keep_the_tokens():
    windows = texts(30)
    known = frame(ObjectiveConfig("sentence_permutation"))
    numbers = sentences_of(windows[:, :-1], known)
    for name in ("deshuffling", "sentence_permutation", "document_rotation"):
        moved = 0
        for row, (source, _, labels) in enumerate(each(view(ObjectiveConfig(name), windows, np.arange(30)))):
            text = windows[row, :-1].tolist()
            assert labels == [*text, EOS]
            assert sorted(source) == sorted(text)
            moved += source != text
            if name == "document_rotation":
                assert any(source == text[i:] + text[:i] for i in range(LENGTH))
            elif name == "sentence_permutation":
                sentences = Counter(tuple(part) for part in _sentences(text, numbers[row]))
                assert sum(Counter(_found(source, sentences)).values()) == sum(sentences.values())
        assert moved > 10


def _sentences(text: list[int], number: np.ndarray) -> list[list[int]]:
    return [[t for t, n in zip(text, number, strict=True) if n == i] for i in range(number[-1] + 1)]


def _found(source: list[int], sentences: Counter) -> list[tuple[int, ...]]:
    """The source taken apart into the sentences again."""
    if not source:
        return []
    for sentence in sentences:
        if sentences[sentence] and tuple(source[: len(sentence)]) == sentence:
            rest = _found(source[len(sentence) :], sentences - Counter([sentence]))
            if rest is not None:
                return [sentence, *rest]
    return None


def test_sentences_end_behind_full_stops_that_space_follows():
    known = frame(ObjectiveConfig("sentence_permutation"))
    text = np.array([[*VOCAB.encode("Is it? 3.5 of v.I. Yes!"), EOS, *VOCAB.encode("No")]])
    parts = [VOCAB.decode(part) for part in _sentences(text[0].tolist(), sentences_of(text, known)[0])]
    assert parts == ["Is it?", " 3.5 of v.I.", " Yes!", "", "No"]


def test_gaps_take_whole_sentences_of_the_highest_scores():
    config = ObjectiveConfig("gap_sentences")
    windows, known = texts(60, 200), frame(config, 200)
    numbers = sentences_of(windows[:, :-1], known)
    kept = 0
    for row, (source, inputs, labels) in enumerate(each(view(config, windows, np.arange(60)))):
        text = windows[row, :-1].tolist()
        assert inputs == [START, *labels[:-1]]
        assert labels[-1] == EOS
        assert len(labels) <= 101
        sentences = _sentences(text, numbers[row])
        assert len(sentences) >= 1
        taken = [s for s in sentences if _inside(s, labels)]
        assert taken or len(labels) == 101
        masks = source.count(known.marks["mask"])
        kept += masks == 0
        rest = [token for token in source if token != known.marks["mask"]]
        assert len(rest) + len(labels) - 1 == 200 or masks < max(1, len(taken))
    assert 0 < kept < 20


def _inside(part: list[int], whole: list[int]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def test_rouge_of_known_sentences():
    from encdec_jax.data.objectives.gaps import rouge

    words = np.array([1, 2, 3, 1, 2, 9, 9])
    number = np.array([0, 0, 0, 1, 1, 1, 2])
    # Against the others: 2 of 3 and 4 words are shared; 3 of 3 and 4; 1 of 1 and 6.
    assert rouge(words, number) == pytest.approx([2 * 2 / 7, 2 * 3 / 7, 2 * 1 / 7])


def test_a_middle_is_given_its_surroundings():
    config = ObjectiveConfig("fill_in_the_middle")
    windows, known = texts(40), frame(config)
    marks, tokens = known.marks, []
    for text, (source, inputs, labels) in zip(windows, each(view(config, windows, np.arange(40))), strict=True):
        assert (source[0], inputs[0], labels[-1]) == (marks["prefix"], marks["middle"], marks["end"])
        assert inputs[1:] == labels[:-1]
        at = source.index(marks["suffix"])
        assert source[1:at] + labels[:-1] + source[at + 1 :] == text[:-1].tolist()
        tokens.append(len(labels) - 1)
    assert all(a + b == LENGTH for a, b in zip(tokens[::2], tokens[1::2], strict=True))


def test_an_encoder_predicts_what_is_masked_where_it_stood():
    config, windows = ObjectiveConfig("masked_lm"), texts(300)
    segments = view(config, windows, np.arange(300))
    mask = frame(config).marks["mask"]
    weighed = segments.source_weights > 0
    assert (segments.source_labels == windows[:, :-1].reshape(-1)).all()
    assert weighed.sum() == 300 * 9
    assert (segments.source[~weighed] == segments.source_labels[~weighed]).all()
    shares = ((segments.source == mask)[weighed].mean(), (segments.source == segments.source_labels)[weighed].mean())
    assert shares == pytest.approx((0.81, 0.1), abs=0.03)


def test_a_loss_on_the_source_is_that_of_a_causal_lm():
    windows = texts(4)
    segments = view(ObjectiveConfig("prefix_lm", source_loss=True), windows, np.arange(4))
    assert segments.source_labels.tolist() == windows[:, 1 : LENGTH // 2 + 1].reshape(-1).tolist()
    assert (segments.source_weights == 1).all()
    run = replace(run_of("prefix_lm", "causal_lm"), objective=ObjectiveConfig("prefix_lm", source_loss=True))
    causal = run_of("causal_lm", "causal_lm")
    cache = FakeCache({"train": {"targets": [[*IDS[:8000].tolist(), EOS]]}})
    ours, theirs = (Batches(cache, one)(3) for one in (run, causal))
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.weights, theirs.weights)
    assert count(run).train_flops.mask == count(causal).train_flops.mask


def test_shares_of_modes_match_their_weights():
    n = 700
    for name, parts, share in (("ul2", UL2, 1 / 7), ("t5gemma2", T5GEMMA2, 1 / 2)):
        config = ObjectiveConfig(name)
        marks = {mark: mode for mode, mark in frame(config).marks.items()}
        modes = Counter(marks[source[0]] for source, _, _ in each(view(config, texts(n), np.arange(n))))
        each_share = (1 - share) / (len(parts) - 1)
        assert modes["S"] / n == pytest.approx(share, abs=0.006)
        assert modes["R"] / n == pytest.approx(each_share * sum(part.mode == "R" for part in parts), abs=0.006)


def test_numbers_that_t5_and_ul2_give():
    """Counted by hand: 512 tokens, 15 % in spans of 3; UL2's denoisers on 512; 500 tokens, 25 spans (T5, 3.3.4)."""
    data = DataConfig(length=512)
    assert objective_of(ObjectiveConfig("span_corruption")).lengths(data) == ((512 - 77 + 26, 77 + 26 + 1, 1.0),)
    assert Spans(0.15, 3).spans(500) == ((25, 1.0),)
    assert [(part.mask.tokens(512), part.mask.spans(512)[0][0]) for part in UL2] == [
        (128, 1),
        (77, 26),
        (77, 10),
        (256, 85),
        (256, 32),
        (77, 1),
        (256, 4),
    ]
    assert [part.mode for part in UL2] == list("SRRXXXX")
    assert [(part.mask.tokens(512), part.mask.spans(512)[0][0]) for part in T5GEMMA2] == [
        (384, 1),
        (77, 26),
        (256, 21),
        (77, 2),
        (256, 8),
    ]


def test_a_schedule_turns_at_its_share_of_the_run():
    config = replace(ObjectiveConfig("span_corruption"), tuning=0.25)
    segments = view(config, texts(80), np.arange(80), 0, 80)
    noise = {kind[:2] for kind in objective_of(ObjectiveConfig("span_corruption")).lengths(DataConfig(length=LENGTH))}
    lengths = list(zip(segments.source_lengths.tolist(), segments.target_lengths.tolist(), strict=True))
    assert set(lengths[:60]) == noise
    assert all(s + t == LENGTH for s, t in lengths[60:])


def test_the_tuning_is_charged():
    plain, tuned = (run_of(name, "enc_dec") for name in ("span_corruption", "tuned"))
    cut = run_of("random", "enc_dec")
    flops = [count(run).train_flops.mask for run in (plain, cut, tuned)]
    assert flops[2] == pytest.approx(0.9 * flops[0] + 0.1 * flops[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "ul2", "source_loss": True}, "objective.source_loss = True is not accepted: false"),
        ({"name": "prefix_lm", "prefix": "fraction"}, "objective.prefix_fraction = 0.0 is not accepted: between"),
        ({"name": "prefix_lm", "prefix_fraction": 0.5}, "objective.prefix_fraction = 0.5 is not accepted: 0"),
        ({"name": "mixture"}, "objective.parts = 0 is not accepted: at least two parts"),
        ({"name": "ul2", "parts": COMPOSED["mixture"].parts}, "objective.parts = 3 is not accepted: none"),
        ({"name": "ul2", "tuning": 1.0}, "objective.tuning = 1.0 is not accepted"),
    ],
)
def test_what_an_objective_does_not_take_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        ObjectiveConfig(**changes)


@pytest.mark.parametrize(
    ("arch", "objective", "message"),
    [
        ("enc_dec", ObjectiveConfig("masked_lm"), "objective.name = 'masked_lm' is not accepted: an objective with a"),
        ("causal_lm", ObjectiveConfig("masked_lm"), "objective.name = 'masked_lm' is not accepted"),
        ("prefix_lm", ObjectiveConfig("prefix_lm", source_loss=True), "objective.source_loss = True is not accepted"),
        ("enc_dec", ObjectiveConfig("fill_in_the_middle", source_loss=True), "objective.source_loss = True"),
        (
            "enc_dec",
            ObjectiveConfig("schedule", parts=(Part(1.0, ObjectiveConfig()), Part(1.0, ObjectiveConfig("ul2")))),
            "objective.name = 'causal_lm' is not accepted: an objective with a source",
        ),
        ("enc_dec", replace(PAIRS, tuning=0.1), r"objective.tuning = 0.1 is not accepted: 0, because objective.name"),
        ("enc_dec", replace(COMPOSED["schedule"], tuning=0.1), "objective.tuning = 0.1 is not accepted: 0, because"),
        (
            "enc_dec",
            ObjectiveConfig(
                "mixture", parts=(Part(1.0, ObjectiveConfig("seq2seq")), Part(1.0, ObjectiveConfig("ul2")))
            ),
            "objective.parts = 'Seq2Seq' is not accepted: objectives of windows of text",
        ),
    ],
)
def test_what_an_architecture_can_not_read_is_refused_before_anything_is_spent(arch, objective, message):
    with pytest.raises(UserError, match=message):
        RunConfig(model_config(arch), DataConfig(length=LENGTH), objective)


def test_the_sweep_algebra_makes_matched_grids_of_any_objective():
    points = grid(axis("objective", *KNOWN.values()), axis("train.batch_size", 8))
    runs = [override(run_of("ul2", "prefix_lm"), point) for point in points]
    matched = match(runs, train_flops=3e9, min_updates=100)
    assert [run.objective for run in matched] == list(KNOWN.values())
    for run in matched:
        assert geometry(run).updates * count(run).train_flops.mask == pytest.approx(3e9, rel=0.02)
    assert len({run_id(run) for run in matched}) == len(set(KNOWN.values()))


def test_objectives_that_differ_are_described_apart():
    said = [described(config, whole=True) for config in ALL.values()]
    assert len(set(said)) == len(said)
    assert described(ObjectiveConfig("prefix_lm", "random")) == "prefix_lm"
    assert described(ALL["bart_paper"]) == "bart (noise_density 0.3)"
    assert described(COMPOSED["schedule"]) == "schedule (3 ul2 then 1 prefix_lm)"
    assert described(COMPOSED["mixture"]) == (
        "mixture (1 prefix_lm (prefix random) + 3 scattered_spans + 2 bart (noise_density 0.3))"
    )


@every
def test_a_prompt_is_what_training_shows(name):
    """Its source has the marks that sources have, and the target's first input is one that targets begin with."""
    config = ALL[name]
    known, text = frame(config), VOCAB.encode("the quick brown")
    if name == "masked_lm":
        with pytest.raises(UserError, match=r"objective\.name = 'masked_lm' is not accepted"):
            objective_of(config).prompt(text, known)
        return
    source, first, end = objective_of(config).prompt(text, known)
    assert max([*source, first, end]) < required_vocab_size(objective_of(config), VOCAB, DataConfig(length=LENGTH))
    segments = view(config, texts(120), np.arange(120), 0, 120)
    starts = {inputs[0] for _, inputs, _ in each(segments)}
    if first in text:  # the text itself goes on
        assert [*source, first] == text
        assert min(starts) >= 3 or name in ("tuned", "mixture", "schedule")
    else:
        assert first in starts
        assert VOCAB.decode(source) == "the quick brown"
        assert set(source) - set(text) <= {token for s, _, _ in each(segments) for token in s}


def test_a_pair_s_source_predicts_itself_and_not_where_its_target_starts():
    run = replace(run_of("causal_lm", "causal_lm"), data=DataConfig(source_length=40, target_length=30))
    counts = []
    for loss in (False, True):
        batches = Batches(pair_cache(), replace(run, objective=replace(PAIRS, source_loss=loss)))
        batch = batches(0)
        tokens, weights = batch.target.tokens[:, 1:], batch.weights[:, :-1]
        same = batch.labels[:, :-1] == tokens  # but where a target ends
        counts.append(batch.weights.sum())
        opening = (tokens == START) & (batch.target.segment[:, 1:] > 0)
        assert opening.any()
        assert not weights[opening].any()
        ends = batch.target.segment[:, 1:] != batch.target.segment[:, :-1]
        assert same[(weights > 0) & ~ends].all()
    assert counts[1] > counts[0] > 0


@pytest.mark.parametrize("config", [ALL["gap_sentences"], replace(ALL["random_gaps"], tuning=0.1)])
def test_where_the_text_decides_lengths_are_measured(folders, config):
    """The ledger's tokens are those of a run of another seed, within 0.5 %."""
    rng = np.random.default_rng(0)
    words = ["it", "was", "a", "light", "in", "the", "dark.", "Who?", "went", "home."]
    documents = [(VOCAB.encode(" ".join(rng.choice(words, 4000))),) for _ in range(8)]
    write_cache("text", VOCAB, ("targets",), {"train": documents, "validation": documents})
    run = run_of("ul2", "enc_dec", batch_size=20, tokens=400 * 20 * LENGTH, seed=5)
    run = replace(run, objective=config, data=replace(run.data, task="text"))
    batches, row = Batches(TokenCache.open("text", "bytes"), run), count(run).row
    chunk = batches.chunk(0, 400)
    for held, stream in zip(row.held, (chunk.source, chunk.target), strict=False):
        assert held == pytest.approx((stream.segment > 0).mean(), rel=0.005)
    with pytest.raises(UserError, match="first encdec prepare"):
        count(replace(run, data=replace(run.data, task="absent")))
