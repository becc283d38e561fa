"""A folder holds one run."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from encdec_jax.config import EXECUTION, RunConfig, from_dict, to_dict
from encdec_jax.data.cache import manifest_of
from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write, read_json, write_json
from encdec_jax.train.beginning import canonical
from encdec_jax.train.checkpoint import saved
from encdec_jax.train.summary import read_summary
from encdec_jax.train.versions import code

log = logging.getLogger(__name__)
_CONFIG, _MADE_OF, _SUMMARY = "config.json", "made_of.json", "summary.json"


def finished(run: RunConfig, folder: Path) -> dict[str, Any] | None:
    """The summary of the run in a folder, if it has one; in any case refuses a folder that holds another run.

    What makes it another run, so that no result is ever a mixture:

    - Another configuration, but for fields of execution: refused, whether the run in the folder has ended or not.
    - Other tokens of the task: refused likewise. A run that has ended where its tokens are no longer is let stand.
    - Other code: a run that has ended is given back, with a warning, for its summary says which code made it. A part of
      a run is refused: code that did not begin it can't go on with it, under no option. Bring that code back, or remove
      the folder. A run that has not saved anything yet begins anew, by whatever code.

    Raises:
      UserError: in one line, what differs: its value there, and the one given; or its summary is damaged.
    """
    _check_config(run, folder)
    made = manifest_of(run.data.task, run.data.vocab)
    tokens = None if made is None else made["digest"]
    if (folder / _SUMMARY).exists():
        summary = read_summary(folder / _SUMMARY)
        _check_tokens(run, folder, summary["cache_digest"], tokens)
        if summary.get("code") != code():
            log.warning("%s was made by other code: %s; this is %s", folder, summary.get("code", "unknown"), code())
        return summary
    if saved(folder / "checkpoints"):
        part = read_json(folder / _MADE_OF) if (folder / _MADE_OF).exists() else {}
        _check_tokens(run, folder, part.get("cache_digest", tokens), tokens)
        if part.get("code") != code():
            raise UserError(
                f"folder = {str(folder)!r} holds a part of a run that other code began"
                f" ({part.get('code', 'unknown')} there, {code()} here): go on with that code, or remove the folder"
            )
    return None


def begin(run: RunConfig, folder: Path, digest: str, device: str) -> None:
    """Note in a folder what its run is: its configuration, its tokens, code and kind of device."""
    write_json(folder / _CONFIG, to_dict(run))
    write_json(folder / _MADE_OF, {"cache_digest": digest, "code": code(), "device": device})


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an array as .npy, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    atomic_write(path, buffer.getvalue())


def _check_config(run: RunConfig, folder: Path) -> None:
    if not (folder / _CONFIG).exists():
        return
    stored = read_json(folder / _CONFIG)
    with contextlib.suppress(UserError):  # of another version, whose fields differ: they are compared as they stand
        stored = to_dict(from_dict(stored))
    there, here = (_flat(one) for one in (stored, to_dict(from_dict(to_dict(run)))))
    for one in (there, here):
        one["train.init_from"] = canonical(str(one.get("train.init_from", "")))
    differ = [path for path in {**here, **there} if path not in EXECUTION and _of(there, path) != _of(here, path)]
    if differ:
        path, more = differ[0], f", and {len(differ) - 1} more fields differ" if len(differ) > 1 else ""
        what = f"{path} is {_of(there, path)} there, {_of(here, path)} here{more}"
        raise UserError(f"folder = {str(folder)!r} holds another run: {what}; give each run a folder of its own")


def _check_tokens(run: RunConfig, folder: Path, there: str | None, here: str | None) -> None:
    if None not in (here, there) and here != there:
        what = f"of other tokens of data.task = {run.data.task!r} (digest is {there:.12} there, {here:.12} here)"
        raise UserError(f"folder = {str(folder)!r} holds a run {what}; give each run a folder of its own")


def _flat(data: Any, path: str = "") -> dict[str, Any]:
    """Values by dotted path."""
    if not isinstance(data, Mapping):
        return {path: data}
    return {k: v for name, inner in data.items() for k, v in _flat(inner, f"{path}.{name}" if path else name).items()}


def _of(flat: dict[str, Any], path: str) -> str:
    return repr(flat[path]) if path in flat else "none"
