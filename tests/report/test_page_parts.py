from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from planned import RUN, experiment
from synthetic import Truth, study

from encdec_jax.compute.ledger import count
from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.model.arch import ARCHS
from encdec_jax.report import costs, html, style
from encdec_jax.report.canvas import inline, part
from encdec_jax.report.chosen import only, parted
from encdec_jax.report.figures import frontier, gaps, isoflops
from encdec_jax.report.learning import histories, thin, watched
from encdec_jax.report.pictures import learnings, point_tips
from encdec_jax.study.findings import analyze

TABLE = study({"causal_lm": Truth()}, noise=0.01)


TWELVE = ["causal_lm", "prefix_lm", *(f"{arch} {split}" for arch in ("enc_dec", "layerwise") for split in range(5))]


@pytest.mark.parametrize("labels", [ARCHS, TWELVE])
def test_names_can_be_read_on_white(labels):
    for look in style.looks(labels).values():
        red, green, blue = (int(look.ink[i : i + 2], 16) for i in (1, 3, 5))
        assert style.contrast((red, green, blue)) >= 4.5


def test_twelve_labels_are_told_apart_by_colour_and_by_marker():
    found = style.looks(TWELVE)
    assert len({look.colour for look in found.values()}) == len({look.marker for look in found.values()}) == 12
    assert len({look.glyph for look in found.values()}) == 12
    shades = np.array([[int(look.colour[i : i + 2], 16) for i in (1, 3, 5)] for look in found.values()])
    apart = np.linalg.norm(shades[:, None] - shades[None], axis=-1) + 1e3 * np.eye(12)
    assert apart.min() > 60  # of 442 between black and white
    many = style.looks(str(i) for i in range(144))
    assert len({(look.colour, look.marker) for look in many.values()}) == 144


def test_an_architecture_looks_the_same_in_every_study():
    alone = style.looks(["enc_dec"])["enc_dec"]
    assert style.looks(["another", "causal_lm", "enc_dec 1/2"])["enc_dec 1/2"] == alone
    assert style.looks(["enc_dec 1/3", "enc_dec 2/3"])["enc_dec 1/3"] == alone


def test_labels_beside_curves_stand_in_their_order_however_many():
    """By the right ends of the curves, apart from each other, inside the axes' height; so in the page's legend."""
    truths = {label: Truth(scale=2 + 0.05 * place) for place, label in enumerate(TWELVE)}
    findings = analyze(study(truths, noise=0.001), "causal_lm")
    assert [label for label, _ in html._legend(findings)] == TWELVE[::-1]
    figure = frontier(findings)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    shown = {text.get_text()[2:]: text.get_window_extent() for text in axes.texts}
    assert sorted(shown, key=lambda label: shown[label].y0) == TWELVE  # whose losses rise in this order
    boxes = sorted(shown.values(), key=lambda box: box.y0)
    assert all(low.y1 < high.y0 + 1 for low, high in pairwise(boxes))
    assert all(text.get_color() == style.looks(TWELVE)[text.get_text()[2:]].ink for text in axes.texts)


def test_figures_show_a_chosen_subset_as_the_whole_does():
    truths = {label: Truth(scale=2 + 0.05 * place) for place, label in enumerate(TWELVE)}
    findings = analyze(study(truths, noise=0.001), "causal_lm")
    chosen = only(findings, ["enc_dec 3"])
    assert chosen.labels == ("causal_lm", "enc_dec 3")
    assert chosen.comparison("enc_dec 3", 1e12) == findings.comparison("enc_dec 3", 1e12)
    figure = frontier(findings, labels=["enc_dec 3"])
    whole = {text.get_text()[2:]: text.get_color() for text in frontier(findings).axes[0].texts}
    assert {text.get_text()[2:].partition("\n")[0] for text in figure.axes[0].texts} == set(chosen.labels)
    for text in figure.axes[0].texts:
        assert text.get_color() == whole[text.get_text()[2:].partition("\n")[0]]
    (beside,) = gaps(findings, labels=["enc_dec 3"]).axes
    assert {text.get_text()[2:].partition("\n")[0] for text in beside.texts} == set(chosen.labels)
    assert len(isoflops(findings, labels=["enc_dec 3"]).axes) == 2
    with pytest.raises(UserError, match="labels = 'rnn' is not accepted: one of causal_lm"):
        frontier(findings, labels=["rnn"])


def test_a_list_of_labels_may_name_some_that_hold_commas():
    labels = ["enc_dec", "enc_dec, ul2", "enc_dec, ul2, tuned", "prefix_lm"]
    assert parted("enc_dec, ul2,prefix_lm", labels) == ["enc_dec, ul2", "prefix_lm"]
    assert parted("prefix_lm, enc_dec,ul2 , tuned", labels) == ["prefix_lm", "enc_dec, ul2, tuned"]
    assert parted("enc_dec,rnn, gru", labels) == ["enc_dec", "rnn", "gru"]
    assert parted(" , ", labels) == []


def test_contrast_is_that_of_the_guidelines():
    assert style.contrast((255, 255, 255)) == pytest.approx(1.0)
    assert style.contrast((0, 0, 0)) == pytest.approx(21.0)
    assert style.contrast((0x76, 0x76, 0x76)) == pytest.approx(4.54, abs=0.01)  # the lightest grey that passes


def test_thinning_keeps_the_mean_and_the_last_step():
    step, loss = np.arange(10.0, 5010.0, 10.0), np.random.default_rng(0).normal(3, 1, 500)
    at, mean = thin(step, loss, points=20)
    assert len(at) <= 20
    assert at[-1] == step[-1]
    counts = np.diff(np.searchsorted(step, at, side="right"), prepend=0)
    assert counts @ mean / 500 == pytest.approx(loss.mean())
    np.testing.assert_array_equal(thin(step[:1], loss[:1]), ([10.0], loss[:1]))


def test_histories_are_read_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path))
    study_of = experiment(TABLE)
    first, updates, flops = TABLE.select("run_id", "updates", "train_flops").row(0)
    folder = study_of.run_folder(first)
    folder.mkdir(parents=True)
    lines = ['{"step": 10, "loss": 5.0}', '{"step": 20, "loss": null}', f'{{"step": {updates}, "loss": 3.0}}']
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (found,) = histories(study_of, TABLE)
    assert found.run_id == first
    np.testing.assert_allclose(found.flops, [10 / updates * flops, flops])
    np.testing.assert_allclose(found.loss, [5.0, 3.0])
    assert len(found.scored[0]) == 0
    assert watched([found]) == []
    lines[0] = '{"step": 10, "loss": 5.0, "suffix_bits_per_byte": 4.0}'
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (seen,) = watched(histories(study_of, TABLE))
    np.testing.assert_allclose([seen.flops, seen.loss], [[10 / updates * flops], [4.0]])
    (folder / "metrics.jsonl").write_text("{\n")
    with pytest.raises(UserError, match="is damaged"):
        histories(study_of, TABLE)


def test_curves_of_runs_without_a_budget_are_drawn_together(tmp_path, monkeypatch):
    """No budget equals itself as NaN: a study with runs that were not matched had no report."""
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path))
    unmatched = TABLE.with_columns(budget_flops=pl.lit(None, pl.Float64)).filter(pl.col("label") == "causal_lm")
    for identity, updates in unmatched.head(2).select("run_id", "updates").iter_rows():
        folder = experiment(TABLE).run_folder(identity)
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(f'{{"step": 10, "loss": 5.0}}\n{{"step": {updates}, "loss": 3.0}}\n')
    found = histories(experiment(TABLE), unmatched.head(2))
    (picture,) = learnings(analyze(TABLE, "causal_lm"), found)
    assert picture.svg.count("no budget") == 1


def test_the_ledger_shown_is_that_of_the_run_closest_to_the_best_size():
    findings = analyze(TABLE, "causal_lm")
    (spent,) = costs.spent(experiment(TABLE), TABLE, findings)
    largest = TABLE.filter(pl.col("budget_flops") == 1e12)
    distance = (largest["n_params"].log() - np.log(findings.optimum("causal_lm", 1e12).n.value)).abs()
    assert spent.run_id == largest["run_id"][distance.arg_min()]
    assert sum(spent.flops.values()) == pytest.approx(count(RUN).train_flops.mask)
    rows = costs.ledger([spent], ()).rows
    shares = [float(row[2].rstrip("%")) for row in rows[:-1] if row[2] != "-"]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))
    assert costs.spent(experiment(TABLE, runs={"other": RUN}), TABLE, findings) == []


def test_a_text_for_every_marker_or_an_error():
    def draw(figure):
        part(figure.subplots().plot([1, 2, 3], [1, 2, 3], "o"), "causal_lm", "dots")

    made = inline("dots", (3, 2), draw, {"dots": ["a", "b & c", "d"]})
    assert made.count('data-label="causal_lm"') == 1
    assert made.count("<title>b &amp; c</title>") == 1
    with pytest.raises(ValueError, match="zip"):
        inline("dots", (3, 2), draw, {"dots": ["a", "b"]})


def test_a_point_names_the_runs_behind_it():
    """Settings of its size that another beat are others' runs; two seeds are one point."""
    seeds = study({"causal_lm": Truth()}, seeds=(0, 1), noise=0.01)
    worse = seeds.with_columns(pl.col(LOSS) + 0.5, setting="x" + pl.col("setting"), run_id="x" + pl.col("run_id"))
    said = point_tips(analyze(pl.concat([seeds, worse]), "causal_lm"))
    texts = [text for key, lines in said.items() if key.startswith("sizes") for text in lines]
    named = [name for text in texts for name in text.rpartition("; ")[2].split(", ")]
    assert sorted(named) == sorted(seeds["run_id"])
    assert all("(mean of 2 runs)" in text for text in texts)
