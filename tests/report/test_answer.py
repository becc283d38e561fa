from pathlib import Path

import polars as pl
from synthetic import Truth, study

from encdec_jax.evaluate import LOSS
from encdec_jax.report import answer as words
from encdec_jax.report import sections
from encdec_jax.report.words import interval, multiplier, number
from encdec_jax.study.findings import analyze
from encdec_jax.study.headline import headline
from encdec_jax.sweep import results

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart"
BASE = Truth()
SLOW = Truth(scale=2.0 * 1.3**0.12)
RATIOS = (0.3, 0.6, 1.1, 1.8, 3.5)


def answer(table):
    found = analyze(table, "causal_lm")
    return words.answer(found, headline(found))


def frontiers(table):
    found = analyze(table, "causal_lm")
    return words.frontiers(found, headline(found))


def qualified(table):
    found = analyze(table, "causal_lm")
    return words.qualified(found, headline(found))


def test_the_answer_begins_with_who_wins_over_all_budgets_and_by_how_much():
    table = study({"causal_lm": BASE, "enc_dec": SLOW}, noise=0.005)
    found = analyze(table, "causal_lm")
    (beside,) = headline(found).beside
    assert beside.mean.low > 0
    assert answer(table) == (
        "Over 3 budgets of 1e11 to 1e12 training FLOPs together, causal_lm beats enc_dec: "
        f"enc_dec's best loss is {interval(beside.mean, sign=True)} bits per byte from causal_lm's; alone at 1e12, "
        f"enc_dec needs {multiplier(found.comparison('enc_dec', 1e12))} the compute of causal_lm for the same loss."
    )
    assert frontiers(table) == "The frontiers: no crossover of enc_dec with causal_lm from 1e11 to 1e12 FLOPs."


def test_the_answer_names_winners_losers_and_the_undecided():
    truths = {"causal_lm": BASE, "enc_dec": SLOW, "layerwise": Truth(scale=1.8), "prefix_lm": Truth(scale=1.99)}
    text = answer(study(truths, noise=0.01))
    verdict = "layerwise beats causal_lm; causal_lm beats enc_dec; prefix_lm can't be told apart from causal_lm: "
    assert f"together, {verdict}enc_dec's best loss is +0.0" in text


def test_what_noise_hides_is_said_not_to_be_told_apart():
    table = study({"causal_lm": BASE, "enc_dec": BASE}, noise=0.03)
    assert "together, enc_dec can't be told apart from causal_lm: enc_dec's best loss is" in answer(table)
    assert frontiers(table) == "The frontiers: a crossover of enc_dec with causal_lm can't be located."


def test_a_crossover_is_said_with_its_interval():
    steep = Truth(scale=2.0 * 0.4**0.06, slope=0.18)
    table = study({"causal_lm": BASE, "prefix_lm": steep}, noise=0.003)
    assert "prefix_lm crosses causal_lm at" in frontiers(table)
    assert "above which prefix_lm is better" in frontiers(table)
    assert "prefix_lm beats causal_lm at 1e12; causal_lm beats prefix_lm at 1e11" in answer(table)


def test_what_forbids_a_claim_is_said_first_with_the_grid_that_would_help():
    off = study({"causal_lm": BASE}, noise=0.01, ratios=(2, 3, 5, 8))
    text = answer(pl.concat([off, study({"enc_dec": SLOW}, noise=0.01)]))
    assert text.startswith("Not inside the sizes tried, so nothing is claimed there: causal_lm's best size at 1e11, ")
    assert f"try sizes below {number(2 * BASE.best(1e11))}" in text
    assert text.endswith("So whether enc_dec beats causal_lm can't be told.")
    assert " beats enc_dec" not in text


def test_without_an_estimate_of_the_noise_nothing_is_claimed():
    text = answer(study({"causal_lm": BASE, "enc_dec": SLOW}, noise=0.01, ratios=(0.4, 1.1, 3)))
    assert "The noise of causal_lm and enc_dec is not known" in text
    assert "can't be told" in text


def test_one_budget_gives_a_gap_and_one_architecture_no_answer():
    one = answer(study({"causal_lm": BASE, "enc_dec": SLOW}, noise=0.003, budgets=(1e11,), ratios=RATIOS))
    assert one.startswith("At 1e11 training FLOPs, causal_lm beats enc_dec: enc_dec's best loss is +0.0")
    assert "the compute" not in one
    assert answer(study({"causal_lm": BASE})).startswith("Not answered yet")


def test_what_qualifies_the_answer_is_said():
    found = analyze(results.load(QUICKSTART), "causal_lm")
    text = " ".join(words.qualified(found, headline(found)))
    assert "Three sizes a budget leave the parabolas of causal_lm, enc_dec and prefix_lm no residual" in text
    assert (
        "In doubt: best sizes that may lie outside the sizes tried, of causal_lm at 4.2e10, 1.3e11 and 3.8e11;" in text
    )
    five = analyze(study({"causal_lm": BASE, "enc_dec": SLOW}, noise=0.003, ratios=RATIOS), "causal_lm")
    text = " ".join(words.qualified(five, headline(five)))
    assert not any(what in text for what in ("Three sizes", "In doubt", "Left out", "Unequal"))


def test_the_quickstart_is_answered_by_all_its_budgets():
    table = results.load(QUICKSTART)
    text = answer(table)
    verdict = "causal_lm beats enc_dec; prefix_lm can't be told apart from causal_lm: enc_dec's best"
    assert f"4.2e10 to 3.8e11 training FLOPs together, {verdict}" in text
    assert "alone at 3.8e11, enc_dec needs 2.10x" in text
    assert frontiers(table).endswith("enc_dec or prefix_lm with causal_lm can't be located.")


def test_more_settings_than_the_baseline_had_and_runs_left_out_are_said():
    table = study({"causal_lm": BASE, "enc_dec": SLOW}, noise=0.01, ratios=RATIOS)
    here = pl.int_range(pl.len()) == 22
    off = table.with_columns(pl.col(LOSS) + 0.3 * here.cast(pl.Float64))
    left_out = qualified(off)[0]
    assert left_out.startswith(f"Left out: run {table['run_id'][22]} of enc_dec at 3e11 FLOPs, 0.3")
    again = {"run_id": pl.col("run_id") + "-2", "setting": pl.col("setting") + "-2"}
    tuned = pl.concat([table, table.filter(pl.col("label") == "enc_dec").with_columns(pl.col(LOSS) + 0.01, **again)])
    text = " ".join(qualified(tuned))
    assert "Unequal effort: enc_dec had up to 2 settings of a size to choose the best of, causal_lm 1;" in text


def test_a_loss_below_every_run_is_marked():
    wide = study({"causal_lm": BASE, "enc_dec": SLOW}, noise=0.005, ratios=(0.05, 0.2, 0.5, 3, 10))
    text = " ".join(qualified(wide))
    assert "The best loss of causal_lm at 1e11, 3e11 and 1e12 FLOPs is its curve's: it lies below those of all" in text
    assert "of all its runs by more than their noise." in text


def test_where_the_windows_stand_for_the_noise_no_noise_is_claimed():
    three = study({"causal_lm": BASE, "enc_dec": SLOW}, window=1e-4, ratios=(0.1, 0.6, 8))
    assert "is not known" in answer(three)
    (said,) = [text for text in qualified(three) if "The best loss of causal_lm" in text]
    assert said.endswith("by more than the windows' standard error, for their noise is not known.")
    rows = sections.optima(analyze(three, "causal_lm"), ()).rows
    assert all(row[-1].endswith("below all its runs by more than the windows' standard error") for row in rows)
