import io
import re
from dataclasses import replace

import numpy as np
import pytest
from data.fake import FakeCache, pair_cache
from rich.console import Console
from support import model_config

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import write_cache
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.drawing import drawn_mask
from encdec_jax.data.preview import preview, show
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.arch import ARCHS
from encdec_jax.train.config import TrainConfig

TEXT = FakeCache({"train": {"targets": [[*ByteVocab().encode("abcdefgh\n"), 1] * 2]}})  # two windows of ten


def printed(cache, arch: str, objective: ObjectiveConfig, rows: int = 1, **data: int) -> str:
    run = RunConfig(model_config(arch), DataConfig(**data), objective, train=TrainConfig(batch_size=1))
    console = Console(file=io.StringIO(), width=160)
    show(cache, run, rows, console)
    return console.file.getvalue()


def lines(text: str, stream: str) -> list[list[str]]:
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines()]
    return [cell[1:] for cell in cells if cell[0] == stream]


def test_source_target_and_labels_of_a_prefix():
    text = printed(TEXT, "enc_dec", ObjectiveConfig("prefix_lm"), length=10)
    assert lines(text, "source") == [["1", "0..4", "yes", "", "abcde"]]
    assert lines(text, "target") == [["1", "5..9", "no", "", "fgh⏎<end>"]]
    assert lines(text, "labels") == [["1", "5..9", "", "1", "gh⏎<end>a"]]
    assert "source 5, target 5 tokens" in text
    assert "· sees none; ■ is scored" in text
    assert lines(text, "loss tokens") == [["50.0% of the windows' tokens"]]
    assert lines(text, "padding") == [["0.0% of the streams' positions"]]


def test_one_stream_shows_what_is_open():
    text = printed(TEXT, "prefix_lm", ObjectiveConfig("prefix_lm"), length=10)
    assert lines(text, "target") == [["1", "0..4", "yes", "", "abcde"], ["1", "5..9", "no", "", "fgh⏎<end>"]]
    assert lines(text, "labels") == [["1", "5..9", "", "1", "gh⏎<end>a"]]


def test_sentinels_and_start_are_marked():
    text = printed(TEXT, "enc_dec", ObjectiveConfig("span_corruption"), length=10)
    (source,), (target,), (labels,) = (lines(text, name) for name in ("source", "target", "labels"))
    assert source[-1].count("<0>") == 1
    assert target[-1].startswith("<start><0>")
    assert labels[-1].startswith("<0>")
    assert labels[-1].endswith("<1>")


def test_pairs_show_segments_padding_and_what_was_dropped():
    cache = pair_cache(60, 14)
    text = printed(cache, "enc_dec", ObjectiveConfig("seq2seq"), source_length=10, target_length=10)
    assert lines(text, "target")[0][0] == "1"
    assert "pairs are dropped at data.source_length = 10" in text
    assert "seqio's greedy packing" in text
    assert "packed rows of 20 tokens" in text
    assert "(padding, " in printed(cache, "enc_dec", ObjectiveConfig("seq2seq"), source_length=50, target_length=99)


def test_rows_go_on_into_the_next_step():
    text = printed(TEXT, "enc_dec", ObjectiveConfig("prefix_lm"), rows=2, length=5)
    assert "step 0, row 0" in text
    assert "step 1, row 0" in text
    with pytest.raises(UserError, match="rows = 0"):
        printed(TEXT, "enc_dec", ObjectiveConfig("prefix_lm"), rows=0)


def test_modes_and_masks_have_names():
    text = printed(TEXT, "enc_dec", ObjectiveConfig("ul2"), rows=2, length=10)
    assert all(re.match("<[RSX]>", source[-1]) for source in lines(text, "source") if source[0] == "1")
    text = printed(TEXT, "prefix_lm", ObjectiveConfig("mass_style"), length=10)
    assert lines(text, "target")[0][-1].count("<mask>") == 2


def test_a_drawing_is_the_mask_and_what_is_scored():
    seen = np.tril(np.ones((3, 3), bool))
    scored = np.array([False, True, True])
    assert drawn_mask(seen, scored, "").plain.split("\n") == ["██····", "████·· ■", "██████ ■"]
    large = np.zeros((64, 128), bool)
    large[:, :1] = True
    shades = drawn_mask(large, np.zeros(64, bool), "").plain.split("\n")
    assert shades == ["▒" + 63 * "·"] * 32
    one = np.zeros((128, 128), bool)
    one[0, 0] = True
    assert drawn_mask(one, np.zeros(128, bool), "").plain[:2] == "░·"  # one pair of eight is not none


@pytest.mark.parametrize("arch", ARCHS)
def test_what_is_drawn_is_what_each_stream_sees(arch):
    text = printed(TEXT, arch, ObjectiveConfig("prefix_lm"), length=10)
    titles = [line for line in text.splitlines() if line.startswith("the ")]
    own = ARCHS[arch].own_stream
    assert {title.partition(" (")[0] for title in titles} == (
        {"the source sees itself", "the target sees itself", "the target sees the source"}
        if own
        else {"the target sees itself"}
    )
    (first, *rest) = [line for line in text.splitlines() if set(line) <= set("·█■ ") and line.strip()]
    assert first.startswith("██" * (5 if ARCHS[arch].source_open else 1) + "·" * (0 if own else 2))
    assert sum(line.endswith("■") for line in [first, *rest]) == 5 * sum(
        title.startswith("the target") for title in titles
    )


def test_preview_opens_the_cache_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path))
    data = DataConfig("pairs", source_length=12, target_length=12)
    run = RunConfig(model_config("prefix_lm"), data, ObjectiveConfig("seq2seq"), train=TrainConfig(batch_size=1))
    console = Console(file=io.StringIO(), width=160)
    with pytest.raises(UserError, match="encdec prepare --task pairs"):
        preview(run, 1, console)
    vocab = ByteVocab()
    pair = [(vocab.encode("left"), vocab.encode("right"))]
    write_cache("pairs", vocab, ("inputs", "targets"), {"train": pair, "validation": pair})
    for wrong, message in (
        (run, "model.vocab_size = 64 is not accepted: at least 259"),
        (replace(run, model=model_config("prefix_lm", vocab_size=259)), "evaluate.windows = 512 .*at most 1"),
    ):
        with pytest.raises(UserError, match=message):
            preview(wrong, 1, console)
    run = replace(run, model=model_config("prefix_lm", vocab_size=259), evaluate=EvalConfig(windows=1))
    preview(run, 1, console)
    text = console.file.getvalue()
    assert lines(text, "target")[:2] == [
        ["1", "0..4", "yes", "", "left<end>"],
        ["1", "5..10", "no", "", "<start>right"],
    ]
    assert lines(text, "labels")[1] == ["1", "5..10", "", "1", "right<end>"]
