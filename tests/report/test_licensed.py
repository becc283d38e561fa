"""No section claims what the headline forbids."""

from __future__ import annotations

import functools
from dataclasses import replace

import planned
import polars as pl
import pytest
from matplotlib.figure import Figure
from synthetic import Truth, study

from encdec_jax.report import answer, panels, sections
from encdec_jax.report.figures import gaps
from encdec_jax.report.html import render
from encdec_jax.report.pictures import point_tips
from encdec_jax.study.findings import analyze
from encdec_jax.study.headline import headline

BASE, SLOW = Truth(), Truth(scale=2.0 * 1.3**0.12)
BOTH = {"causal_lm": BASE, "enc_dec": SLOW}


@functools.cache
def sound():
    return study(BOTH, noise=0.003)


@functools.cache
def outside():
    """The baseline's sizes at the largest budget are all too large."""
    off = study({"causal_lm": BASE}, noise=0.003, ratios=(4, 7, 12, 20), budgets=(1e12,))
    return pl.concat([sound().filter((pl.col("label") != "causal_lm") | (pl.col("budget_flops") < 5e11)), off])


@functools.cache
def unknown():
    return study(BOTH, window=1e-3, ratios=(0.4, 1.1, 3))


def made(table):
    """The column of probabilities at each budget, and the crossovers' row."""
    findings = analyze(table, "causal_lm")
    head = headline(findings)
    crossings = sections.crossovers(findings, head, ())
    return [row[-1] for row in sections.comparisons(findings, head, ()).rows], crossings.rows[0]


def test_with_unknown_noise_nothing_is_said_to_be_better_and_no_probability_is_given():
    table = unknown()
    better, crossing = made(table)
    assert better == ["noise unknown"] * 3
    assert crossing[2:] == ["not licensed: noise unknown", "-"]
    page = render(planned.experiment(table, predictions=[]), table, analyze(table, "causal_lm"))
    assert "claimed there, and the row&#39;s brackets are no ground for it" in page
    assert "Pareto fronts" in page
    assert not any(claim in page for claim in ("better throughout", "over 0.999", "under 0.001", ", probability "))


def test_a_budget_whose_optimum_may_lie_outside_has_no_probability_and_the_range_no_crossover():
    better, crossing = made(outside())
    assert better[:2] == ["under 0.001"] * 2
    assert better[2] == "optimum may lie outside"
    assert crossing[2:] == ["not licensed: optimum may lie outside", "-"]
    findings = analyze(outside(), "causal_lm")
    head = headline(findings)
    assert head.claimed("enc_dec")
    assert answer.frontiers(findings, head) == "The frontiers: a crossover of enc_dec with causal_lm can't be located."


def test_the_picture_of_gaps_says_so_too_and_its_points_are_hollow():
    """Beside a headline that claimed nothing it went on: compute needed 2.96x [1.67, 5.92]."""
    for table, claimed in ((sound(), True), (outside(), False)):
        findings = analyze(table, "causal_lm")
        (axes,) = gaps(findings).axes
        said = " ".join(text.get_text() for text in axes.texts).replace("\n", " ")
        (tip,) = [tip for tip in point_tips(findings)["gaps enc_dec"] if "1e12" in tip]
        for text in (said, tip):
            assert ("compute needed" in text) is claimed
            assert ("optimum may lie outside" in text) is not claimed
        hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert [list(line.get_ydata()) for line in hollow] == (
            [] if claimed else [[findings.comparison("enc_dec", 1e12).gap.value]]
        )


def test_no_crossover_is_marked_that_is_not_licensed():
    """The picture had a star with an interval above a table that said: not licensed."""
    crossing = {"causal_lm": BASE, "enc_dec": Truth(scale=2.0 * 0.4**0.06, slope=0.18)}
    for options, marked in (({"noise": 0.003}, True), ({"window": 1e-3, "ratios": (0.4, 1.1, 3)}, False)):
        findings = analyze(study(crossing, **options), "causal_lm")
        assert findings.crossovers[0].compute is not None
        axes = Figure().subplots()
        panels.frontiers(axes, findings)
        assert any(line.get_marker() == "*" for line in axes.lines) is marked


def test_pairs_that_were_dropped_for_their_length_are_counted():
    findings = analyze(sound(), "causal_lm")
    for columns, said in (({}, []), ({"dropped": 0.225, "dropped_eval": 0.075}, ["22.50% ", "7.50% "])):
        table = sound().with_columns(**{name: pl.lit(share) for name, share in columns.items()})
        lines = sections.missing(planned.experiment(table, predictions=[]), table, findings)
        assert [line.split("of the")[0] for line in lines if "dropped" in line] == [f"Up to {share}" for share in said]


def test_where_the_headline_claims_it_one_is_better_throughout():
    better, crossing = made(sound())
    assert better == ["under 0.001"] * 3
    assert crossing[2] == "none; causal_lm is better throughout"


@pytest.mark.parametrize(
    "slope",
    [0.12, 0.18],
    ids=["none", "a crossover"],
)
def test_what_the_fits_alone_show_is_said_to_be_theirs(slope):
    other = SLOW if slope == BASE.slope else Truth(scale=2.0 * 0.4**0.06, slope=slope)
    findings = analyze(study({"causal_lm": BASE, "enc_dec": other}, noise=0.003), "causal_lm")
    head = headline(findings)
    for said, mark in ((head, False), (replace(head, claims=()), True)):
        text = sections.crossovers(findings, said, ()).rows[0][2]
        assert text.endswith(" (fits alone)") is mark
        assert ("better throughout" in text) is (slope == BASE.slope and not mark)
