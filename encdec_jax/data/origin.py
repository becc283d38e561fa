"""What a task's tokens were made from: a task is known by that, not by its name.

An origin is plain data that a cache's manifest keeps beside the tokens: the sources of the task's module, by SHA-256;
its data files, by size and time of change; the patterns that name data files, by what they match. To compare it with
what is there takes no TensorFlow and reads no data, so every use does. What it can't see (files on other machines, or
that TensorFlow opens inside a function) `encdec prepare --check` does: it makes the tokens anew and compares them.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from encdec_jax.data import corpus
from encdec_jax.errors import UserError, require
from encdec_jax.files import cache_root, sha256_file

Origin = dict[str, Any]
Stamps = dict[str, list[int]]  # path of a file -> its bytes, and when it was changed, in ns since the epoch

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_GENERATED = "__autograph_generated_file"  # TensorFlow's own of the sources, gone when the process ends
_before: dict[str, set[str]] = {}  # file of a task's module -> modules that were imported before it
_imported: dict[str, dict[str, str]] = {}  # file of a task's module -> SHA-256 of its sources when they were imported
_opened: list[Stamps] = []  # of each `opened` that is active


def shipped() -> Origin:
    """The origin of the shipped tasks: their text, and the code that splits it.

    Raises:
      UserError: a corpus file is missing.
    """
    return {"shipped": hashlib.sha256(f"{corpus.digest()} {sha256_file(Path(corpus.__file__))}".encode()).hexdigest()}


def module_file(module: str) -> Path:
    """The file of a module that registers tasks. Imports the packages that it is in, if any.

    Args:
      module: a dotted name, which is looked for in the working directory too; or FILE.py.

    Raises:
      UserError: there is no such module.
    """
    if module.endswith(".py"):
        file = Path(module).resolve()
        require(file.is_file(), "module", module, "a dotted name, or a Python file; there is no such file")
        return file
    with _from_here():
        try:
            spec = importlib.util.find_spec(module)
        except Exception as error:  # of a package's own code
            raise UserError(f"module = {module!r} is not accepted: {type(error).__name__}: {error}") from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UserError(f"module = {module!r} is not accepted: No module named {module!r}, here or installed")
    return Path(spec.origin).resolve()


def load(module: str) -> dict[str, str]:
    """Import a module that registers tasks, and what it imports.

    Returns:
      the SHA-256 of each source file of its own, of its package and of what else it imports that is no library.

    Raises:
      UserError: it can't be imported, or was changed since this process imported it.
    """
    file = str(module_file(module))
    if file in _imported:
        for source, digest in _imported[file].items():
            if not Path(source).exists() or sha256_file(Path(source)) != digest:
                raise UserError(
                    f"module = {module!r} is not accepted: this process imported it before {source} changed"
                )
        return _imported[file]
    _before[file] = set(sys.modules)
    name = Path(file).stem if module.endswith(".py") else module
    with _from_here():
        try:
            _execute(name, file) if module.endswith(".py") else importlib.import_module(module)
        except Exception as error:
            raise UserError(f"module = {module!r} is not accepted: {type(error).__name__}: {error}") from error
    package = name.partition(".")[0]
    _before[file] -= {n for n in sys.modules if n == package or n.startswith(f"{package}.")}
    return _sources(file)


def _sources(file: str) -> dict[str, str]:
    """The sources of a task's module, and of what was imported since: each as it was when it was seen first.

    A module whose file went away before that, as generated ones' do, is left out: it could be compared with nothing.
    """
    new = [m for n, m in list(sys.modules.items()) if n not in _before[file] and not n.startswith(_GENERATED)]
    before = _imported.get(file, {})
    paths = {path for module in new if (path := getattr(module, "__file__", None)) and _own(path)}
    files = {file, *(path for path in paths if os.path.isfile(path))}
    found = {path: before.get(path) or sha256_file(Path(path)) for path in files | set(before)}
    _imported[file] = dict(sorted(found.items()))
    return _imported[file]


def with_read(origin: Origin, files: Stamps) -> Origin:
    """The origin of a task once its data was read: with what its functions imported and opened only then.

    Args:
      origin: of the task.
      files: that Python `opened`.
    """
    if "shipped" in origin:
        return origin
    read = {path: stamp for path, stamp in files.items() if os.path.isfile(path)}
    module = origin["module"]
    sources = origin["sources"] if module is None else _sources(module)
    return {**origin, "sources": sources, "data": {**read, **origin["data"]}}


@contextmanager
def opened() -> Iterator[Stamps]:
    """Within, collects the files that Python code opens to read, libraries aside, as they are then."""
    _hook()
    found: Stamps = {}
    _opened.append(found)
    try:
        yield found
    finally:
        _opened.remove(found)


def origin(module: str | None, sources: dict[str, str], patterns: Iterable[str]) -> Origin:
    """The origin of a task.

    Args:
      module: that registers it.
      sources: of it, as `load` gives them.
      patterns: names of its data files, in which * stands for anything.
    """
    matched = {pattern: _matches(pattern) for pattern in map(os.path.abspath, patterns)}
    return {
        "module": None if module is None else str(module_file(module)),
        "sources": sources,
        "patterns": matched,
        "data": {path: _stamp(path) for path in sorted({path for paths in matched.values() for path in paths})},
    }


def changed(origin: Origin, whole: bool) -> str | None:
    """What of an origin is not as it was, in a line; None if nothing is.

    Args:
      origin: to compare with what is there.
      whole: take a file that is gone for a change. Else it says nothing: tokens may be used where they were not made.
    """
    if "shipped" in origin:
        return None if origin == shipped() else "the shipped text, or how it is split, has changed"
    for path, digest in origin["sources"].items():
        if os.path.exists(path) and sha256_file(Path(path)) != digest:
            return f"{path} has changed"
    for path, stamp in origin["data"].items():
        if os.path.exists(path) and _stamp(path) != stamp:
            return f"{path} has changed"
    for pattern, paths in origin["patterns"].items():
        if (found := _matches(pattern)) != paths and (found or whole):
            return f"{pattern} matches other files"
    gone = [path for path in (*origin["sources"], *origin["data"]) if not os.path.exists(path)]
    return f"{gone[0]} is gone" if whole and gone else None


def _execute(name: str, file: str) -> None:
    """Import a file under its own name, from wherever it is."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module


@contextmanager
def _from_here() -> Iterator[None]:
    """Within, modules of the working directory are found first."""
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def _own(path: str) -> bool:
    """Whether a source is a user's: of no library, and not of this package."""
    return path.endswith(".py") and not _below(path, (*_LIBRARIES, str(Path(__file__).parents[1])))


@functools.cache
def _hook() -> None:
    """An audit hook can't be taken back: one for the process."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _opened or not isinstance(arguments[0], str) or arguments[1] not in ("r", "rb", "rt"):
        return
    path = os.path.abspath(arguments[0])
    apart = (*_LIBRARIES, str(cache_root() / "tokens"), "/proc", "/sys", "/dev", "/etc")
    if not path.endswith((".py", ".pyc")) and not _below(path, apart) and os.path.isfile(path):
        for found in _opened:
            found.setdefault(path, _stamp(path))


def _below(path: str, parents: Iterable[str]) -> bool:
    return any(path.startswith(f"{parent}{os.sep}") for parent in parents)


def _matches(pattern: str) -> list[str]:
    return sorted(filter(os.path.isfile, {pattern, *glob.glob(pattern, recursive=True)}))


def _stamp(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]
