"""Rows are averaged over seeds alone, and pooled where one program computed them from one text, each once."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import polars as pl
import pytest
from synthetic import Truth, study
from tiny import tiny_run

from encdec_jax.compute.families import family_of
from encdec_jax.compute.grid import grid
from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.report.sections import pooled
from encdec_jax.study.allocation import depths, encoder_shares
from encdec_jax.study.curves import curves
from encdec_jax.study.findings import analyze
from encdec_jax.study.forecast import forecast
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.identity import run_id
from encdec_jax.sweep.results import SCHEMA, row
from encdec_jax.sweep.store import RunState

TABLE = study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.1)}, noise=0.01, seeds=(0, 1))
FIRST = re.escape(TABLE["run_id"][0])
PLANNED = (
    TABLE.select("run_id", "label", "n_params", "tokens", "train_flops").head(1).with_columns(run_id=pl.lit("next"))
)


def summary(loss: float) -> dict[str, object]:
    return {"status": "done", LOSS: loss, "suffix_bits_se": 0.0, "versions": {}, "tokens_seen": 1}


def rows(runs, losses) -> pl.DataFrame:
    """The results table of runs that ended with losses."""
    found = [
        row(run_id(run), family_of(run.model).label, run, RunState("done", 1, summary(loss)))
        for run, loss in zip(runs, losses, strict=True)
    ]
    return pl.DataFrame(found, schema=SCHEMA)


def mixed(column: str, table: pl.DataFrame = TABLE) -> pl.DataFrame:
    """Every other row of another value."""
    odd = pl.int_range(pl.len()) % 2 == 1
    return table.with_columns(pl.when(odd).then(pl.lit("b" * 12)).otherwise(pl.lit("a" * 12)).alias(column))


def test_runs_that_begin_at_trained_parameters_are_not_pooled_with_others():
    """What they begin at has cost FLOPs too: in one curve they would beat the others for nothing."""
    drawn = TABLE.with_columns(pretrain_flops=pl.lit(0.0))
    curves(drawn)
    curves(drawn.with_columns(pretrain_flops=pl.lit(1e15)))
    some = drawn.with_columns(pretrain_flops=pl.when(pl.col("label") == "enc_dec").then(1e15).otherwise(0.0))
    curves(some)
    one = drawn.with_columns(pretrain_flops=pl.when(pl.col("run_id") == TABLE["run_id"][0]).then(1e15))
    with pytest.raises(UserError, match=r"some runs of label .* begin at parameters drawn anew, and others at trained"):
        curves(one)


def test_runs_that_differ_in_weight_decay_alone_are_no_seeds_of_each_other():
    run = replace(tiny_run(), budget_flops=1e9)
    decayed = replace(run, optim=replace(run.optim, weight_decay=0.1))
    (curve,), (other,) = curves(rows([run, decayed], [3.0, 2.0]))
    assert (curve.loss.tolist(), curve.seeds.tolist()) == ([2.0], [1])
    assert other.run_id == run_id(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda run: replace(run, evaluate=replace(run.evaluate, prefix=run.evaluate.prefix + 1)),
        lambda run: replace(run, evaluate=replace(run.evaluate, suffix=run.evaluate.suffix + 1)),
        lambda run: replace(run, evaluate=replace(run.evaluate, windows=run.evaluate.windows + 1)),
        lambda run: replace(run, data=replace(run.data, eval_split="test")),
    ],
    ids=["prefix", "suffix", "windows", "split"],
)
def test_runs_scored_on_other_windows_share_no_curve(change):
    run = replace(tiny_run(), budget_flops=1e9)
    with pytest.raises(UserError, match="runs differ in scored, the held-out windows"):
        curves(rows([run, change(run)], [3.0, 2.0]))
    quicker = replace(run, evaluate=replace(run.evaluate, batch_size=run.evaluate.batch_size + 1))
    assert rows([run, quicker], [3.0, 2.0])["scored"].n_unique() == 1


def test_half_of_the_runs_with_a_bad_setting_move_no_comparison():
    bad = TABLE.filter(label="enc_dec").with_columns(
        pl.col(LOSS) + 1.0, run_id=pl.col("run_id") + "-bad", setting=pl.col("setting") + "-bad"
    )
    found = analyze(pl.concat([TABLE, bad]), "causal_lm").comparison("enc_dec", 1e12)
    assert found == analyze(TABLE, "causal_lm").comparison("enc_dec", 1e12)


def test_two_splits_of_a_grid_are_two_curves():
    splits = (Fraction(1, 3), Fraction(2, 3))
    cells = grid(
        1e18, ("causal_lm", "enc_dec"), equal=("params", "train_flops"), splits=splits, lengths=(1024, 256), sizes=2
    )
    runs = [cell.run for cell in cells]
    found, excluded = curves(rows(runs, [3.0 + 0.1 * place for place in range(len(runs))]))
    assert [curve.label for curve in found] == ["causal_lm", "enc_dec 1/3", "enc_dec 2/3"]
    assert [len(curve.n) for curve in found] == [2, 2, 2]
    assert not excluded


def test_no_curve_holds_two_labels():
    wide = TABLE.with_columns(
        label=pl.col("label") + pl.when(pl.col("seed") == 0).then(pl.lit("")).otherwise(pl.lit("+"))
    )
    found, _ = curves(wide)
    assert len(found) == 2 * len(curves(TABLE)[0])
    assert all(curve.seeds.tolist() == [1] * 4 for curve in found)


@pytest.mark.parametrize(
    ("copy", "says"),
    [
        ({}, rf"run_id of the table = \['{FIRST}'\] is not accepted: an id of its own"),
        ({"run_id": "copy"}, rf"run {FIRST} and copy is there 2 times, of loss ([\d.]+) and \1: a run counts once"),
        ({"run_id": "copy", LOSS: 2.5}, "and 2.5: a run counts once"),
        ({"run_id": "copy", "seed": 7}, rf"run {FIRST} and copy is there 2 times"),
        ({"run_id": "copy", "seed": None}, "a run counts once"),
    ],
)
def test_a_run_that_is_there_twice_is_refused(copy, says):
    again = TABLE.head(1).with_columns(**{name: pl.lit(value, SCHEMA[name]) for name, value in copy.items()})
    with pytest.raises(UserError, match=says):
        analyze(pl.concat([TABLE, again]), "causal_lm")


def test_a_copied_row_without_a_seed_is_refused():
    table = TABLE.filter(seed=0).with_columns(seed=pl.lit(None, pl.Int64))
    with pytest.raises(UserError, match="a run counts once"):
        analyze(pl.concat([table, table.head(1).with_columns(run_id=pl.lit("copy"))]), "causal_lm")


@pytest.mark.parametrize("column", ["n_params", "tokens", "lr", "batch_size", "enc_layers", "dec_layers", "objective"])
def test_rows_of_one_setting_that_differ_in_what_was_set_are_refused(column):
    other = "span" if column == "objective" else pl.col(column) * 2 + 1
    changed = pl.lit(other) if isinstance(other, str) else other
    table = TABLE.with_columns(pl.when(pl.col("seed") == 1).then(changed).otherwise(column).alias(column))
    with pytest.raises(UserError, match=rf"rows of setting '\S+' differ in {column}, .* and ") as caught:
        analyze(table, "causal_lm")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["code", "cache_digest", "scored"])
@pytest.mark.parametrize(
    "pooling",
    [
        lambda table, **why: analyze(table, "causal_lm", **why),
        lambda table, **why: curves(table, **why),
        lambda table, **why: encoder_shares(table, **why),
        lambda table, **why: depths(table, **why),
        lambda table, **why: forecast(table, PLANNED, "now", law="power", **why),
    ],
    ids=["analyze", "curves", "encoder shares", "depths", "forecast"],
)
def test_rows_of_two_programs_or_texts_are_pooled_for_a_reason_only(column, pooling):
    table = mixed(column)
    with pytest.raises(
        UserError, match=rf"differ in {column}, .*: a{{12}} \(24 runs, such as causal_lm.*b{{12}}"
    ) as caught:
        pooling(table)
    assert "\n" not in str(caught.value)
    pooling(table, pooled={column: "a comment changed"})
    pooling(TABLE)  # does not know


def test_the_refusal_says_how_to_state_a_reason_for_a_study_and_for_two_tables():
    with pytest.raises(UserError, match=r"in sweep\.py, or encdec compare --pool code=why$"):
        curves(mixed("code"))


def test_what_is_not_known_of_some_runs_is_another_value():
    with pytest.raises(UserError, match=r"unknown \(24 runs"):
        analyze(mixed("code").with_columns(pl.col("code").replace("b" * 12, None)), "causal_lm")


def test_runs_that_no_fit_uses_may_differ():
    table = mixed("code").with_columns(
        status=pl.when(pl.col("code").str.starts_with("b")).then(pl.lit("failed")).otherwise("status")
    )
    assert analyze(table, "causal_lm").optima


def test_a_reason_is_shown_beside_the_answer():
    fields = dict.fromkeys(Experiment.__dataclass_fields__)
    (line,) = pooled(Experiment(**{**fields, "pooled": {"code": "a comment changed"}}), mixed("code"))
    assert "aaaaaaaaaaaa (24 runs" in line
    assert line.endswith("a comment changed")


def test_only_reasons_for_what_may_be_pooled_are_taken():
    with pytest.raises(UserError, match="pooled = 'lr' is not accepted: cache_digest or code"):
        analyze(TABLE, "causal_lm", pooled={"lr": "why not"})


@pytest.mark.parametrize("name", ["setting", "label"])
def test_a_row_without_a_name_of_its_setting_or_label_is_refused(name):
    with pytest.raises(
        UserError, match=rf"{name} of the table .*, row 1 = nothing is not accepted: a {name} in every row"
    ):
        analyze(TABLE.with_columns(pl.lit(None, pl.String).alias(name)), "causal_lm")
