"""What every verb prints on terminals of any width: run ids are whole, values and ends of intervals are there."""

import json
import re

import pytest
from synthetic import Truth, study
from tiny import write_experiment, write_noise

from encdec_jax import text
from encdec_jax.cli.main import main
from encdec_jax.laws.interval import Interval
from encdec_jax.report.words import interval, number
from encdec_jax.sweep.experiment import load

WIDTHS = pytest.mark.parametrize("width", [40, 60, 80, 120])


@pytest.fixture
def printed(monkeypatch, capsys):
    """Runs a verb at a width; returns what it printed, checked to fill no line but by its first word."""

    def run(width: int, *arguments: str) -> str:
        monkeypatch.setattr(text, "_PIPE_WIDTH", width)
        assert main(list(arguments)) == 0
        out = capsys.readouterr().out
        assert "…" not in out
        return out

    return run


@WIDTHS
@pytest.mark.parametrize("verb", ["plan", "status"])
def test_run_ids_are_never_cut(printed, folders, width, verb):
    write_noise()
    folder = write_experiment(folders / "study")
    lines = printed(width, verb, str(folder)).splitlines()
    for identity in load(folder).runs:
        assert any(line.split()[:1] == [identity] for line in lines)
    assert sum("pending" in line for line in lines) >= 4


@WIDTHS
def test_a_fit_shows_values_and_the_ends_of_intervals(printed, capsys, tmp_path, width):
    path = tmp_path / "t.csv"
    table = study({"causal_lm": Truth(), "enc_dec_with_a_long_name": Truth(scale=2.1)}, noise=0.01)
    table.write_csv(path)
    given = ("fit", str(path), "--law", "kaplan_n", "--n", "n_params", "--loss", "suffix_bits_per_byte")
    given += ("--arch", "arch", "--resamples", "50")
    out = printed(width, *given, "--out", str(tmp_path))
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name, one in {**found["params"], **found["derived"]}.items():
        assert name in out
        for end in ("value", "lo", "hi"):
            assert re.search(rf"(?<!\S){re.escape(number(one[end]))}(?!\S)", out), (name, end)


@WIDTHS
def test_a_comparison_shows_values_and_the_ends_of_intervals(printed, capsys, tmp_path, width):
    paths = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    for draw, path in enumerate(paths):
        study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.1)}, noise=0.01, draw=draw).write_parquet(path)
    out = " ".join(printed(width, "compare", *paths).split())
    assert main(["compare", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for one in found["shared"]:
        assert not one["run_id"].startswith("-")
    for one in found["differences"]:
        for side in ("a", "b"):
            if one[side]["lo"] is not None and one[side]["hi"] is not None:
                assert interval(Interval(one[side]["value"], one[side]["lo"], one[side]["hi"])) in out
    worst = max(found["shared"], key=lambda one: abs(one["difference"]))
    assert worst["run_id"] in out


def test_a_table_wraps_texts_before_it_falls_into_blocks():
    from rich.console import Console

    made = text.table("run", "status", "error", left=3)
    made.columns[-1].no_wrap = False
    made.add_row("a-run", "failed", "a text of many words " * 10)
    for width, lines in ((60, "run"), (20, "a-run")):
        console = Console(width=width, record=True, soft_wrap=True)
        with console.capture() as captured:
            console.print(made)
        assert captured.get().startswith(lines)
        assert all(len(line) <= width for line in captured.get().splitlines())
