"""Files that survive a crash, and where runs and caches live."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from encdec_jax.errors import UserError, require

SCHEMES = ("s3", "gs", "az")  # of buckets
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def runs_root() -> Path:
    """Folder of all runs: the environment's ENCDEC_RUNS, or ./runs.

    Where ENCDEC_RUNS is a bucket, this is where what is read of it is copied to (`encdec_jax.sweep.replica`).
    """
    own, url = environment("ENCDEC_RUNS"), bucket_url("ENCDEC_RUNS")
    return expanded(own or "runs") if url is None else _copies(url) / "runs"


def cache_root() -> Path:
    """Folder of token and compilation caches: the environment's ENCDEC_CACHE, or encdec_jax in the user's cache.

    Where ENCDEC_CACHE is a bucket, this is where its tokens are copied to.

    Raises:
      UserError: none of ENCDEC_CACHE, XDG_CACHE_HOME and a home folder is known.
    """
    own, url = environment("ENCDEC_CACHE"), bucket_url("ENCDEC_CACHE")
    return expanded(own) if own and url is None else _copies(url)


def bucket_url(name: str) -> str | None:
    """The bucket that a variable of the environment names, and where in it; None where it names a folder, or nothing.

    Raises:
      UserError: it names neither.
    """
    value = environment(name)
    if value is None or (found := _URL.match(value)) is None:
        return None
    sound = re.fullmatch(r"(" + "|".join(SCHEMES) + r")://[A-Za-z0-9._-]+(/[^?#@:]*)?", value)
    accepted = f"a folder, or a bucket as {', '.join(f'{one}://NAME/PLACE' for one in SCHEMES)}, without keys in it"
    require(sound is not None, name, f"{found[1]}://..." if re.search("[@?]", value) else value, accepted)
    return value.rstrip("/")


def _copies(url: str | None) -> Path:
    """Folder on this machine's disk of what is made here, or copied from a bucket."""
    own = expanded(environment("XDG_CACHE_HOME") or "~/.cache") / "encdec_jax"
    return own if url is None else own / "buckets" / quote(url, safe="")


def compilation_cache() -> str:
    """Folder of compiled programs: the environment's JAX_COMPILATION_CACHE_DIR, or jit in the `cache_root`.

    Where that is of a bucket, in the user's cache.
    """
    root = cache_root() if bucket_url("ENCDEC_CACHE") is None else _copies(None)
    return environment("JAX_COMPILATION_CACHE_DIR") or str(root / "jit")


def environment(name: str) -> str | None:
    """A variable of the environment; None where it is not set, or empty, which means the same."""
    return os.environ.get(name) or None


def expanded(path: str) -> Path:
    """A path as a user gave it, with ~ for the home folder where no shell has put that in.

    Raises:
      UserError: the home folder is not known, or it is a URL: only ENCDEC_RUNS and ENCDEC_CACHE may be buckets.
    """
    accepted = "a path on this machine; buckets stand in ENCDEC_RUNS and ENCDEC_CACHE alone: copy it here first"
    require(_URL.match(path) is None, "path", path, accepted)
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"path = {path!r} is not accepted: its home folder is not known; give the whole path"
        ) from error


def absolute(path: str) -> str:
    """A path as a user gave it, from the root on; a pattern's signs stand as they are."""
    return os.path.abspath(expanded(path))


def project(folder: Path) -> Path:
    """The nearest parent of a folder with .git, pyproject.toml or setup.py; the root where there is none."""
    parents = folder.resolve().parents
    marks = (".git", "pyproject.toml", "setup.py")
    return next((one for one in parents if any((one / mark).exists() for mark in marks)), parents[-1])


def place(folder: Path) -> str:
    """Where a folder lies, from wherever it is asked: its path in the `project`, or the whole path outside of one."""
    folder, inside = folder.resolve(), project(folder)
    return (folder if inside.parent == inside else folder.relative_to(inside)).as_posix()


def atomic_write(path: Path, data: str | bytes, check: Callable[[], None] = lambda: None, durable: bool = True) -> None:
    """Write `data` to `path` whole or not at all, whatever kills the process.

    Args:
      path: of the file.
      data: what it shall hold.
      check: asked when that is on the disk, right before the file takes its place; what it raises leaves the old one.
      durable: whether it shall survive a crash of the machine too.

    Raises:
      UserError: the folder can't be written to, or the disk is full.
    """
    raw = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with temporary.open("xb") as file:
                file.write(raw)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            check()
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}") from error


def write_json(path: Path, value: Any, check: Callable[[], None] = lambda: None) -> None:
    """Write `value` as JSON, as `atomic_write` does."""
    atomic_write(path, json.dumps(value, indent=1, sort_keys=True) + "\n", check)


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
      UserError: the file is missing or is not JSON.
    """
    try:
        return parsed(path.read_bytes())
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def parsed(text: str | bytes) -> Any:
    """The value that JSON says.

    Raises:
      ValueError: it is none, or is nested more deeply than anything is that is written here.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
