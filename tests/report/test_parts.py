import numpy as np
import polars as pl
import pytest
from planned import RUN, experiment
from synthetic import Truth, study

from encdec_jax.compute.ledger import count
from encdec_jax.errors import UserError
from encdec_jax.model.arch import ARCHS
from encdec_jax.report import ledgers, style
from encdec_jax.report.axes import part
from encdec_jax.report.learning import histories, thin
from encdec_jax.report.svg import inline
from encdec_jax.study.findings import analyze

TABLE = study({"causal_lm": Truth()}, noise=0.01)


@pytest.mark.parametrize("arch", [*ARCHS, "another"])
def test_names_can_be_read_on_white(arch):
    red, green, blue = (int(style.ink(arch)[i : i + 2], 16) for i in (1, 3, 5))
    assert style.contrast((red, green, blue)) >= 4.5


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
    (folder / "metrics.jsonl").write_text("{\n")
    with pytest.raises(UserError, match="is damaged"):
        histories(study_of, TABLE)


def test_the_ledger_shown_is_that_of_the_run_closest_to_the_best_size():
    findings = analyze(TABLE, "causal_lm")
    (spent,) = ledgers.spent(experiment(TABLE), TABLE, findings)
    largest = TABLE.filter(pl.col("budget_flops") == 1e12)
    distance = (largest["n_params"].log() - np.log(findings.optimum("causal_lm", 1e12).n.value)).abs()
    assert spent.run_id == largest["run_id"][distance.arg_min()]
    assert sum(spent.flops.values()) == pytest.approx(count(RUN).train_flops.mask)
    rows = ledgers.section([spent], ()).rows
    shares = [float(row[2].rstrip("%")) for row in rows[:-1] if row[2] != "-"]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))
    assert ledgers.spent(experiment(TABLE, runs={"other": RUN}), TABLE, findings) == []


def test_a_text_for_every_marker_or_an_error():
    def draw(figure):
        part(figure.subplots().plot([1, 2, 3], [1, 2, 3], "o"), "causal_lm", "dots")

    made = inline("dots", (3, 2), draw, {"dots": ["a", "b & c", "d"]})
    assert made.count('data-label="causal_lm"') == 1
    assert made.count("<title>b &amp; c</title>") == 1
    with pytest.raises(ValueError, match="zip"):
        inline("dots", (3, 2), draw, {"dots": ["a", "b"]})
