"""What comes from outside reaches no file but its own, and runs no code but a sweep's or a configuration's."""

from __future__ import annotations

import ast
import os
import pickle
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tiny import SWEEP, tiny_run, write_experiment, write_noise

from encdec_jax.data.cache import cache_folder
from encdec_jax.errors import UserError
from encdec_jax.files import cache_root
from encdec_jax.study.paired import _bits
from encdec_jax.sweep.experiment import load
from encdec_jax.train.checkpoint import saved
from encdec_jax.train.loop import train

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("encdec_jax", "configs", "experiments", "tools") for path in (ROOT / folder).rglob("*.py")
)


def called(path: Path) -> set[str]:
    """Dotted names of what a file calls, and of what it imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_is_ever_loaded(path):
    text = path.read_text()
    assert "allow_pickle=True" not in text
    names = called(path)
    modules = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
    assert not [name for name in names if name.split(".")[0] in modules]
    assert not [name for name in names if name in ("torch.load", "yaml.load", "eval", "os.system", "os.popen")]
    assert "shell=True" not in text


def test_only_scripts_are_executed():
    """Python that is not the package's own: a sweep.py, a configuration, and a module of tasks, which users name."""
    assert {path.name for path in SOURCES if called(path) & {"exec", "compile"} and "exec(" in path.read_text()} <= {
        "script.py"
    }


def test_scores_that_hold_a_pickle_are_refused(tmp_path):
    ran = tmp_path / "ran"

    class Bad:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    np.save(tmp_path / "suffix_bits.npy", np.array([Bad(), Bad()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="can't read held-out scores"):
        _bits(tmp_path)
    (tmp_path / "suffix_bits.npy").write_bytes(pickle.dumps(Bad()))
    with pytest.raises(UserError, match="can't read held-out scores"):
        _bits(tmp_path)
    assert not ran.exists()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", ".", "~", "a\x00b", "%2e%2e", "a" * 300])
def test_names_of_tasks_and_vocabularies_stay_in_the_cache(folders, name):
    for task, vocab in ((name, "bytes"), ("noise", name)):
        place = cache_folder(task, vocab)
        assert place.parent == cache_root() / "tokens"
        assert place.name not in (".", "..")
        assert os.path.normpath(place) == str(place)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "~/x", "a//b", ".", "", "a\\n"])
def test_names_of_experiments_stay_in_the_folder_of_runs(folders, name):
    with pytest.raises(UserError, match=r"NAME = .* is not accepted"):
        load(write_experiment(folders / "study", f"NAME = {name!r}\n{SWEEP}"))


def test_a_checkpoint_leads_nowhere_else(folders):
    """Names that are no checkpoint's are none; a link in one's place is not followed to write or to remove."""
    write_noise()
    outside = folders / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    run, folder = tiny_run(updates=10), folders / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/5").symlink_to(outside)
    (folder / "checkpoints/lease1_..").mkdir()
    (folder / "checkpoints/manifest-5.json").write_text('{"../../../outside/kept": "x"}')
    assert saved(folder / "checkpoints") == []
    assert train(run, folder)["status"] == "done"
    assert (outside / "kept").read_text() == "mine"
    assert sorted(path.name for path in outside.iterdir()) == ["kept"]


@pytest.mark.parametrize(
    ("says", "code", "said"),
    [
        ("exit 0", 0, "NOT CHECKED: no service of vulnerabilities answers here"),
        ("case $* in *known.txt) echo GHSA-1; exit 1;; esac", 0, ""),
        ("echo PYSEC-1; exit 1", 1, ""),
    ],
)
def test_an_audit_that_could_not_be_made_is_said(tmp_path, says, code, said):
    """pip-audit ends with 0 where no service answers. By a Python whose environments have one that does as told."""
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh
[ "$2" = venv ] || exit 0
mkdir "$3/bin" && cp "$0" "$3/bin/python" && printf '#!/bin/sh\\n%s\\n' {shlex.quote(says)} >"$3/bin/pip-audit"
chmod +x "$3/bin/pip-audit"
""")
    python.chmod(0o755)
    env = {**os.environ, "PYTHON": str(python)}
    done = subprocess.run([ROOT / "tools/audit"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr, bool(said) == bool(done.stderr)) == (code, True, True), done
