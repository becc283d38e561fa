"""Windows of text: documents end to end or apart, and only what is asked for read."""

import numpy as np
import pytest
from data.fake import FakeCache, text_cache
from hypothesis import given, settings
from hypothesis import strategies as st
from support import model_config

from encdec_jax.config import RunConfig
from encdec_jax.data.batches import Batches
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.heldout import eval_batch
from encdec_jax.data.windows import Windows
from encdec_jax.errors import UserError
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.arch import ARCHS
from encdec_jax.train.config import TrainConfig

TEXT = text_cache(3000, 900)
documents = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(documents, st.integers(1, 9), st.sampled_from([1, 3, 1000]))
@settings(max_examples=60, deadline=None)
def test_windows_of_documents_apart_span_none_and_leave_out_their_ends(lengths, length, block):
    places = iter(range(10**6))
    split = [[*(3 + next(places) % 250 for _ in range(n - 1)), 1] for n in lengths]
    cache = FakeCache({"train": {"targets": split}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("encdec_jax.data.windows.DOCUMENTS", block)
        windows = Windows(cache, "train", length, "apart")
        expected = [d[i : i + length + 1] for d in split for i in range(0, len(d) - length, length)]
        assert windows.count == len(expected)
        assert windows[np.arange(windows.count)].tolist() == expected
        ends = [d[(len(d) - 1) // length * length + 1 if len(d) > length else 0 :] for d in split]
        left, total = windows.left_out(cache)
    assert left == sum(token != 1 for end in ends for token in end)
    assert total == sum(n - 1 for n in lengths)


def test_documents_end_to_end_are_the_stream_in_pieces():
    windows, tokens = Windows(TEXT, "train", 24), TEXT.tokens("train", "targets")
    assert windows.count == (len(tokens) - 1) // 24
    np.testing.assert_array_equal(windows[np.array([0, 7])], [tokens[:25], tokens[7 * 24 : 8 * 24 + 1]])


def run_of(**data) -> RunConfig:
    return RunConfig(
        model_config("enc_dec"),
        DataConfig(length=24, **data),
        ObjectiveConfig("prefix_lm"),
        train=TrainConfig(batch_size=4),
    )


def test_no_training_window_spans_two_documents_where_they_are_apart():
    for documents, spans in (("joined", True), ("apart", False)):
        batches = Batches(TEXT, run_of(documents=documents))
        windows = np.concatenate([batches.windows(step) for step in range(batches.epoch // 4)])
        assert (windows[:, :-1] == 1).any() == spans


def test_no_held_out_window_spans_two_documents_where_they_are_apart():
    for documents, spans in (("joined", True), ("apart", False)):
        evaluate = EvalConfig(prefix=6, suffix=6, windows=60, documents=documents)
        batch, nbytes = eval_batch(TEXT, ARCHS["prefix_lm"], DataConfig(), evaluate)
        assert (batch.target.tokens == 1).any() == spans
        assert len(nbytes) == 60
    with pytest.raises(UserError, match=r"evaluate\.windows = 800"):
        eval_batch(TEXT, ARCHS["prefix_lm"], DataConfig(), EvalConfig(6, 6, 800, documents="apart"))


def test_documents_that_are_all_too_short_are_the_users_mistake():
    cache = FakeCache({"train": {"targets": [[5, 6, 1]] * 20}, "validation": {"targets": [[5, 6, 1]] * 20}})
    with pytest.raises(UserError, match=r"data\.length = 24 is not accepted: .*one of its documents"):
        Batches(cache, run_of(documents="apart"))


class Watched(np.ndarray):
    """Tokens that note which of them are read."""

    read: set[int]

    def __getitem__(self, key):
        self.read |= set(np.arange(len(self))[key].reshape(-1).tolist())
        return np.asarray(self)[key]


def test_a_host_reads_the_tokens_of_its_own_rows_alone(monkeypatch):
    tokens = TEXT.tokens("train", "targets").view(Watched)
    tokens.read = set()
    monkeypatch.setattr(FakeCache, "tokens", lambda cache, split, feature: tokens)
    batches = Batches(TEXT, run_of(), rows=[2])
    assert tokens.read == set()
    batches(5)
    batches.digests(5)
    assert len(tokens.read) == 25
