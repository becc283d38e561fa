"""encdec compare, on our tables and on others."""

from __future__ import annotations

import json

import numpy as np
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
        "label": "family",
        "n_params": "params",
        "tokens": "toks",
        "budget_flops": "C",
        "suffix_bits_per_byte": "bpb",
    }
    for name, table in (("a", A), ("b", B)):
        table.select(*names).rename(names).write_csv(tmp_path / f"{name}.csv")
    given = ("--label", "family", "--n", "params", "--d", "toks", "--c", "C", "--loss", "bpb")
    assert main(["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), *given, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["matched_by"] == "setting and seed"
    assert len(shown["shared"]) == 24
    assert shown["mean_difference"]["lo"] < shown["mean_difference"]["hi"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--baseline", "rnn"],
            "--baseline = 'rnn' is not accepted: a label of both tables: causal_lm, enc_dec",
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
    A.with_columns(label=pl.lit("rnn")).write_parquet(tmp_path / "d.parquet")
    for name, message in (
        ("c.parquet", "is not accepted: a column of it"),
        ("d.parquet", "no label in both"),
        ("absent.parquet", "can't read table"),
    ):
        assert main(["compare", tables[0], str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err


def measured(path, arch: str | None = None):
    """A stranger's table whose budgets are measured FLOPs; its architectures are named only if asked for."""
    random = np.random.default_rng(0)
    nominal = np.repeat(np.geomspace(1e18, 1e20, 5), 7)
    n = 0.6 * (nominal / 6) ** 0.45 * np.tile(np.geomspace(0.25, 4, 7), 5)
    d = nominal / 6 / n
    noise = np.exp(0.003 * random.standard_normal(35))
    columns = {"params": n.round(), "toks": d.round(), "flops": nominal * (1 + 1e-6 * random.random(35))}
    columns["ce"] = (1.8 + 480 * n**-0.35 + 2000 * d**-0.37) * noise
    table = pl.DataFrame(columns)
    (table if arch is None else table.with_columns(pl.lit("t5").alias(arch))).write_csv(path)
    return str(path)


GIVEN = ("--n", "params", "--d", "toks", "--c", "flops", "--loss", "ce")


def test_budgets_given_as_measured_flops_are_five_of_seven_runs(tmp_path, capsys):
    path = measured(tmp_path / "t[1].csv")
    measured(tmp_path / "t1.csv", "arch")
    assert main(["compare", path, path, *GIVEN, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len({one["budget"] for one in shown["differences"] if one["what"] == "loss"}) == 5
    assert len(shown["shared"]) == 35
    assert shown["warnings"] == []
    for one in shown["differences"]:
        ends = [one["a"][end] for end in ("lo", "hi")]
        assert None in ends or ends[0] < ends[1]  # null: not known, or not bounded by the sizes tried


def test_repeats_and_units_of_a_strangers_table_are_said(tmp_path, capsys):
    path = measured(tmp_path / "t.csv")
    table = pl.read_csv(path)
    pl.concat([table, table.head(3)]).with_columns(pl.col("params", "toks") / 1e3).write_csv(tmp_path / "b.csv")
    assert main(["compare", path, str(tmp_path / "b.csv"), *GIVEN]) == 0
    out = capsys.readouterr().out
    assert "3 exact repeats of other rows are left out" in out
    assert "C/(6ND)" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("params") / 1e9, "n_params of {}"),
        (pl.lit("finished").alias("status"), "status of {} = 'finished' is not accepted: done, pending"),
        (pl.lit("same").alias("run_id"), "run_id of {} = ['same'] is not accepted: an id of its own"),
        (pl.lit(None, pl.Float64).alias("toks"), "tokens of {} (column 'toks'), row 1 = nothing is not accepted"),
        (-pl.col("ce"), "suffix_bits_per_byte of {} (column 'ce'), row 1 = -"),
        (pl.lit("big").alias("seed"), "seed of {} (column 'seed'), row 1 = 'big' is not accepted: a number"),
        (pl.concat_list("params").alias("lr"), "lr of {} (column 'lr') holds List"),
        ((pl.col("flops") * 1.015 ** pl.int_range(35)).alias("flops"), "run into each other"),
    ],
)
def test_a_strangers_column_that_is_not_what_ours_is(tmp_path, capsys, change, message):
    table = pl.read_csv(measured(tmp_path / "t.csv")).with_columns(change)
    path = str(tmp_path / "t.parquet")
    table.write_parquet(path)
    code = main(["compare", path, path, *GIVEN])
    captured = capsys.readouterr()
    assert (code, captured.err.count("\n")) == (2, 1), captured.out
    assert message.format(path) in captured.err


def test_a_column_that_is_named_is_taken_where_ours_is_there_too(tables, capsys):
    assert main(["compare", *tables, "--n", "n_params_nonembed", "--json"]) == 0
    own = json.loads(capsys.readouterr().out)["differences"]
    assert main(["compare", *tables, "--json"]) == 0
    n, all_of_n = (
        next(one["a"]["value"] for one in found if one["what"] == "n")
        for found in (own, json.loads(capsys.readouterr().out)["differences"])
    )
    assert n == pytest.approx(0.8 * all_of_n, rel=1e-3)
