from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from synthetic import Truth, study

from encdec_jax.compute.quantities import decode_flops, kv_bytes
from encdec_jax.errors import UserError
from encdec_jax.model.presets import preset
from encdec_jax.study.curves import Exclusion
from encdec_jax.study.findings import analyze
from encdec_jax.study.outliers import Outlier
from encdec_jax.study.pareto import AXES, fronts, on_front

SMALL, LARGE = (preset("causal_lm", d_model=d, dec_layers=2, vocab_size=259) for d in (64, 128))
BOTH = preset("enc_dec", d_model=64, dec_layers=1, vocab_size=259)


def made(noise=0.01):
    """One run each of a small and a large causal LM and of an encoder-decoder, and their configurations."""
    table = study({"causal_lm": Truth(), "enc_dec": Truth(scale=1.9)}, budgets=(1e12,), noise=noise)
    models = dict.fromkeys(table.filter(arch="causal_lm")["run_id"], SMALL)
    models |= dict.fromkeys(table.filter(arch="enc_dec")["run_id"], BOTH)
    models[table["run_id"][3]] = LARGE
    return table, models


def test_a_front_holds_what_nothing_beats():
    cost = np.array([1, 1, 2, 3, 3, 4.0])
    loss = np.array([5, 4, 4, 3, 3, 3.5])
    assert on_front(cost, loss).tolist() == [False, True, False, True, True, False]
    assert on_front(cost, np.stack([loss, -loss])).tolist()[1] == [True, False, False, False, False, False]


@pytest.mark.parametrize("seed", range(5))
def test_a_front_is_that_of_the_definition(seed):
    cost, loss = np.random.default_rng(seed).integers(0, 5, (2, 30))
    beaten = [((cost <= c) & (loss <= y) & ((cost < c) | (loss < y))).any() for c, y in zip(cost, loss, strict=True)]
    assert on_front(cost, loss.astype(float)).tolist() == [not b for b in beaten]


def test_costs_are_the_ledgers_at_each_ratio():
    table, models = made()
    found = fronts(table, models, analyze(table, "causal_lm"), ratios=(0.25, 3), total=400)
    assert set(found["axis"]) == set(AXES)
    large = found.filter(pl.col("n_params") == table["n_params"][3], pl.col("label") == "causal_lm")
    costs = {(row["axis"], row["source"]): row["cost"] for row in large.iter_rows(named=True)}
    assert costs["kv_bytes", 300] == kv_bytes(LARGE, 300, 100)
    assert costs["decode_flops", 80] == decode_flops(LARGE, 80, 320)
    assert costs["request_flops", 300] > 3 * costs["decode_flops", 300]
    assert costs["train_flops", None] == 1e12


def test_seeds_are_one_setting_and_noise_makes_the_front_a_matter_of_probability():
    table = study({"causal_lm": Truth()}, budgets=(1e12,), seeds=(0, 1), noise=0.1)
    models = dict.fromkeys(table["run_id"], SMALL)
    found = fronts(table, models, analyze(table, "causal_lm")).filter(axis="train_flops")
    assert len(found) == 4
    assert set(found["runs"]) == {2}
    assert found["front"].sum() == 1
    assert found["share"].sum() == pytest.approx(1)
    assert found.filter("front")["share"].item() < 1


def test_branches_of_a_trunk_share_its_noise():
    """Where all points are of the same trunks there is nothing to be unsure of: they are lucky together."""
    table = study({"causal_lm": Truth()}, budgets=(1e12, 3e12), seeds=(0, 1), noise=0.1)
    models, findings = dict.fromkeys(table["run_id"], SMALL), analyze(table, "causal_lm")
    of = {"none": pl.lit(None, pl.String), "one a seed": pl.format("trunk {}", "seed"), "one": pl.lit("trunk")}
    found = {name: fronts(table.with_columns(trunk=trunk), models, findings) for name, trunk in of.items()}
    sure = {name: (one["share"] == one["front"].cast(pl.Float64)).all() for name, one in found.items()}
    assert sure == {"none": False, "one a seed": True, "one": True}


def test_runs_without_a_configuration_or_left_out_for_their_health_have_no_place():
    table, models = made()
    sick = table["run_id"][0]
    del models[table["run_id"][1]]
    findings = analyze(table, "causal_lm", [Exclusion(sick, "causal_lm", "spikes", health=True)])
    found = fronts(table, models, findings).filter(axis="train_flops")
    assert len(found) == len(table) - 2
    assert fronts(table, {}, findings).is_empty()


def test_outliers_have_no_place():
    table, models = made()
    odd = table["run_id"][0]
    findings = replace(analyze(table, "causal_lm"), outliers=(Outlier(odd, "causal_lm", 1e12, -0.5, -9.0),))
    assert len(fronts(table, models, findings)) < len(fronts(table, models, replace(findings, outliers=())))


def test_lengths_that_make_no_request_are_refused():
    table, models = made()
    with pytest.raises(UserError, match="ratio = 0"):
        fronts(table, models, analyze(table, "causal_lm"), ratios=(0,))


def test_without_an_estimate_of_the_noise_no_share_is_given():
    table, models = made()
    findings = analyze(table, "causal_lm")
    assert fronts(table, models, findings)["share"].null_count() == 0
    three = study({"causal_lm": Truth()}, budgets=(1e12,), ratios=(0.4, 1.1, 3), window=0.01)
    found = fronts(three, dict.fromkeys(three["run_id"], SMALL), analyze(three, "causal_lm"))
    assert found["front"].any()
    assert found["share"].null_count() == len(found)


def test_where_the_mean_of_settings_stands_for_a_size_it_stands_on_the_fronts():
    """The best of two rates, by luck or not, was on the front of a study whose curves took the mean."""
    table, models = made()
    other = table.with_columns(
        pl.col("suffix_bits_per_byte") + 0.2,
        run_id="x" + pl.col("run_id"),
        setting="x" + pl.col("setting"),
        lr=pl.lit(0.02),
    )
    both, costs = pl.concat([table, other]), models | {f"x{name}": LARGE for name in models}
    found = {
        of: fronts(both, costs, analyze(both, "causal_lm", settings=of), settings=of).filter(label="causal_lm")
        for of in ("best", "mean")
    }
    best, mean = (one.filter(axis="train_flops").sort("n_params", "loss") for one in (found["best"], found["mean"]))
    assert (len(best), len(mean)) == (8, 4)
    assert mean["runs"].to_list() == [2] * 4
    assert mean["loss"].to_list() == pytest.approx((best["loss"][::2] + 0.1).to_list())
    decode = found["mean"].filter(axis="decode_flops", ratio=1.0).sort("n_params")
    both_costs = np.mean([decode_flops(SMALL, 1024, 1024), decode_flops(LARGE, 1024, 1024)])
    assert decode["cost"].to_list() == pytest.approx([both_costs] * 3 + [decode_flops(LARGE, 1024, 1024)])
