"""encdec compare, on our tables and on others."""

from __future__ import annotations

import json

import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.cli.main import main

A = study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.1)}, noise=0.01, draw=1)
B = study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.3)}, noise=0.01, draw=2)


@pytest.fixture
def tables(tmp_path):
    A.write_parquet(tmp_path / "a.parquet")
    B.filter(pl.col("budget_flops") > 2e11).write_parquet(tmp_path / "b.parquet")
    return [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]


def test_two_tables_as_one_object(tables, capsys):
    assert main(["compare", *tables, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["baseline"], shown["matched_by"]) == ("causal_lm", "run_id")
    assert (len(shown["shared"]), len(shown["only_a"]), len(shown["only_b"])) == (16, 8, 0)
    gap = next(one for one in shown["differences"] if (one["what"], one["budget"]) == ("gap", 1e12))
    assert gap["told_apart"] is True
    assert gap["change"]["lo"] < gap["change"]["value"] == pytest.approx(gap["b"]["value"] - gap["a"]["value"])
    assert "only A: enc_dec's loss, n, d, gap, multiplier at 1e+11 FLOPs" in shown["absent"]


def test_two_tables_side_by_side(tables, capsys):
    assert main(["compare", *tables]) == 0
    out = capsys.readouterr().out
    assert "16 runs in both (by run_id): loss of B - A" in out
    assert "8 only in A, 0 only in B" in out
    assert "Only in A: 4 runs of causal_lm, 4 runs of enc_dec" in out
    assert "loss exponent" in out
    assert "differ" in out


def test_tables_of_strangers_name_their_columns(tmp_path, capsys):
    names = {
        "arch": "family",
        "n_params": "params",
        "tokens": "toks",
        "budget_flops": "C",
        "suffix_bits_per_byte": "bpb",
    }
    for name, table in (("a", A), ("b", B)):
        table.select(*names).rename(names).write_csv(tmp_path / f"{name}.csv")
    given = ("--arch", "family", "--n", "params", "--d", "toks", "--c", "C", "--loss", "bpb")
    assert main(["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), *given, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["matched_by"] == "cell"
    assert len(shown["shared"]) == 24
    assert shown["mean_difference"]["lo"] < shown["mean_difference"]["hi"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--baseline", "rnn"],
            "--baseline = 'rnn' is not accepted: an architecture of both tables: causal_lm, enc_dec",
        ),
        (["--stray"], "unknown arguments: --stray"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tables, capsys, arguments, message):
    code = main(["compare", *tables, *arguments])
    captured = capsys.readouterr()
    assert (code, captured.err.count("\n")) == (2, 1)
    assert message in captured.err


def test_tables_without_what_is_needed(tmp_path, tables, capsys):
    A.drop("tokens").write_parquet(tmp_path / "c.parquet")
    A.with_columns(arch=pl.lit("rnn")).write_parquet(tmp_path / "d.parquet")
    for name, message in (
        ("c.parquet", "is not accepted: a column of it"),
        ("d.parquet", "no architecture in both"),
        ("absent.parquet", "can't read table"),
    ):
        assert main(["compare", tables[0], str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
