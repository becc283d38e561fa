import json

import numpy as np
import polars as pl
import pytest
from synthetic import Truth, study
from tiny import SUMMARY

from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.study.paired import pairs

WINDOWS, NBYTES = 400, 128.0


def runs(root, gap=0.1, seeds=(0,), seed_noise=0.0, windows=WINDOWS):
    """Two architectures whose windows are hard and easy together, and a gap in bits per byte between them."""
    random = np.random.default_rng(0)
    table = study({"causal_lm": Truth(), "enc_dec": Truth()}, budgets=(1e12,), ratios=(1,), seeds=seeds)
    hard = random.normal(2, 0.3, windows)
    losses = []
    for run in table.iter_rows(named=True):
        shift = gap * (run["arch"] == "enc_dec") + seed_noise * random.standard_normal()
        bits = (hard + shift + 0.05 * random.standard_normal(windows)) * NBYTES
        folder = root / run["run_id"]
        folder.mkdir(parents=True)
        np.save(folder / "suffix_bits.npy", bits)
        config = {
            "data": {"task": "t", "vocab": "bytes", "eval_split": "validation"},
            "evaluate": {"prefix": 128, "suffix": 128, "windows": windows},
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "summary.json").write_text(json.dumps(SUMMARY))
        losses.append(bits.sum() / (windows * NBYTES))
    return table.with_columns(pl.Series(LOSS, losses))


def test_a_paired_difference_is_as_sure_as_its_windows_differ(tmp_path):
    (found,), _ = pairs(runs(tmp_path), tmp_path, "causal_lm")
    assert found.windows.low < 0.1 < found.windows.high
    half = 1.96 * 0.05 * 2**0.5 / WINDOWS**0.5
    assert found.windows.high - found.windows.low == pytest.approx(2 * half, rel=0.15)
    # On windows of its own each would be as unsure as windows differ.
    apart = 1.96 * 2**0.5 * np.hypot(0.3, 0.05) / WINDOWS**0.5
    assert found.apart.high - found.apart.low == pytest.approx(2 * apart, rel=0.15)
    assert found.correlation > 0.95
    assert found.better < 0.15
    assert found.same_tokens
    assert not found.seeds.known


def test_the_interval_of_other_seeds_is_students(tmp_path):
    table = runs(tmp_path, seeds=(0, 1, 2), seed_noise=0.1)
    (found,), _ = pairs(table, tmp_path, "causal_lm")
    assert len(found.runs) == 3
    gap = [table.filter(arch=a).sort("seed")[LOSS].to_numpy() for a in ("enc_dec", "causal_lm")]
    difference = gap[0] - gap[1]
    assert found.seeds.value == pytest.approx(difference.mean())
    assert found.seeds.high - found.seeds.value == pytest.approx(4.3027 * difference.std(ddof=1) / 3**0.5, rel=1e-4)
    assert found.seeds.high - found.seeds.low > 5 * (found.windows.high - found.windows.low)


def test_only_seeds_that_both_ran_are_paired(tmp_path):
    table = runs(tmp_path, seeds=(0, 1))
    only = table.filter(~((pl.col("arch") == "enc_dec") & (pl.col("seed") == 0)))
    (found,), _ = pairs(only, tmp_path, "causal_lm")
    assert len(found.runs) == 1
    assert pairs(table.filter(arch="causal_lm"), tmp_path, "causal_lm") == ((), ())


def test_runs_scored_on_different_text_are_left_out_and_named(tmp_path):
    """The report of a study that pooled several texts was impossible."""
    table = runs(tmp_path, seeds=(0, 1, 2))
    first, second, third = table.filter(arch="enc_dec").sort("seed")["run_id"]
    rewrite(tmp_path / first / "summary.json", cache_digest="another")
    (found,), left_out = pairs(table, tmp_path, "causal_lm")
    assert [mine for mine, _ in found.runs] == [second, third]
    assert len(left_out) == 1
    assert f"over 2 of 3 seeds: {first} and " in left_out[0]
    # Both runs of a seed on another text than those of the other seeds are a pair, but no mean with them.
    rewrite(tmp_path / table.filter(arch="causal_lm", seed=0)["run_id"][0] / "summary.json", cache_digest="another")
    assert pairs(table, tmp_path, "causal_lm")[0][0].runs == found.runs
    for identity in (second, third):
        rewrite(tmp_path / identity / "config.json", evaluate={"prefix": 64, "suffix": 128, "windows": WINDOWS})
    (found,), _ = pairs(table, tmp_path, "causal_lm")
    assert [mine for mine, _ in found.runs] == [first]


def test_scores_of_other_windows_than_stated_are_refused(tmp_path):
    table = runs(tmp_path)
    scores = tmp_path / table["run_id"][0] / "suffix_bits.npy"
    np.save(scores, np.load(scores)[:-1])
    with pytest.raises(UserError, match=r"held-out scores of = .* is not accepted: those of the same windows"):
        pairs(table, tmp_path, "causal_lm")


def test_the_mean_of_several_settings_has_no_runs_to_pair(tmp_path):
    """Curves took the mean of settings, and the paired windows the luckiest of them."""
    table = runs(tmp_path)
    worse = table.filter(arch="enc_dec").with_columns(
        pl.col(LOSS) + 0.2, run_id=pl.lit("worse"), setting=pl.lit("worse"), lr=pl.lit(0.02)
    )
    both = pl.concat([table, worse])
    # As text, for from Python 3.13 on a field that is NaN makes what holds it unequal to itself.
    assert str(pairs(both, tmp_path, "causal_lm")) == str(pairs(table, tmp_path, "causal_lm"))
    found, left_out = pairs(both, tmp_path, "causal_lm", "mean")
    assert found == ()
    assert left_out[0].endswith("the best size of enc_dec is the mean of several settings.")
    # Its mean decides which size is the best: here that of the other size, trained once.
    far = worse.with_columns(pl.col(LOSS) + 3.0)
    other = table.filter(arch="enc_dec").with_columns(
        pl.col(LOSS) + 0.1, pl.col("n_params") * 4, run_id=pl.lit("other"), setting=pl.lit("other")
    )
    (tmp_path / table.filter(arch="enc_dec")["run_id"][0]).rename(tmp_path / "other")
    of_other = pl.concat([table, far, other.with_columns(table.filter(arch="enc_dec")[LOSS])])
    (pair,), _ = pairs(of_other, tmp_path, "causal_lm", "mean")
    assert pair.runs[0][0] == "other"


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_scores_that_are_missing_are_named(tmp_path):
    table = runs(tmp_path)
    (tmp_path / table["run_id"][0] / "suffix_bits.npy").unlink()
    with pytest.raises(UserError, match="paired analysis needs the runs' folder"):
        pairs(table, tmp_path, "causal_lm")
