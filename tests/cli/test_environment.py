"""What a shell, a terminal and a machine may do to the command line."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import environment, write_experiment, write_noise

from encdec_jax.__main__ import main as loading
from encdec_jax.cli.arguments import given_config
from encdec_jax.cli.main import main
from encdec_jax.config import to_dict
from encdec_jax.errors import UserError
from encdec_jax.files import cache_root, compilation_cache, expanded, runs_root, write_json
from encdec_jax.sweep.algebra import override

BASE = Path(__file__).parents[2] / "configs/base.py"


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch):
    names = ("ENCDEC_RUNS", "ENCDEC_CACHE", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    unset = (runs_root(), cache_root(), compilation_cache())
    for name in names:
        monkeypatch.setenv(name, "")
    assert (runs_root(), cache_root(), compilation_cache()) == unset


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ENCDEC_RUNS", "~/runs")
    monkeypatch.setenv("ENCDEC_CACHE", "~/cache")
    assert (runs_root(), cache_root()) == (tmp_path / "runs", tmp_path / "cache")
    monkeypatch.delenv("ENCDEC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
    assert cache_root() == tmp_path / "xdg/encdec_jax"
    shutil.copy(BASE, tmp_path / "mine.py")
    assert given_config(["--config=~/mine.py:causal_lm"]).model.arch == "causal_lm"
    write_experiment(tmp_path / "study")
    assert main(["status", "~/study"]) == 0


def test_no_home_is_no_error_where_none_is_needed(monkeypatch, tmp_path):
    def homeless(path: str) -> str:
        return path

    monkeypatch.setattr(os.path, "expanduser", homeless)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("ENCDEC_CACHE", "")
    assert cache_root() == tmp_path / "encdec_jax"
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("ENCDEC_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(UserError, match="its home folder is not known"):
        cache_root()
    with pytest.raises(UserError, match="'~nobody/x' is not accepted"):
        expanded("~nobody/x")


@pytest.mark.parametrize("folder", ["a:b", "c.py:d"])
def test_a_colon_in_a_path(tmp_path, folder):
    (tmp_path / folder).mkdir()
    shutil.copy(BASE, tmp_path / folder / "mine.py")
    for argument in ("", ":prefix_lm"):
        run = given_config([f"{tmp_path / folder / 'mine.py'}{argument}"])
        assert run.model.arch == (argument[1:] or "enc_dec")


def test_a_platform_that_is_not_there_is_one_line(folders):
    write_noise("bible_en")
    for arguments in (["train", BASE], ["run", write_experiment(folders / "study")]):
        command = [sys.executable, "-m", "encdec_jax", *map(str, arguments)]
        write_noise()
        done = subprocess.run(command, capture_output=True, text=True, env=environment(JAX_PLATFORMS="cuda"))
        assert done.returncode == (2 if arguments[0] == "train" else 1)
        assert "JAX_PLATFORMS = 'cuda' is not accepted" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list((folders / "runs").rglob("error.txt"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EDQUOT, errno.EACCES, errno.ENOSPC])
def test_a_root_that_takes_nothing_is_one_line_before_anything_is_spent(folders, monkeypatch, capsys, number):
    """Read-only, full, another user's, or beyond a quota."""
    write_noise()
    study, opened = write_experiment(folders / "study"), Path.open

    def refused(path: Path, mode: str = "r", *arguments: object, **named: object) -> object:
        if path.is_relative_to(folders / "runs") and mode.strip("rb"):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", refused)
    assert main(["run", str(study)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("encdec: can't write ")
    assert said.endswith(f": {os.strerror(number)}\n")
    assert said.count("\n") == 1


def test_an_interrupt_while_it_loads_is_one_line(monkeypatch, capsys):
    """Loading takes a second, and gave a traceback of whatever module was read just then."""

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "encdec_jax.cli.main":
                signal.raise_signal(signal.SIGINT)

    monkeypatch.delitem(sys.modules, "encdec_jax.cli.main")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background ignores
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    try:
        assert loading() == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "encdec: interrupted\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_of_another_encoding_does_not_crash(folders, encoding):
    write_noise("bible_en")
    env = environment(PYTHONIOENCODING=encoding)
    command = [sys.executable, "-m", "encdec_jax", "preview", str(BASE), "--config.evaluate.windows=4"]
    done = subprocess.run(command, capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    write_experiment(folders / "ni\N{LATIN SMALL LETTER N WITH TILDE}o ☃")
    command = [sys.executable, "-m", "encdec_jax", "status", str(folders / "ni\N{LATIN SMALL LETTER N WITH TILDE}o ☃")]
    done = subprocess.run(command, capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u2603" in done.stdout


@pytest.mark.parametrize(
    "command", ["encdec count {base} --json", "encdec status {study}", "encdec --help", "encdec nothing 2>&1"]
)
def test_a_reader_that_leaves_ends_it_quietly(folders, command):
    study = write_experiment(folders / "study")
    program = f"{sys.executable} -m encdec_jax"
    line = command.format(base=BASE, study=study).replace("encdec ", f"{program} ", 1)
    line = f"({line}; echo code $? >&3) 3>{folders}/code | (exec 0<&-; sleep 0)"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment())
    assert done.stderr == ""
    assert (folders / "code").read_text() in ("code 0\n", "code 2\n" if "nothing" in command else "code 0\n")


OVERRIDES = [
    ("budget_flops=1", 1.0),
    ("budget_flops=1e9", 1e9),
    ("budget_flops=null", None),
    ("train.tokens=1e6", 1_000_000),
    ("train.seed=7", 7),
    ("optim.lr=1", 1.0),
    ("model.qk_norm=true", True),
    ("model.scan=false", False),
    ("data.task=123", "123"),
    ("optim.name=adafactor", "adafactor"),
    ("model.encoder=null", None),
]


@pytest.mark.parametrize(("change", "value"), OVERRIDES)
@pytest.mark.parametrize("before", [None, 3.0])
def test_an_overrides_type_is_its_fields(tmp_path, change, value, before):
    """Whatever value the field had before: none, or one of another type."""
    path, _, text = change.partition("=")
    run = given_config([f"{BASE}:causal_lm"])
    data = to_dict(run)
    inner, (*parents, name) = data, path.split(".")
    for parent in parents:
        inner = inner[parent]
    inner[name] = before
    write_json(tmp_path / "config.json", data)
    found = given_config([str(tmp_path / "config.json"), f"--config.{path}={text}"])
    assert found == override(run, {path: value})
    for part in path.split("."):
        found = getattr(found, part)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.seed=1.5", "train.seed = 1.5 is not accepted"),
        ("train.seed=null", "--config.train.seed = 'null' is not accepted: a whole number"),
        ("budget_flops=many", "--config.budget_flops = 'many' is not accepted: a number or null"),
        ("budget_flops=inf", "budget_flops = inf is not accepted: a finite number"),
        ("model.qk_norm=3", "model.qk_norm = '3' is not accepted"),
        ("model.decoder=3", "--config.model.decoder = '3' is not accepted: a StackConfig; its fields are set one by"),
        ("optim.name=sgd", "optim.name = 'sgd' is not accepted: one of adamw, adafactor"),
        ("model.encoder.n_layers=2", "model.encoder = None has no fields"),
    ],
)
def test_an_override_that_is_no_value_is_refused(change, message):
    with pytest.raises(UserError) as caught:
        given_config([f"{BASE}:causal_lm", f"--config.{change}"])
    assert message in str(caught.value)
