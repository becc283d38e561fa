import numpy as np
import pytest
from data.fake import pair_cache, text_cache
from support import model_config

from encdec_jax.config import RunConfig
from encdec_jax.data.batches import Batches, combine
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.packing import Batch
from encdec_jax.data.windows import Windows
from encdec_jax.errors import UserError
from encdec_jax.model.arch import ARCHS
from encdec_jax.train.config import TrainConfig

TEXT, PAIRS = text_cache(), pair_cache()
DATA = DataConfig(length=24, source_length=40, target_length=30)
OBJECTIVES = {
    "causal_lm": ObjectiveConfig("causal_lm"),
    "half": ObjectiveConfig("prefix_lm"),
    "fixed": ObjectiveConfig("prefix_lm", "fixed", prefix_length=17),
    "random": ObjectiveConfig("prefix_lm", "random"),
    "span_corruption": ObjectiveConfig("span_corruption"),
    "seq2seq": ObjectiveConfig("seq2seq"),
}
CASES = [(a, o) for a in ARCHS for o in OBJECTIVES if not (ARCHS[a].own_stream and o == "causal_lm")]
every_case = pytest.mark.parametrize(("arch", "objective"), CASES)


def run_of(arch: str, data: DataConfig, objective: ObjectiveConfig, **train: int) -> RunConfig:
    return RunConfig(model_config(arch), data, objective, train=TrainConfig(**train))


def make(arch: str, objective: str, batch_size: int = 8, seed: int = 0, rows=None) -> Batches:
    cache = PAIRS if objective == "seq2seq" else TEXT
    return Batches(cache, run_of(arch, DATA, OBJECTIVES[objective], batch_size=batch_size, seed=seed), rows)


def leaves(batch: Batch) -> list[np.ndarray]:
    streams = [field for stream in (batch.source, batch.target) if stream is not None for field in stream]
    return [*streams, batch.labels, batch.weights]


def same(one: list[np.ndarray], two: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one, two, strict=True))


@every_case
def test_the_rows_of_a_host_are_those_of_the_whole_batch(arch, objective):
    batches = make(arch, objective)
    whole, n = leaves(batches(5)), batches.rows
    for rows in ([0], [n - 1], list(range(n // 2)), [0, n - 1], list(range(n))):
        assert same(leaves(make(arch, objective, rows=rows)(5)), [leaf[rows] for leaf in whole])


@pytest.mark.parametrize("objective", ["causal_lm", "random"])
def test_a_host_reads_and_hashes_its_own_windows_alone(objective, monkeypatch):
    """Every host read and hashed the global batch of every step."""
    read: list[int] = []
    take = Windows.__getitem__

    def watched(self, numbers):
        read.extend(numbers.tolist())
        return take(self, numbers)

    monkeypatch.setattr(Windows, "__getitem__", watched)
    hosts = []
    for rows in ([0, 3], [1, 2]):
        batches = make("causal_lm", objective, rows=rows)
        read.clear()
        batches(5)
        batches.digests(5)
        assert len(read) == 2 * len(batches.here)
        hosts.append(set(read))
        assert len(hosts[-1]) == len(rows) * batches.layout.windows
    assert not hosts[0] & hosts[1]


@every_case
def test_a_batch_is_a_pure_function_of_seed_and_step(arch, objective):
    batches = make(arch, objective)
    before = [leaves(batches(step)) for step in range(4)]
    assert same(leaves(make(arch, objective)(3)), before[3])
    assert same(leaves(batches(1)), before[1])
    assert not same(before[0], before[1])
    assert not same(leaves(make(arch, objective, seed=1)(0)), before[0])
    chunk = leaves(make(arch, objective).chunk(1, 3))
    assert same(chunk, [np.stack(parts) for parts in zip(*before[1:], strict=True)])


@every_case
def test_shapes_are_the_layouts(arch, objective):
    batches = make(arch, objective)
    source, target, labels, weights = batches(0)
    shape = batches.layout
    assert batches.rows == 8 // shape.windows
    assert source is None if not ARCHS[arch].own_stream else source.tokens.shape == (batches.rows, shape.source)
    assert target.tokens.shape == (batches.rows, shape.target)
    assert labels.shape == weights.shape == (batches.rows, shape.scored)
    assert [leaf.dtype for leaf in (target.tokens, target.open, labels, weights)] == [
        "int32",
        "bool",
        "int32",
        "float32",
    ]


@every_case
def test_every_architecture_reads_the_same_windows(arch, objective):
    reference = make("prefix_lm", "half" if objective != "seq2seq" else "seq2seq")
    batches = make(arch, objective)
    for step in (0, 7, 50):
        np.testing.assert_array_equal(batches.windows(step), reference.windows(step))


@pytest.mark.parametrize(
    ("arch", "objective"), [case for case in CASES if case[1] in ("causal_lm", "half", "fixed", "random")]
)
def test_streams_hold_each_window_whole_and_rows_are_full(arch, objective):
    batches = make(arch, objective)
    source, target, labels, weights = batches(2)
    seen = []
    for row in range(batches.rows):
        for segment in range(1, batches.layout.windows + 1):
            parts = [(s.tokens[row], s.position[row], s.segment[row]) for s in (source, target) if s is not None]
            tokens = np.concatenate([t[g == segment] for t, _, g in parts])
            position = np.concatenate([p[g == segment] for _, p, g in parts])
            assert position.tolist() == list(range(DATA.length))
            seen.append(tokens)
    windows = batches.windows(2)
    np.testing.assert_array_equal(seen, windows[:, :-1])
    for stream in (source, target):
        assert stream is None or stream.segment.all()
    scored = target.position[:, -batches.layout.scored :]
    numbers = np.arange(batches.rows)[:, None] * batches.layout.windows + target.segment[:, -scored.shape[1] :] - 1
    np.testing.assert_array_equal((labels == windows[numbers, scored + 1])[weights > 0], True)


@every_case
def test_weights_sum_to_the_targets_tokens(arch, objective):
    batches = make(arch, objective)
    total, length = batches(0).weights.sum(), DATA.length
    if objective == "seq2seq":
        assert total == (batches.windows(0)[:, DATA.source_length :] != 0).sum()
        return
    noise_target = 4 + 1 + 1  # 24 tokens: 4 of noise in 1 span, and 2 sentinels
    each = {"causal_lm": length, "half": length // 2, "random": length // 2, "span_corruption": noise_target}
    each["fixed"] = length - OBJECTIVES["fixed"].prefix_length
    assert total == 8 * each[objective]


@pytest.mark.parametrize("arch", ["enc_dec", "prefix_lm"])
def test_random_prefixes_are_the_same_for_one_stream_and_two(arch):
    batches = make(arch, "random")
    source, target, _, weights = batches(1)
    if source is None:
        cuts = (weights == 0).sum(axis=1)
        np.testing.assert_array_equal(target.open.sum(axis=1), cuts)
    else:
        assert set(source.segment.ravel()) == set(target.segment.ravel()) == {1, 2}
        cuts = np.stack([(source.segment == i).sum(axis=1) for i in (1, 2)], axis=1).ravel()
    assert (cuts[::2] + cuts[1::2] == DATA.length).all()
    other = make("enc_dec_causal", "random")(1).source.segment
    assert cuts[::2].tolist() == (other == 1).sum(axis=1).tolist()


@pytest.mark.parametrize("objective", ["half", "seq2seq"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_epoch_sees_every_window_once_and_epochs_differ(objective, batch_size):
    batches = make("enc_dec", objective, batch_size)
    n = batches.epoch
    steps = -(-2 * n // batch_size)
    seen = np.concatenate([batches.windows(step) for step in range(steps)])[: 2 * n]
    first, second = ([tuple(window) for window in part.tolist()] for part in (seen[:n], seen[n:]))
    assert len(set(first)) == n
    assert set(first) == set(second)
    assert first != second


def test_windows_are_the_stream_in_pieces_of_length():
    batches = make("prefix_lm", "half", 1)
    tokens = TEXT.tokens("train", "targets")
    assert batches.epoch == (len(tokens) - 1) // DATA.length
    expected = {tuple(tokens[i * 24 : i * 24 + 25].tolist()) for i in range(batches.epoch)}
    assert {tuple(batches.windows(step)[0].tolist()) for step in range(batches.epoch)} == expected


def test_the_next_seed_does_not_begin_with_this_seeds_second_epoch():
    batches, following = make("prefix_lm", "half", 1), make("prefix_lm", "half", 1, seed=1)
    second = np.concatenate([batches.windows(batches.epoch + step) for step in range(batches.epoch)])
    first = np.concatenate([following.windows(step) for step in range(batches.epoch)])
    assert not np.array_equal(second, first)


@pytest.mark.parametrize("objective", ["half", "random", "seq2seq"])
def test_hosts_hashes_add_up_to_one_hosts(objective):
    whole = make("enc_dec", objective)
    hosts = [make("enc_dec", objective, rows=rows) for rows in ([1, 3], [0, 2])]
    assert whole.rows == 8 // whole.layout.windows
    if objective == "half":
        hosts.append(make("enc_dec", objective, rows=[4, 5, 6, 7]))
    elif objective == "seq2seq":
        hosts.append(make("enc_dec", objective, rows=[7, 6, 5, 4]))
    parts = [combine(host.digests(3)) for host in hosts]
    total = combine(whole.digests(3))
    assert f"{sum(int(part, 16) for part in parts) % 2**256:064x}" == total
    assert combine(whole.digests(4), total) == combine(whole.digests(3), combine(whole.digests(4)))


def test_the_hash_knows_tokens_and_their_places():
    whole = make("enc_dec", "half")
    digests = whole.digests(0)
    assert len({one.tobytes() for one in digests}) == 8
    assert combine(digests) != combine(whole.digests(1))
    again = make("enc_dec", "half", batch_size=16)  # the same windows at the same places, by another batch
    assert combine(again.digests(0)) == combine(whole.digests(1), combine(digests))
    assert combine(make("causal_lm", "causal_lm").digests(0)) == combine(digests)  # whatever reads them


@pytest.mark.parametrize(
    ("objective", "changes", "message"),
    [
        ("random", {"batch_size": 5}, "train.batch_size = 5"),
        ("half", {"batch_size": 4, "seed": -1}, "train.seed = -1"),
    ],
)
def test_impossible_batches_are_the_users_mistake(objective, changes, message):
    with pytest.raises(UserError, match=message):
        make("prefix_lm", objective, **changes)


@pytest.mark.parametrize(
    ("cache", "data", "objective", "message"),
    [
        (TEXT, DataConfig(split="dev"), "half", "data.split = 'dev' is not accepted: one of train, validation"),
        (TEXT, DataConfig(length=4000), "half", "data.length = 4000"),
        (TEXT, DATA, "seq2seq", "needs a task with 'inputs'"),
        (PAIRS, DATA, "half", "objective.name = 'prefix_lm'"),
    ],
)
def test_data_that_does_not_fit_is_the_users_mistake(cache, data, objective, message):
    with pytest.raises(UserError, match=message) as error:
        Batches(cache, run_of("enc_dec", data, OBJECTIVES[objective], batch_size=4))
    assert "\n" not in str(error.value)
