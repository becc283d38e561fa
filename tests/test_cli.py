"""What a user gets wrong: one line that names it, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
from tiny import SWEEP, write_experiment, write_noise

import encdec_jax
from configs.base import get_config
from encdec_jax.cli.fields import documented
from encdec_jax.cli.main import main
from encdec_jax.config import RunConfig, from_dict, to_dict
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.files import write_json
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.train.config import OptimConfig, TrainConfig

BASE = str(Path(__file__).parents[1] / "configs/base.py")


def encdec(capsys, *arguments: object) -> tuple[int, str, str]:
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as ended:  # argparse's own refusals, and --help
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["count"], "CONFIG is missing: give a file with get_config"),
        (["count", "absent.py"], "CONFIG = 'absent.py' is not accepted: there is no such file; a Python file"),
        (["count", str(Path(BASE).parent)], "is not accepted: a Python file with a function get_config"),
        (["count", f"{BASE}:enc_dec", "--rows=2"], "one CONFIG, and --config.FIELD=VALUE"),
        (["count", f"{BASE}:rnn"], "arch = 'rnn' is not accepted: one of enc_dec, enc_dec_causal"),
        (
            ["count", f"{BASE}:enc_dec", "--config.optim.rate=1"],
            "--config.optim.rate: field 'rate' is unknown; accepted there: name, lr",
        ),
        (["count", f"{BASE}:enc_dec", "--config.optim.lr=fast"], "--config.optim.lr"),
        (["count", f"{BASE}:enc_dec", "--config.optim.lr=-1"], "optim.lr = -1.0 is not accepted: above 0"),
        (
            ["count", f"{BASE}:enc_dec", "--config.model.decoder.n_kv_heads=3"],
            "encdec: model.decoder.n_kv_heads = 3 is not accepted: a divisor",
        ),
        (["count", f"{BASE}:enc_dec", "--config.model.encoder.window=-1"], "model.encoder.window = -1 is not accepted"),
        (["count", f"{BASE}:enc_dec", "--config.model.decoder.global_every=2"], "0, because without a window"),
        (["count", f"{BASE}:enc_dec", "--config.model.placing=learned"], "field 'placing' is unknown"),
        (["count", f"{BASE}:enc_dec", "--config.model.block=mine"], "model.block = 'mine' is not accepted: one of"),
        (["count", f"{BASE}:enc_dec", "--config.objective.name=causal_lm"], "an objective with a source"),
        (["count", f"{BASE}:enc_dec", "stray"], "base.py:enc_dec stray' is not accepted: one CONFIG"),
        (
            ["train", f"{BASE}:enc_dec", "--config.mesh.data=64", "--config.evaluate.windows=4"],
            "at most 8 devices in all",
        ),
        (["train", f"{BASE}:enc_dec", "--config.data.task=absent"], "first encdec prepare --task absent"),
        (["preview", f"{BASE}:enc_dec", "--rows", "0"], "rows = '0' is not accepted: a whole number of at least 1"),
        *(
            ([verb, f"{BASE}:enc_dec", "--config.evaluate.windows=4", change], message)
            for verb in ("preview", "train")
            for change, message in (
                ("--config.evaluate.windows=400", "evaluate.windows = 400 is not accepted: at most 6, all that"),
                ("--config.model.vocab_size=100", "model.vocab_size = 100 is not accepted: at least 259"),
                ("--config.data.length=9000", "data.length = 9000 is not accepted: less than the 8020 tokens"),
                ("--config.data.long=split", "data.long = 'split' is not accepted: 'drop'"),
                ("--config.data.packing=joined", "data.packing = 'joined' is not accepted: 'apart'"),
                ("--config.data.eval_split=dev", "data.eval_split = 'dev' is not accepted: one of train, validation"),
                ("--config.objective.name=seq2seq", "'seq2seq' needs a task with 'inputs'"),
            )
        ),
        (["plan", "absent"], "experiment folder = 'absent' is not accepted: a folder that holds a sweep.py"),
        (
            ["prepare", "--task", "absent", "--vocab", "words"],
            "vocab = 'words' is not accepted: 'bytes', 'own', 'spm' with a vocab_size",
        ),
        (["plan", "x", "--fast"], "plan: unknown arguments: --fast; see encdec plan --help"),
    ],
    ids=lambda value: " ".join(value).rpartition("/")[2] if isinstance(value, list) else "",
)
def test_one_line_and_exit_code_2(capsys, folders, arguments, message):
    write_noise("bible_en")
    code, out, err = encdec(capsys, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("encdec: ")
    assert not out
    assert not list((folders / "runs").rglob("*.json*")) or list((folders / "runs").rglob("leases"))


@pytest.mark.parametrize("verb", ["plan", "run", "status", "collect", "report"])
def test_an_experiment_without_sweep_is_refused_by_every_verb(capsys, folders, verb):
    code, _, err = encdec(capsys, verb, folders)
    assert (code, err.count("\n")) == (2, 1)
    assert "this one holds none" in err
    assert not (folders / "runs").exists()


def test_a_budget_too_small_for_any_size(capsys, folders):
    sweep = SWEEP.replace(
        "yield tiny_run(arch, d_model)", "yield from match([tiny_run(arch, d_model)], train_flops=1e6)"
    )
    study = write_experiment(folders / "study", "from encdec_jax.compute.match import match\n" + sweep)
    code, _, err = encdec(capsys, "plan", study)
    assert code == 2
    assert "train_flops = 1e+06 is not accepted: at least" in err


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_damaged_cache_is_refused_before_anything_runs(capsys, folders, verb):
    write_noise()
    tokens = folders / "cache/tokens/noise-bytes/train.targets.bin"
    raw = bytearray(tokens.read_bytes())
    raw[10] ^= 1
    tokens.write_bytes(raw)
    code, _, err = encdec(capsys, verb, write_experiment(folders / "study"))
    assert code == 2
    assert "is damaged (train.targets.bin has another SHA-256 than its manifest)" in err
    assert not (folders / "runs").exists()


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_runs_that_ask_for_more_than_the_text_has_are_refused_before_anything_runs(capsys, folders, verb):
    write_noise()
    run = "tiny_run(arch, d_model)"
    sweep = SWEEP.replace(run, f"override({run}, {{'evaluate.windows': 999}})")
    study = write_experiment(folders / "study", "from encdec_jax.sweep.algebra import override\n" + sweep)
    code, _, err = encdec(capsys, verb, study)
    assert (code, err.count("\n")) == (2, 1)
    assert "evaluate.windows = 999 is not accepted: at most" in err
    assert not (folders / "runs").exists()


def test_a_results_folder_that_cannot_be_written(capsys, folders):
    write_noise()
    (folders / "runs").write_text("a file in the way")
    code, _, err = encdec(capsys, "run", write_experiment(folders / "study"))
    assert (code, err.count("\n")) == (2, 1)
    assert "can't write" in err


def test_too_many_jobs(capsys, folders):
    write_noise()
    code, _, err = encdec(capsys, "run", write_experiment(folders / "study"), "-j", 999)
    assert code == 2
    assert "jobs = 999 is not accepted: 1 to" in err


def test_plan_prints_what_a_run_will_cost(capsys, folders):
    write_noise()
    code, out, _ = encdec(capsys, "plan", write_experiment(folders / "study"))
    assert code == 0
    assert out.count("pending") == 4
    assert re.search(r"label +layers x width +seed +lr +parameters", out)
    assert re.search(r"enc_dec \S+ +1\+1 x 16 +0 +0.01 ", out)
    assert re.search(r"seed +lr +budget", encdec(capsys, "status", folders / "study")[1])
    assert "study: 4 runs, " in out
    assert "left: 4 runs, about " in out
    assert not (folders / "runs").exists()


def test_count_as_json_is_one_object(capsys, folders):
    code, out, _ = encdec(capsys, "count", f"{BASE}:enc_dec", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"params", "flops", "bytes", "lengths", "run", "convention"}


def test_a_config_is_a_file_or_a_flag_or_what_a_run_left(capsys, tmp_path):
    """All three name the same run; fields change each."""
    run = from_dict(get_config("enc_dec").to_dict())
    write_json(tmp_path / "config.json", to_dict(run))
    change = "--config.train.batch_size=16"
    shown = [
        encdec(capsys, "count", given, change, "--json")
        for given in (f"{BASE}:enc_dec", f"--config={BASE}:enc_dec", tmp_path / "config.json")
    ]
    assert shown[0] == shown[1] == shown[2]
    assert json.loads(shown[0][1])["run"]["rows"] == 16


@pytest.mark.parametrize("verb", ["train", "preview", "count", "memory", "compile"])
def test_help_lists_every_field(capsys, verb):
    """With its type, its default, what is accepted and its unit, as its class has them."""
    code, out, _ = encdec(capsys, verb, "--help")
    assert code == 0
    for line in (
        "optim.lr: number, default 0.001",
        "optim.name: adamw (default) or adafactor",
        "model.scan: true or false, default true",
        "model.decoder.d_model: whole number, required",
        "budget_flops: number, default none",
        "train.init_from: text, default empty",
    ):
        assert f"  {line}\n" in out
    assert out.startswith(f"usage: encdec {verb} {'[CONFIG]' if verb == 'preview' else 'CONFIG'} [--config.")
    assert ", ".join(ARCHS) in " ".join(out.split())
    listed = set(re.findall(r"^  ([a-z_.0-9]+): ", out, re.MULTILINE))
    assert listed == set(_plain("", RunConfig))


@pytest.mark.parametrize("cls", [ModelConfig, StackConfig, DataConfig, ObjectiveConfig, OptimConfig, TrainConfig])
def test_the_help_of_a_number_says_which_are_accepted(cls):
    said, hints = documented(cls), get_type_hints(cls)
    assert set(said) == set(hints)
    known = ("at least", "above", " in [", "divisor", "between", "even number", "in tokens")
    assert not [
        name for name, hint in hints.items() if hint in (int, float) and not any(k in said[name] for k in known)
    ]


def _plain(path: str, cls: type) -> Iterator[str]:
    """Every field that holds no class, by its path; the encoder's are the decoder's."""
    for name, hint in get_type_hints(cls).items():
        below = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        if below is None:
            yield path + name
        elif get_origin(hint) is tuple:
            yield path + name
            yield from (f"{path}{name}.{inner}" for inner in get_type_hints(below))
        elif name != "encoder":
            yield from _plain(f"{path}{name}.", below)


def test_a_list_is_given_with_commas(capsys):
    command = ["count", f"{BASE}:enc_dec", "--json"]
    plain, listed = (encdec(capsys, *command, *more) for more in ([], ["--config.evaluate.prefixes=4,1"]))
    assert plain == listed
    assert plain[0] == 0
    for wrong in ("4,x", "4,200", "4,4"):
        code, _, err = encdec(capsys, *command, f"--config.evaluate.prefixes={wrong}")
        assert (code, "evaluate.prefixes" in err, err.count("\n")) == (2, True, 1)
    code, _, err = encdec(capsys, *command, "--config.objective.parts=ul2")
    assert (code, err) == (2, "encdec: --config.objective.parts = 'ul2' is not accepted: a list, set in CONFIG alone\n")


def test_preview_needs_no_file_and_makes_a_page(capsys, folders):
    write_noise()
    page = folders / "page.html"
    options = [
        "preview",
        "--task",
        "noise",
        "--objective",
        "ul2",
        "--arch",
        "prefix_lm",
        "-n",
        "1",
        "--html",
        str(page),
    ]
    code, out, err = encdec(capsys, *options, "--config.train.batch_size=1")
    assert (code, err) == (0, "")
    assert "prefix_lm, ul2, task noise" in out
    assert "the target sees itself (prefix)" in out
    assert "the target sees itself (prefix)" in page.read_text()
    assert "color: #" in page.read_text()
    code, _, err = encdec(capsys, *options, f"{BASE}:enc_dec")
    assert (code, err) == (2, "encdec: arch = 'prefix_lm' is not accepted: none beside CONFIG, which has one\n")
    code, _, err = encdec(capsys, "preview", "--task", "noise", "--objective", "mlm")
    assert code == 2
    assert "objective.name = 'mlm' is not accepted: one of causal_lm, " in err


def test_version(capsys):
    assert encdec(capsys, "--version") == (0, f"encdec_jax {encdec_jax.__version__}\n", "")


def test_python_m_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "encdec_jax", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: encdec ")


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_stream_that_is_closed_before_is_no_fault(closed, monkeypatch):
    """`encdec plan EXPERIMENT >&-` ended in a traceback."""
    for arguments, code in ((["plan", "nowhere"], 2), (["count", f"{BASE}:enc_dec"], 0)):
        monkeypatch.setattr(sys, closed, None)
        assert main(arguments) == code


def test_a_verb_called_from_python_leaves_logging_as_it_was(capsys):
    """Its handler kept a stream that a test runner or a notebook then closed, and every later line was an error."""
    log = logging.getLogger("encdec_jax")
    before = list(log.handlers), log.propagate, log.level
    assert main(["fit", "absent.parquet"]) == 2
    assert (log.handlers, log.propagate, log.level) == before
