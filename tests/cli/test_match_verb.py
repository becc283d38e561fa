"""encdec match, as a user gives it."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encdec_jax.cli import match
from encdec_jax.cli.main import main
from encdec_jax.config import from_dict
from encdec_jax.data.cache import write_cache
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import required_vocab_size
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.files import write_json
from encdec_jax.sweep import experiment, results
from encdec_jax.sweep.identity import run_id

GRID = "--budget 1e18 --families causal_lm,enc_dec --equal params --split 1/3,2/3 --lengths 1024/256 --sizes 2"


def encdec(line: str) -> int:
    parser = argparse.ArgumentParser()
    match.add(parser.add_subparsers())
    options = parser.parse_args(["match", *line.split()])
    return options.function(options)


def test_the_table_shows_every_mismatch_and_marks_what_is_matched(capsys: pytest.CaptureFixture) -> None:
    assert encdec(GRID) == 0
    out = capsys.readouterr().out
    assert "params =" in out
    assert "FLOPs =" in out
    assert "enc_dec 2/3" in out
    assert "…" not in out
    assert out.count("%") >= 4 * 6


def test_json_is_one_object_and_out_its_configurations(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "configs"
    assert encdec(f"{GRID} --json --out {folder}") == 0
    cells = json.loads(capsys.readouterr().out)["grids"][0]["cells"]
    written = [from_dict(json.loads(path.read_text())) for path in folder.glob("*.json")]
    assert len(written) == len(cells) == 6
    assert {run_id(run) for run in written} == {run_id(from_dict(cell["config"])) for cell in cells}
    assert (folder / f"1e18-{cells[0]['name']}-enc_dec-1of3.json").exists()
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    with pytest.raises(UserError, match="nothing is overwritten"):
        encdec(f"{GRID} --out {folder}")
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())


def test_any_objective_has_grids(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = "--budget 4e10 --families causal_lm,enc_dec --lengths 64/64 --vocab bytes --widths 16,32 --batch 4"
    assert encdec(f"{line} --objective causal_lm=causal_lm,ul2 --tuning 0.1 --out {tmp_path / 'mixed'} --json") == 0
    cells = json.loads(capsys.readouterr().out)["grids"][0]["cells"]
    runs = [from_dict(cell["config"]) for cell in cells]
    assert {(run.model.arch, run.objective.name) for run in runs} == {("causal_lm", "causal_lm"), ("enc_dec", "ul2")}
    assert {run.objective.tuning for run in runs} == {0.1}
    written = required_vocab_size(objective_of(runs[1].objective), ByteVocab(), runs[1].data)
    assert {run.model.vocab_size for run in runs} == {written}
    assert all(abs(cell["mismatches"]["train_flops"]) < 0.03 for cell in cells)
    assert "enc_dec: ul2 (tuning 0.1)" in (tmp_path / "mixed" / "sweep.py").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--objective mlm", "objective = 'mlm' is not accepted: one of causal_lm, "),
        ("--objective rnn=ul2", "objective = 'rnn=ul2' is not accepted: one of --families before ="),
        ("--families causal_lm,enc_dec --objective prefix_lm=ul2", "one of --families before =: causal_lm, enc_dec"),
        ("--objective ul2,ul2", "objective = 'ul2,ul2' is not accepted: one for each"),
        ("--tuning 0.1", "tuning = '0.1' is not accepted: none without --objective"),
        ("--objective ul2 --tuning x", "tuning = 'x' is not accepted: a share"),
        ("--families enc_dec --objective causal_lm", "an objective with a source"),
        ("--rule redllm --objective ul2", "objective = 'ul2' is not accepted: none beside rule"),
    ],
)
def test_an_objective_that_is_not_accepted(options: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        encdec(f"--budget 4e10 {options}")


def test_a_rule_prints_its_pairs_and_what_it_claims(capsys: pytest.CaptureFixture) -> None:
    assert encdec("--rule redllm") == 0
    out = capsys.readouterr().out
    for name in ("150M", "1B", "2B", "4B", "8B", "-16%", "-1.56%", "+1.25%", "-6.25%", "2510.26622"):
        assert name in out
    assert encdec("--rule") == 0
    assert "blockwise" in capsys.readouterr().out


def test_a_recipe_sets_one_batch_and_the_rate_of_each_width(capsys: pytest.CaptureFixture) -> None:
    assert encdec(f"{GRID} --recipe inverse_width --json") == 0
    runs = [from_dict(cell["config"]) for cell in json.loads(capsys.readouterr().out)["grids"][0]["cells"]]
    assert len({run.train.batch_size for run in runs}) == 1
    assert len({run.optim.lr * run.model.decoder.d_model for run in runs}) == 1
    assert len({run.optim.lr for run in runs}) == 2


def test_vocabulary_and_batch_are_the_users(capsys: pytest.CaptureFixture) -> None:
    assert encdec("--budget 1e14 --families causal_lm --lengths 96/32 --vocab bytes --batch-tokens 1024 --json") == 0
    run = from_dict(json.loads(capsys.readouterr().out)["grids"][0]["cells"][0]["config"])
    assert (run.model.vocab_size, run.data.vocab, run.train.batch_size) == (259, "bytes", 8)
    assert encdec("--budget 1e17 --families causal_lm --vocab 4096 --json") == 0
    run = from_dict(json.loads(capsys.readouterr().out)["grids"][0]["cells"][0]["config"])
    assert (run.model.vocab_size, run.data.vocab) == (4096, "spm4096")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "budget is missing; accepted: training FLOPs of each run, as 1e18 "),
        ("--rule redllm --equal train_flops", "budget is missing"),
        ("--budget 1e18,10e17", "budget = '1e18,10e17' is not accepted: training FLOPs, each budget once"),
        ("--budget ,", "budget = ',' is not accepted"),
        ("--budget 1e18 --seeds 2", "seeds = '2' is not accepted: 1 without --out"),
        ("--budget 1e18 --seeds 0", "seeds = '0' is not accepted: a whole number of at least 1"),
        ("--budget 1e18 --batch 0", "batch = '0' is not accepted: a whole number of at least 1"),
        ("--budget 1e18 --split 0/3", "split = '0/3' is not accepted: shares of the layers between 0 and 1"),
        ("--budget lots", "budget = 'lots' is not accepted: training FLOPs, as 1e18"),
        ("--budget nan", "budget = nan is not accepted"),
        ("--budget 1e18 --split 1/0", "split = '1/0' is not accepted"),
        ("--budget 1e18 --lengths 10", "lengths = '10' is not accepted: source and target tokens, as 1024/256"),
        ("--budget 1e18 --vocab few", "vocab = 'few' is not accepted: bytes, or the pieces"),
        ("--budget 1e18 --sizes 1.5", "sizes = '1.5' is not accepted"),
        ("--rule redllm --vocab 99", "vocab = '99' is not accepted: none beside rule"),
        ("--rule redllm --recipe luck", "kind = 'luck' is not accepted: mup or inverse_width"),
    ],
)
def test_bad_input_is_refused(line: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        encdec(line)


def test_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, argparse; from encdec_jax.cli import match\n"
        "parser = argparse.ArgumentParser(); match.add(parser.add_subparsers())\n"
        "options = parser.parse_args(['match', '--rule', 'redllm', '--recipe', 'mup', '--json'])\n"
        "options.function(options)\n"
        "assert not sys.modules.keys() & {'jax', 'flax', 'optax', 'grain', 'tensorflow'}, sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def budgets_and_seeds(folder: Path, capsys: pytest.CaptureFixture) -> str:
    """Two budgets, one too small for the batch, two sizes, families and seeds; gives what is printed."""
    size = "--families enc_dec,causal_lm --lengths 16/16 --widths 32,8 --vocab bytes --batch 4 --min-updates 5"
    assert encdec(f"--budget 3e9,3e8 {size} --task letters --seeds 2 --out {folder}") == 0
    return capsys.readouterr().out


def letters() -> None:
    text = np.random.default_rng(0).integers(100, 126, 150_000)
    write_cache("letters", ByteVocab(), ("targets",), {split: [(text,)] for split in ("train", "validation")})


def test_budgets_and_seeds_are_one_experiment_whose_plan_is_in_order(folders, capsys):
    letters()
    out = budgets_and_seeds(folders / "study", capsys)
    assert "Matched runs, 3e+09 training FLOPs" in out
    assert "Matched runs, 3e+08 training FLOPs" in out
    assert "an experiment of 16 runs" in out
    assert (folders / "study/3e8-d8-enc_dec-1of2-seed1.json").exists()
    assert main(["plan", str(folders / "study")]) == 0
    runs = experiment.load(folders / "study")
    order = [
        (run.budget_flops, run.model.decoder.d_model, runs.labels[name], run.train.seed)
        for name, run in runs.runs.items()
    ]
    wanted = [(3e8, 3e9), (8, 32), ("causal_lm", "enc_dec 1/2"), (0, 1)]
    assert order == list(itertools.product(*wanted))
    for shown in (capsys.readouterr().out, (main(["status", str(folders / "study")]), capsys.readouterr().out)[1]):
        ids = [line.split()[0] for line in shown.splitlines() if "pending" in line]
        assert ids[:16] == list(runs.runs)


def test_an_experiment_says_what_else_could_explain_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = budgets_and_seeds(tmp_path / "study", capsys)
    written = experiment.load(tmp_path / "study")
    used = {
        budget: {r.train.batch_size for r in written.runs.values() if r.budget_flops == budget} for budget in (3e8, 3e9)
    }
    (small,), (large,) = used[3e8], used[3e9]
    assert small < large == 4
    assert f"batch 4 asked, {small} used: halved until 3e+08 training FLOPs pay at least 5 updates" in out
    assert out.count("asked") == 1
    found = written.confounders
    assert f"{small} of 4 asked at 3e+08 training FLOPs, 4 of 4 asked at 3e+09 training FLOPs; halved" in found["batch"]
    (rate,) = {run.optim.lr for run in written.runs.values()}
    assert found["learning rate"].startswith(f"{rate:g} for all sizes")
    assert found["seeds"] == "2 runs of each, of seeds 0 to 1"
    assert written.question == "At equal training FLOPs, how does enc_dec 1/2 compare with causal_lm?"


def test_without_a_cut_or_with_a_recipe_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = "--budget 1e9 --families causal_lm --lengths 16/16 --widths 8,16 --vocab bytes --batch 4 --min-updates 5"
    assert encdec(f"{line} --recipe mup --out {tmp_path / 'study'}") == 0
    assert "asked" not in capsys.readouterr().out
    written = experiment.load(tmp_path / "study")
    assert list(written.confounders) == ["learning rate", "seeds"]
    assert "recipe mup" in written.confounders["learning rate"]
    assert written.question == "At equal training FLOPs, which size of causal_lm has the least loss?"
    assert (tmp_path / "study/1e9-d8-causal_lm.json").exists()


def test_a_mistake_in_one_of_the_files_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    budgets_and_seeds(tmp_path / "study", capsys)
    path = tmp_path / "study/3e8-d8-causal_lm-seed0.json"
    write_json(path, json.loads(path.read_text()) | {"colour": "red"})
    with pytest.raises(UserError, match=rf"{path}: .*'colour'"):
        experiment.load(tmp_path / "study")


def test_several_budgets_are_several_grids_in_json(capsys: pytest.CaptureFixture) -> None:
    line = "--families causal_lm --lengths 16/16 --widths 8 --vocab bytes --batch 4 --min-updates 5 --json"
    assert encdec(f"--budget 1e9,1e8 {line}") == 0
    grids = json.loads(capsys.readouterr().out)["grids"]
    assert [found["budget"] for found in grids] == [1e8, 1e9]
    assert [found["batch"]["used"] for found in grids] == [
        from_dict(found["cells"][0]["config"]).train.batch_size for found in grids
    ]


@pytest.mark.slow
def test_what_it_writes_is_an_experiment_that_runs(folders, capsys):
    letters()
    folder = folders / "matched"
    size = "--lengths 16/16 --widths 16 --vocab bytes --batch 4 --min-updates 1"
    assert encdec(f"--budget 3e8 --families causal_lm,enc_dec {size} --task letters --out {folder}") == 0
    assert f"an experiment of 2 runs: encdec plan {folder}" in capsys.readouterr().out
    assert main(["plan", str(folder)]) == 0
    assert capsys.readouterr().out.count("pending") == 2
    assert main(["run", str(folder), "-j", "1"]) == 0
    assert "2 runs: 2 done" in capsys.readouterr().out
    found = results.load(experiment.load(folder))
    assert found["flops_mismatch"].abs().max() < 0.02
