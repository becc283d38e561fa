"""encdec match, as a user gives it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encdec_jax.cli import match
from encdec_jax.cli.main import main
from encdec_jax.config import from_dict
from encdec_jax.data.cache import write_cache
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
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
    cells = json.loads(capsys.readouterr().out)["cells"]
    written = [from_dict(json.loads(path.read_text())) for path in folder.glob("*.json")]
    assert len(written) == len(cells) == 6
    assert {run_id(run) for run in written} == {run_id(from_dict(cell["config"])) for cell in cells}
    assert (folder / f"{cells[0]['name']}-enc_dec-1of3.json").exists()
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    with pytest.raises(UserError, match="nothing is overwritten"):
        encdec(f"{GRID} --out {folder}")
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())


def test_a_rule_prints_its_pairs_and_what_it_claims(capsys: pytest.CaptureFixture) -> None:
    assert encdec("--rule redllm") == 0
    out = capsys.readouterr().out
    for name in ("150M", "1B", "2B", "4B", "8B", "-16%", "-1.56%", "+1.25%", "-6.25%", "2510.26622"):
        assert name in out
    assert encdec("--rule") == 0
    assert "blockwise" in capsys.readouterr().out


def test_a_recipe_sets_one_batch_and_the_rate_of_each_width(capsys: pytest.CaptureFixture) -> None:
    assert encdec(f"{GRID} --recipe inverse_width --json") == 0
    runs = [from_dict(cell["config"]) for cell in json.loads(capsys.readouterr().out)["cells"]]
    assert len({run.train.batch_size for run in runs}) == 1
    assert len({run.optim.lr * run.model.decoder.d_model for run in runs}) == 1
    assert len({run.optim.lr for run in runs}) == 2


def test_vocabulary_and_batch_are_the_users(capsys: pytest.CaptureFixture) -> None:
    assert encdec("--budget 1e14 --families causal_lm --lengths 96/32 --vocab bytes --batch-tokens 1024 --json") == 0
    run = from_dict(json.loads(capsys.readouterr().out)["cells"][0]["config"])
    assert (run.model.vocab_size, run.data.vocab, run.train.batch_size) == (259, "bytes", 8)
    assert encdec("--budget 1e17 --families causal_lm --vocab 4096 --json") == 0
    run = from_dict(json.loads(capsys.readouterr().out)["cells"][0]["config"])
    assert (run.model.vocab_size, run.data.vocab) == (4096, "spm4096")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "budget = None is not accepted"),
        ("--budget lots", "budget = 'lots' is not accepted: training FLOPs, as 1e18"),
        ("--budget nan", "budget = nan is not accepted"),
        ("--budget 1e18 --split 1/0", "split = '1/0' is not accepted"),
        ("--budget 1e18 --lengths 10", "lengths = '10' is not accepted: source and target tokens, as 1024/256"),
        ("--budget 1e18 --vocab few", "vocab = 'few' is not accepted"),
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


@pytest.mark.slow
def test_what_it_writes_is_an_experiment_that_runs(folders, capsys):
    letters = np.random.default_rng(0).integers(100, 126, 150_000)
    write_cache("letters", ByteVocab(), ("targets",), {split: [(letters,)] for split in ("train", "validation")})
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
