"""The wheel, installed where neither the repository nor an extra is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from encdec_jax import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "encdec_jax", "configs")


def run(place: Path, *command: object) -> str:
    """What a command prints, in a folder where nothing leads to the repository."""
    env = {"PATH": os.environ["PATH"], "HOME": str(place)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=place, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def core() -> set[str]:
    """The distributions that the package requires without an extra, and those that these require."""
    found, due = set(), [Requirement("encdec_jax")]
    while due:
        wanted = due.pop()
        for text in distribution(wanted.name).requires or ():
            one = Requirement(text)
            extras = wanted.extras or {""}
            if one.name not in found and (one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras)):
                found.add(one.name)
                due.append(one)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with `env`, a new environment that holds the wheel and, of what is installed here, what it requires."""
    place = tmp_path_factory.mktemp("wheel")
    (place / "source").mkdir()
    for name in SOURCES:  # a copy, for a build leaves files behind
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place / "source" / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(place, *pip, "wheel", "--no-deps", "--wheel-dir", place, place / "source")
    (wheel,) = place.glob("*.whl")
    venv.create(place / "env", symlinks=True)
    (site,) = (place / "env/lib").glob("python*/site-packages")
    for one in map(distribution, core()):
        for top in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(one.locate_file(top)).resolve())
    run(place, *pip, "--python", place / "env", "install", "--no-index", "--no-deps", wheel)
    return place


def encdec(place: Path, *arguments: object) -> str:
    return run(place, place / "env/bin/encdec", *arguments)


def test_it_plans_the_quickstart_outside_the_repository(place):
    shutil.copytree(ROOT / "experiments/quickstart", place / "quickstart")
    assert encdec(place, "--help").startswith("usage: encdec ")
    assert encdec(place, "--version") == f"encdec_jax {__version__}\n"
    assert "quickstart: 36 runs, " in encdec(place, "plan", "quickstart")


def test_its_configurations_are_found_from_everywhere(place):
    assert encdec(place, "count", "configs/base.py:enc_dec").count("encoder") > 0
    assert encdec(place, "count", "configs/ladder.py:150m-causal_lm")


def test_it_is_the_core_alone_and_typed(place):
    code = (
        "import encdec_jax, importlib.util as found, pathlib\n"
        "print(pathlib.Path(encdec_jax.__file__).with_name('py.typed').exists())\n"
        "print(*(name for name in ('tensorflow', 'seqio', 'pytest', 'libtpu') if found.find_spec(name)))"
    )
    assert run(place, place / "env/bin/python", "-c", code) == "True\n\n"
