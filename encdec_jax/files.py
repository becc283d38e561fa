"""Files that survive a crash, and where runs and caches live."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from encdec_jax.errors import UserError


def runs_root() -> Path:
    """Folder of all runs: the environment's ENCDEC_RUNS, or ./runs."""
    return Path(os.environ.get("ENCDEC_RUNS", "runs"))


def cache_root() -> Path:
    """Folder of token and compilation caches: the environment's ENCDEC_CACHE, or encdec_jax in the user's cache."""
    if "ENCDEC_CACHE" in os.environ:
        return Path(os.environ["ENCDEC_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "encdec_jax"


def atomic_write(path: Path, data: str | bytes) -> None:
    """Write `data` to `path` whole or not at all, whatever kills the process.

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
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    atomic_write(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
      UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
