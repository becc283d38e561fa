"""The house rules that a machine can check: which room may import which, and what stays out of whom."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from encdec_jax.model.arch import ARCHS
from encdec_jax.model.blocks import BLOCKS

PACKAGE = Path(__file__).parents[1] / "encdec_jax"
# Each may import itself and what stands before it.
ORDER = (
    "errors",
    "ranges",
    "files",
    "bucket",
    "script",
    "cpus",
    "resolve",
    "model.arch",
    "model.config",
    "data.config",
    "data.objectives",
    "evaluate.config",
    "train.config",
    "config",
    "text",
    "mesh",
    "model",
    "data",
    "compute",
    "evaluate",
    "train",
    "infer",
    "interop",
    "aot",
    "sweep",
    "submit",
    "laws",
    "study",
    "report",
    "tables",
    "cli",
)
BEHIND = ORDER[ORDER.index("train") + 1 :]
HEAVY = {"jax", "flax", "optax", "orbax", "grain", "tensorflow", "seqio"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts), path


def imports(path: Path, module_level: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_bytes())
    nodes = tree.body if module_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            yield node.module


def floor(module: str) -> int:
    """The place in `ORDER` of a module's own entry, or of its room's."""
    parts = module.split(".")[1:]
    return next(ORDER.index(place) for n in range(len(parts), 0, -1) if (place := ".".join(parts[:n])) in ORDER)


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_run_one_way(module, path):
    if path.name in ("__init__.py", "__main__.py"):
        return
    for imported in imports(path):
        if imported.startswith("encdec_jax."):
            assert floor(imported) <= floor(module), f"{module} imports {imported}"


@pytest.mark.parametrize(
    "module",
    [
        "cli.main",
        "tables.plan",
        "sweep.launch",
        "submit.dispatch",
        "submit.doctor",
        "sweep.results",
        "study.findings",
        "study.forecast",
        "study.differences",
        "report.figures",
        "report.html",
    ],
)
def test_planning_and_analysis_load_nothing_heavy(module):
    code = f"import sys, encdec_jax.{module}; print(*(sys.modules.keys() & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_file_asks_for_an_architecture_or_a_kind_of_layer_by_its_name():
    """They say what they are by fields; a label of somebody's table, which studies compare, may be such a name."""
    names, found = {*ARCHS, *BLOCKS} - {"standard"}, []
    for module, path in modules():
        if path.name not in ("__init__.py", "__main__.py") and floor(module) < ORDER.index("sweep"):
            compared = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Compare)]
            told = [node.value for one in compared for node in ast.walk(one) if isinstance(node, ast.Constant)]
            found += [(module, one) for one in told if isinstance(one, str) and one in names]
    assert found == []


def test_every_folder_of_code_is_a_package():
    """The wheel leaves out what is none."""
    assert {path.parent for _, path in modules()} == {path.parent for path in PACKAGE.rglob("__init__.py")}


def test_only_prepare_reads_tensorflow():
    allowed = {
        "encdec_jax.data.public",
        "encdec_jax.data.tasks",
        "encdec_jax.data.reading",
        "encdec_jax.data.bible.bible",
        "encdec_jax.data.fetched.fetched",
    }
    users = {
        module
        for module, path in modules()
        if {name.split(".")[0] for name in imports(path)} & {"seqio", "tensorflow", "tensorflow_datasets"}
    }
    assert users <= allowed


def test_training_runs_where_tensorflow_is_absent(tmp_path):
    """In a process where importing it fails, the data is read, a run is trained and its plan is priced."""
    code = """
import sys
for name in ("tensorflow", "seqio", "tensorflow_datasets", "tensorflow_text"):
    sys.modules[name] = None
import numpy as np
from pathlib import Path
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.train.config import TrainConfig
from encdec_jax.data.cache import write_cache
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.model.presets import preset
from encdec_jax.sweep.cost import cost
from encdec_jax.train.loop import train
text = np.random.default_rng(0).integers(3, 259, (9, 500))
write_cache("noise", ByteVocab(), ("targets",), {split: [(row,) for row in text] for split in ("train", "validation")})
run = RunConfig(
    model=preset("causal_lm", d_model=8, dec_layers=1, vocab_size=259),
    data=DataConfig(task="noise", length=32),
    train=TrainConfig(tokens=512, batch_size=4),
    evaluate=EvalConfig(8, 8, 16, 8),
)
print(cost(run).updates, train(run, Path(sys.argv[1]))["status"])
"""
    env = {"ENCDEC_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["4", "done"], done.stderr


def test_versions_are_known_where_nothing_is_installed(tmp_path):
    """A checkout on the path, and packages without metadata: what a run writes last must not fail."""
    code = """
import importlib.metadata as metadata
def absent(name): raise metadata.PackageNotFoundError(name)
metadata.version = absent
import encdec_jax
from encdec_jax.train.versions import versions
print(versions()["encdec_jax"] == encdec_jax.__version__, versions()["jax"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == ["True", "unknown"], done.stderr


def test_files_fit_in_the_head():
    """A docstring may be as long as it needs (config.py's are what --help prints); code may not."""
    long = {}
    for module, path in modules():
        tree = ast.parse(path.read_bytes())
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
        prose = sum(len(text.splitlines()) for node in nodes if (text := ast.get_docstring(node)))
        lines = len(path.read_text().splitlines()) - prose
        if lines > 260:
            long[module] = lines
    assert not long


def test_notebooks_keep_no_warnings():
    """They are a user's first sight of a fault, and name paths of whoever ran them."""
    root = Path(__file__).parents[1]
    for path in (*root.glob("docs/*.ipynb"), *root.glob("experiments/*/*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        said = [output.get("name") for cell in cells for output in cell.get("outputs", [])]
        assert "stderr" not in said, path


def test_no_two_files_of_tests_have_one_name():
    """pytest imports them by their name alone: of two, it runs one."""
    names = [path.name for path in Path(__file__).parent.rglob("*.py")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "path", sorted((PACKAGE.parent / "tools").glob("constraints-*.txt")), ids=lambda path: path.stem
)
def test_a_lock_holds_one_version_of_all_that_is_required(path):
    """Of all extras but bench, which is locked for the lowest Python alone; and no address to fetch from."""
    first, *lines = path.read_text().splitlines()
    assert f"Python {path.stem.partition('-')[2]} " in first
    locked = [canonicalize_name(re.fullmatch(r"([\w.-]+)==[\w.!]+", line)[1]) for line in lines]
    required = map(Requirement, distribution("encdec_jax").requires)
    needed = {canonicalize_name(one.name) for one in required if "bench" not in str(one.marker)}
    assert len(set(locked)) == len(locked)
    assert needed <= set(locked)


def test_a_file_name_is_of_one_noun():
    """A verb, and what the terminal shows, may have the name of what they are about; each room its configuration."""
    rooms = defaultdict(list)
    for _, path in modules():
        if path.name not in ("__init__.py", "config.py") and path.parent.name not in ("cli", "tables"):
            rooms[path.name].append(path.parent.name)
    assert {name: found for name, found in rooms.items() if len(found) > 1} == {}


def test_a_class_name_is_of_one_class():
    classes = defaultdict(list)
    for module, path in modules():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                classes[node.name.lstrip("_")].append(module)
    assert {name: found for name, found in classes.items() if len(found) > 1} == {}
