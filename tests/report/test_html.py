import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.config import ModelConfig, RunConfig, StackConfig
from encdec_jax.errors import UserError
from encdec_jax.report import html
from encdec_jax.report.html import render, write_report
from encdec_jax.report.plots import png, svgs
from encdec_jax.report.words import answer
from encdec_jax.scaling.findings import find
from encdec_jax.scaling.predictions import Prediction
from encdec_jax.sweep.experiment import Experiment

TABLE = study(
    {"causal_lm": Truth(), "enc_dec": Truth(scale=2.1), "prefix_lm": Truth(scale=2.2)}, noise=0.01, window=0.01
)
RUN = RunConfig(ModelConfig("causal_lm", 300, StackConfig(1, 16, 2, 2, 8, 32)))
VOID = {"meta", "br", "hr", "img", "link"}


def experiment(table: pl.DataFrame = TABLE, **changes) -> Experiment:
    fields = {
        "name": "quickstart",
        "folder": Path("experiments/quickstart"),
        "question": "Does an encoder-decoder win?",
        "baseline": "causal_lm",
        "confounders": {"depth": "1+1 blocks against 2"},
        "predictions": [
            Prediction("enc_dec is worse at 1e12", lambda f: f.comparison("enc_dec", 1e12).gap.above(0)),
            Prediction("prefix_lm is better at 1e12", lambda f: f.comparison("prefix_lm", 1e12).gap.below(0)),
            Prediction("layerwise is best", lambda f: f.comparison("layerwise", 1e12).gap.below(0)),
        ],
        "runs": dict.fromkeys(table["run_id"], RUN),
    }
    return Experiment(**{**fields, **changes})


def page(table: pl.DataFrame = TABLE, **changes) -> str:
    return render(experiment(table, **changes), table, find(table, "causal_lm"))


class Balance(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@functools.cache
def usual_page() -> str:
    return page()


def text_of(source: str) -> str:
    source = re.sub(r"<(svg|style).*?</\1>", "", source, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", source))


def test_the_answer_comes_right_after_the_question():
    source = usual_page()
    stated = answer(find(TABLE, "causal_lm"))
    assert text_of(source).index(stated) < text_of(source).index("At each budget")
    assert source.index("Does an encoder-decoder win?</h1>") < source.index(stated) < source.index("<svg")


def test_nothing_is_loaded_from_elsewhere():
    source = usual_page()
    assert "://" not in source
    assert "<script" not in source
    assert "url(" not in re.sub(r"url\(#\w+\)", "", source)
    assert "@import" not in source
    assert all(target.startswith("#") for target in re.findall(r'\b(?:href|src)="([^"]*)"', source))


def test_the_page_is_well_formed_and_its_pictures_find_their_parts():
    parser = Balance()
    parser.feed(usual_page())
    assert parser.open == []
    source = usual_page()
    wanted = {*re.findall(r"url\(#(\w+)\)", source), *re.findall(r'href="#([^"]+)"', source)}
    assert wanted
    assert wanted <= set(parser.ids)


def test_it_holds_what_a_reader_needs():
    text = text_of(usual_page())
    for part in (
        "held enc_dec is worse at 1e12",
        "failed prefix_lm is better at 1e12",
        "undecided layerwise is best",
        "depth 1+1 blocks against 2",
        "0.40%",
        "1.20x",
        "0123456789ab",
        "encdec run experiments/quickstart",
        "encdec report experiments/quickstart",
        "Fitted laws",
        "3 residuals of its own, 1 borrowed",
    ):
        assert part in text, part
    for identity in TABLE["run_id"]:
        assert identity in text


def test_what_users_write_is_escaped():
    evil = "<script>alert('x')</script> & <b>"
    table = TABLE.with_columns(
        status=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("failed")).otherwise("status"),
        error=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(evil)).otherwise("error"),
        versions=pl.lit(json.dumps({"commit": evil})),
    )
    source = page(
        table,
        question=evil,
        name=evil,
        confounders={evil: evil},
        predictions=[Prediction(evil, lambda f: True)],
        folder=Path("experiments") / evil.replace("/", "-"),
    )
    assert "<script" not in source
    assert "<b>" not in source
    assert source.count("&lt;script&gt;") >= 7


def test_what_is_left_out_is_listed_with_its_rule():
    diverged = TABLE.with_columns(
        status=pl.when(pl.int_range(pl.len()) == 1).then(pl.lit("diverged")).otherwise("status")
    ).head(30)
    text = text_of(render(experiment(), diverged, find(diverged, "causal_lm")))
    assert f"{TABLE['run_id'][1]} causal_lm diverged" in text
    assert f"{TABLE['run_id'][35]} causal_lm missing: not done yet" in text  # every stand-in run is a causal_lm
    assert "29 of 36 runs are done." in text


def test_an_optimum_at_the_edge_is_in_doubt_and_said_to_be():
    table = pl.concat([study({"causal_lm": Truth()}, ratios=(2, 3, 5, 8)), study({"enc_dec": Truth(scale=2.1)})])
    text = text_of(page(table))
    assert "budget 1e12 causal_lm the parabola's minimum lies at the edge" in text.replace("&#39;", "'")
    assert "No law of causal_lm's best size" in text.replace("&#39;", "'")


@pytest.mark.parametrize(
    "table",
    [
        TABLE.clear(),
        TABLE.head(1),
        TABLE.filter(pl.col("arch") == "enc_dec"),
        TABLE.filter(pl.col("budget_flops") == 1e11),
        TABLE.with_columns(status=pl.lit("diverged"), suffix_bits_per_byte=pl.lit(None, pl.Float64)),
        TABLE.with_columns(budget_flops=pl.lit(None, pl.Float64), flops_mismatch=pl.lit(None, pl.Float64)),
        TABLE.with_columns(suffix_bits_per_byte=pl.lit(2.0)),
        TABLE.with_columns(versions=pl.lit(None, pl.String), suffix_bits_se=pl.lit(None, pl.Float64)),
    ],
    ids=["empty", "one run", "no baseline", "one budget", "all diverged", "no budget", "all equal", "no versions"],
)
def test_any_table_makes_a_report(table):
    findings = find(table, "causal_lm")
    source = render(experiment(predictions=[]), table, findings)
    assert 'class="answer"' in source
    assert ("nothing to draw yet" in source) == (not findings.optima)


def test_one_run_makes_a_figure():
    assert png(find(TABLE.head(1), "causal_lm"), "title")[:4] == b"\x89PNG"


def test_the_same_table_gives_the_same_bytes():
    one, two = find(TABLE, "causal_lm"), find(TABLE.reverse(), "causal_lm")
    assert svgs(one) == svgs(two)
    assert png(one, "title") == png(two, "title")


def test_a_title_with_dollar_signs_is_drawn_as_it_is():
    findings = find(TABLE.filter(pl.col("arch") == "causal_lm"), "causal_lm")
    assert png(findings, "does $x_{ cost $5?")[:4] == b"\x89PNG"


def test_write_report_leaves_page_and_picture_beside_the_results(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path))
    loaded = experiment()
    monkeypatch.setattr(html, "load", lambda folder: loaded)
    monkeypatch.setattr(html, "collect", lambda loaded: TABLE)
    path = write_report(Path("experiments/quickstart"))
    assert path == tmp_path / "quickstart" / "report.html"
    assert path.read_text() == usual_page()
    assert path.with_name("figure.png").read_bytes() == png(find(TABLE, "causal_lm"), "Does an encoder-decoder win?")


def test_a_faulty_prediction_leaves_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path))
    loaded = experiment(predictions=[Prediction("broken", lambda f: 1 / 0)])
    monkeypatch.setattr(html, "load", lambda folder: loaded)
    monkeypatch.setattr(html, "collect", lambda loaded: TABLE)
    with pytest.raises(UserError, match="prediction 'broken'"):
        write_report(Path("experiments/quickstart"))
    assert list(tmp_path.rglob("*")) == []
