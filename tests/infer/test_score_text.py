"""Losses by document and by length: of the rows that are stated, in files that other runs' pair with."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import pytest
from tiny import tiny_run, write_noise

from encdec_jax.cli.main import main
from encdec_jax.data.cache import write_cache
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.infer import score_text
from encdec_jax.infer.score_task import score_task
from encdec_jax.model.model import initial

RUN = tiny_run("causal_lm")
LEARNED = replace(RUN, model=replace(RUN.model, position="learned", position_rows=40))


@pytest.fixture
def folder(folders, monkeypatch):
    """A folder that stands for a run: its parameters are those before training."""
    write_noise()
    for module in ("score_text", "score_task"):  # `attended` opens a run as `score_text` does
        name = f"encdec_jax.infer.{module}.restore"
        monkeypatch.setattr(name, lambda path: (RUN, initial(RUN.model, jax.random.key(0))))
    return folders / "run"


def test_documents_add_up_to_the_rate_that_is_said(folder, capsys):
    assert main(["evaluate", str(folder), str(folder), "--task", "noise", "--documents"]) == 0
    done = score_text.score_documents(folder, "noise", "validation")
    rows = [json.loads(line) for line in done.path.read_text().splitlines()]
    assert [row["number"] for row in rows] == [0, 1, 2, 3]
    rate = sum(row["bits"] for row in rows) / sum(row["bytes"] for row in rows)
    assert done.rate == pytest.approx(rate)
    # Noise is as hard for parameters before training wherever it stands.
    assert rate == pytest.approx(score_task(folder, "noise", "validation").scores["suffix_bits_per_byte"].value, 0.01)
    assert done.left_out == pytest.approx(4 * 17 / 1600)
    assert capsys.readouterr().out.count(f"losses by document: {done.path}") == 2
    assert main(["compare", str(done.path), str(done.path)]) == 0
    assert "B - A: 0" in capsys.readouterr().out


def test_lengths_and_prefixes_are_scored_on_the_same_labels(folder, capsys):
    command = ["evaluate", str(folder), "--task", "noise", "--lengths", "32,48", "--prefixes", "1,16,30"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    found = json.loads((folder / "evaluations/noise-validation/lengths.json").read_text())
    cells = [(one["length"], one["prefix"]) for one in found["found"]]
    assert cells == [(32, 1), (32, 16), (48, 1), (48, 16), (48, 30)]
    assert "48 *" in shown
    assert "32 *" not in shown
    # Of 1,599 tokens there are 33 windows of 48; at 32 they are the last 32 tokens of each.
    assert found["windows"] == 33
    by_prefix = {one["bits_per_byte"] for one in found["found"] if one["length"] == 48}
    assert len(by_prefix) == 1  # to a causal LM a source is text


def test_attention_is_told_by_layer_and_by_place(folder, capsys):
    assert main(["evaluate", str(folder), "--task", "noise", "--attention"]) == 0
    path = folder / "evaluations/noise-validation/attention.json"
    assert str(path) in capsys.readouterr().out
    (one,) = json.loads(path.read_text())["attentions"]
    assert (one["stream"], one["layer"], len(one["local"])) == ("target", 0, 32)
    assert one["local"][:5] == pytest.approx([1] * 5)
    assert one["local"][-1] < 1
    assert one["source"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--lengths", "16"), "lengths = 16 is not accepted: more than evaluate.suffix = 16 tokens"),
        (("--lengths", "20", "--prefixes", "5"), "prefixes = '5' is not accepted: one of at most 4 tokens"),
        (("--lengths", "20,x"), "lengths = 'x' is not accepted"),
        (("--prefixes", "5"), "only with --lengths"),
        (("--documents", "--examples", "3"), "only without --documents"),
        (("--attention", "--prefixes", "3"), "only with --lengths"),
    ],
)
def test_what_cannot_be_scored_is_one_line(folder, capsys, arguments, text):
    assert main(["evaluate", str(folder), "--task", "noise", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_no_more_positions_than_were_learned(folder, monkeypatch):
    monkeypatch.setattr(score_text, "restore", lambda path: (LEARNED, None))
    with pytest.raises(UserError, match="lengths = 48 is not accepted: at most 40, the positions that the model"):
        score_text.score_lengths(folder, "noise", "validation", [48], None)


def test_pairs_have_rows_of_their_own(folder):
    vocab = ByteVocab()
    write_cache("pairs", vocab, ("inputs", "targets"), {"train": [(vocab.encode("a"), vocab.encode("b"))]})
    with pytest.raises(UserError, match=r"task = 'pairs' is not accepted: one of text: of pairs, predictions\.jsonl"):
        score_text.score_documents(folder, "pairs", "train")
