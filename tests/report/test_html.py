import base64
import functools
import io
import json
import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import planned
import polars as pl
import pytest
from synthetic import Truth, study
from tiny import SUMMARY, tiny_run

from encdec_jax.config import to_dict
from encdec_jax.errors import UserError
from encdec_jax.files import write_json
from encdec_jax.report import html, pictures
from encdec_jax.report.answer import answer
from encdec_jax.report.html import render, write_report
from encdec_jax.report.learning import History
from encdec_jax.report.pictures import png
from encdec_jax.study.approaches import Sides, sides
from encdec_jax.study.findings import analyze
from encdec_jax.study.findings import study as of_experiment
from encdec_jax.study.headline import headline
from encdec_jax.study.predictions import Forecast, Prediction, score
from encdec_jax.sweep import results
from encdec_jax.sweep.experiment import Experiment

TABLE = study(
    {"causal_lm": Truth(), "enc_dec": Truth(scale=2.1), "prefix_lm": Truth(scale=2.2)}, noise=0.01, window=0.01
)
FOUND = analyze(TABLE, "causal_lm")
VOID = {"meta", "br", "hr", "img", "link"}


def experiment(table: pl.DataFrame = TABLE, **changes) -> Experiment:
    return planned.experiment(table, **changes)


def page(table: pl.DataFrame = TABLE, **changes) -> str:
    return render(experiment(table, **changes), table, analyze(table, "causal_lm"))


def forecast(identity: str, value: float) -> Forecast:
    return Forecast(
        identity, "enc_dec", 5e4, 4e6, value, value - 0.1, value + 0.1, 0.05, "ab" * 32, "cd" * 32, "2026-01-01"
    )


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without their drawings, which take most of a page's time, for tests of what else is there."""
    monkeypatch.setattr(pictures, "inline", lambda title, size, draw, tips: f'<svg aria-label="{title}"></svg>')


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


@functools.cache
def seen() -> tuple[Sides, ...]:
    return sides(TABLE, analyze(TABLE, "causal_lm"), {})


def text_of(source: str) -> str:
    source = re.sub(r"<(svg|style|script).*?</\1>", "", source, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", source))


def test_the_first_line_answers():
    body = usual_page().partition("<body>")[2]
    first = re.sub(r"<[^>]+>", "", body).strip().partition("\n")[0]
    assert unescape(first) == answer(FOUND, headline(FOUND))
    assert body.index(first) < body.index("Does an encoder-decoder win?") < body.index("<svg")


def test_nothing_is_loaded_from_elsewhere():
    source = usual_page()
    assert "://" not in source
    assert source.count("<script>") == source.count("<script") == 1
    assert "default-src 'none'" in source
    assert "url(" not in re.sub(r"url\(#\w+\)", "", source)
    assert "@import" not in source
    assert all(target.startswith(("#", "data:")) for target in re.findall(r'\b(?:href|src)="([^"]*)"', source))


def test_the_rows_are_in_the_page():
    (rows,) = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]+)"', usual_page())
    read = pl.read_csv(io.BytesIO(base64.b64decode(rows)), schema=results.SCHEMA)
    assert read.sort("run_id").equals(TABLE.sort("run_id"))


def test_the_page_is_well_formed_and_its_pictures_find_their_parts():
    parser = Balance()
    parser.feed(usual_page())
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
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


def test_all_runs_say_their_layers():
    runs = usual_page().partition('id="all-runs"')[2]
    layers = {f"{one['enc_layers']}+{one['dec_layers']}" for one in TABLE.filter(arch="enc_dec").to_dicts()}
    assert ">layers" in runs
    assert layers
    assert all(f">{text}<" in runs for text in layers)


def test_what_users_write_is_escaped(undrawn):
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
    assert source.count("<script") == 1
    assert "<b>" not in source
    assert source.count("&lt;script&gt;") >= 7


def test_what_is_left_out_is_listed_with_its_rule(undrawn):
    diverged = TABLE.with_columns(
        status=pl.when(pl.int_range(pl.len()) == 1).then(pl.lit("diverged")).otherwise("status")
    ).head(30)
    text = text_of(render(experiment(), diverged, analyze(diverged, "causal_lm")))
    assert f"{TABLE['run_id'][1]} causal_lm diverged" in text
    assert f"{TABLE['run_id'][35]} prefix_lm missing: not done yet" in text
    assert "29 of 36 runs are done." in text


def test_points_say_what_they_show():
    source = usual_page()
    for identity in TABLE["run_id"]:
        assert (
            len(re.findall(rf"<title>[^<]*{re.escape(identity)}</title>", source)) == 2
        )  # of the curve, of its residual
    for arch in ("causal_lm", "enc_dec", "prefix_lm"):
        assert f'data-label="{arch}"' in source
        assert len(re.findall(rf"<title>{arch}, 1e12 FLOPs: best size", source)) == 2  # starred, and on the frontier


def test_learning_curves_are_drawn_or_said_to_be_gone(undrawn):
    findings = analyze(TABLE, "causal_lm")
    assert "there are no learning curves" in text_of(page())
    scored = (np.array([1e10, 1e11]), np.array([4.0, 2.5]))
    found = [History(TABLE["run_id"][0], "causal_lm", 1e11, np.array([1e9, 1e11]), np.array([5.0, 3.0]), scored)]
    drawn = render(experiment(), TABLE, findings, found)
    assert "there are no learning curves" not in text_of(drawn)
    assert "causal_lm: training loss against training FLOPs spent" in text_of(drawn)
    assert "causal_lm: held-out loss against training FLOPs spent" in text_of(drawn)
    unwatched = [replace(one, scored=(np.empty(0), np.empty(0))) for one in found]
    assert "held-out loss against training" not in text_of(render(experiment(), TABLE, findings, unwatched))


def test_forecasts_are_scored(undrawn):
    identity, observed = TABLE.filter(pl.col("arch") == "enc_dec").select("run_id", "suffix_bits_per_byte").row(0)
    forecasts = {identity: forecast(identity, observed - 0.05), "later": forecast("later", 2.0)}
    text = text_of(render(experiment(), TABLE, analyze(TABLE, "causal_lm"), scored=score(forecasts, TABLE)))
    assert f"{observed:.4f} +0.0500 +1.00 yes 2026-01-01" in text
    assert "Over 1 runs done: mean error +0.0500" in text
    assert "All have an interval: root mean square z 1.00" in text
    assert "later enc_dec 2.0000 [1.9000, 2.1000] pending" in text


def test_forecasts_without_an_interval_are_not_judged_by_one(undrawn):
    (one, a), (two, b) = TABLE.filter(pl.col("arch") == "enc_dec").select("run_id", "suffix_bits_per_byte").rows()[:2]
    bare = replace(forecast(two, b - 0.02), low=math.nan, high=math.nan, sd=math.nan)
    findings = analyze(TABLE, "causal_lm")
    text = text_of(render(experiment(), TABLE, findings, scored=score({one: forecast(one, a - 0.1), two: bare}, TABLE)))
    assert f"{b - 0.02:.4f} no interval {b:.4f} +0.0200 - - 2026-01-01" in text
    assert "Over 2 runs done: mean error +0.0600" in text
    assert "1 have an interval: root mean square z 2.00 (1 if the intervals have the right width); 100% inside" in text
    text = text_of(render(experiment(), TABLE, findings, scored=score({two: bare}, TABLE)))
    assert "None of their forecasts has an interval." in text
    assert not re.search(r"\bnan\b", text)


def test_an_optimum_at_the_edge_is_in_doubt_and_said_to_be(undrawn):
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
    findings = of_experiment(experiment(table), table)
    source = render(experiment(predictions=[]), table, findings)
    assert f"<h1>{answer(findings, headline(findings))}</h1>" in source.replace("&#39;", "'")
    assert ("nothing to draw yet" in source) == (not findings.optima)


def test_one_run_makes_a_figure():
    assert png(analyze(TABLE.head(1), "causal_lm"), "title")[:4] == b"\x89PNG"


def test_the_same_table_gives_the_same_bytes():
    one, two = analyze(TABLE, "causal_lm"), analyze(TABLE.reverse(), "causal_lm")
    assert png(one, "title") == png(two, "title")
    assert render(experiment(), TABLE.reverse(), two) == usual_page()


def test_a_title_with_dollar_signs_is_drawn_as_it_is():
    findings = analyze(TABLE.filter(pl.col("arch") == "causal_lm"), "causal_lm")
    assert png(findings, "does $x_{ cost $5?")[:4] == b"\x89PNG"


def test_approaches_stand_side_by_side_each_with_its_exponent_or_reason(undrawn):
    findings = analyze(TABLE, "causal_lm")
    source = render(experiment(), TABLE, findings, seen=seen())
    assert source == render(experiment(), TABLE, findings, seen=sides(TABLE.reverse(), findings, {}))
    text = text_of(source)
    for part in ("Laws side by side", "Parabolas checked", "The largest budget held out"):
        assert part in text, part
    for side in seen():
        for one in side.exponents:
            shown = one.reason if one.n is None else f"{side.label} {one.approach} "
            assert shown in text
        assert f"{side.label}: {sum(one.n is not None for one in side.exponents)} approaches put" in text
    assert "learning curves (metrics.jsonl) of 0 of 12 runs are here" in text
    assert "law of the best loss 2 budgets, a power law" in text


def test_write_report_leaves_page_and_picture_beside_the_results(tmp_path, monkeypatch, undrawn):
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path))
    loaded = experiment()
    monkeypatch.setattr(html, "load", lambda folder: loaded)
    monkeypatch.setattr(results, "collect", lambda loaded: TABLE)
    path = write_report(Path("experiments/quickstart"))
    assert path == tmp_path / "quickstart" / "report.html"
    findings = analyze(TABLE, "causal_lm")
    assert path.read_text() == render(loaded, TABLE, findings, seen=seen())
    assert path.with_name("figure.png").read_bytes() == png(analyze(TABLE, "causal_lm"), "Does an encoder-decoder win?")


def test_runs_of_other_text_are_pooled_but_not_compared_window_by_window(tmp_path, monkeypatch, undrawn):
    """With a reason stated for several texts, there was no report. An outlier was its budget's best run there."""
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path))
    odd, other = TABLE.filter(arch="enc_dec", budget_flops=TABLE["budget_flops"].min())["run_id"][0], "f" * 64
    loss, identity = pl.col("suffix_bits_per_byte"), pl.col("run_id")
    table = TABLE.with_columns(
        suffix_bits_per_byte=pl.when(identity == odd).then(0.8 * loss).otherwise(loss),
        cache_digest=pl.when(pl.col("arch") == "prefix_lm").then(pl.lit(other)).otherwise(pl.lit("d")),
    )
    loaded = experiment(table, pooled={"cache_digest": "The texts are alike."})
    for run in table.iter_rows(named=True):
        folder = loaded.run_folder(run["run_id"])
        folder.mkdir(parents=True)
        np.save(folder / "suffix_bits.npy", run["suffix_bits_per_byte"] * np.array([90.0, 110.0, 100.0]))
        write_json(folder / "config.json", to_dict(tiny_run()))
        write_json(folder / "summary.json", {**SUMMARY, "cache_digest": run["cache_digest"]})
    monkeypatch.setattr(html, "load", lambda folder: loaded)
    monkeypatch.setattr(results, "collect", lambda loaded: table)
    findings = of_experiment(loaded, table)
    assert [one.run_id for one in findings.outliers] == [odd]
    pairs, unpaired = html._pairs(loaded, html._sound(table, findings))
    assert {pair.label for pair in pairs} == {"enc_dec"}
    assert odd not in {mine for pair in pairs for mine, _ in pair.runs}
    assert len(unpaired) == table["budget_flops"].n_unique()
    for identity, bits in zip(pairs[0].runs[0], (210.0, 200.0), strict=True):
        scored = loaded.run_folder(identity) / "evaluations/verses-test/documents.jsonl"
        rows = ({"number": n, "bits": bits + n, "bytes": 100, "text": "t"} for n in range(3))
        scored.parent.mkdir(parents=True)
        scored.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    text = text_of(write_report(Path("experiments/quickstart")).read_text())
    assert "prefix_lm and causal_lm are compared window by window over 0 of 1 seeds" in text
    assert re.search(r"On the same documents .* verses-test 3 \+0\.1", text)


def test_where_the_runs_are_gone_the_committed_table_stands_for_them(tmp_path, monkeypatch, undrawn):
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path / "runs"))
    TABLE.write_parquet(tmp_path / "results.parquet")
    loaded = experiment(folder=tmp_path)
    monkeypatch.setattr(html, "load", lambda folder: loaded)
    text = text_of(write_report(tmp_path).read_text())
    assert "enc_dec needs" in text
    assert "there are no learning curves" in text


def test_a_faulty_prediction_leaves_nothing_half_written(tmp_path, monkeypatch, undrawn):
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path))
    loaded = experiment(predictions=[Prediction("broken", lambda f: 1 / 0)])
    monkeypatch.setattr(html, "load", lambda folder: loaded)
    monkeypatch.setattr(results, "collect", lambda loaded: TABLE)
    with pytest.raises(UserError, match="prediction 'broken'"):
        write_report(Path("experiments/quickstart"))
    assert list(tmp_path.rglob("*")) == []


def test_a_page_shows_chosen_labels_and_the_answer_of_all():
    whole = analyze(TABLE, "causal_lm")
    page = render(experiment(TABLE), TABLE, whole, labels=["prefix_lm"])
    assert set(re.findall(r'data-label="(\w+)"', page)) == {"causal_lm", "prefix_lm"}
    assert answer(whole, headline(whole)) in unescape(page)
    assert "Shown are causal_lm, prefix_lm, of 3 labels; the answer is of all." in unescape(page)
    with pytest.raises(UserError, match="labels = 'rnn' is not accepted"):
        render(experiment(TABLE), TABLE, whole, labels=["rnn"])
