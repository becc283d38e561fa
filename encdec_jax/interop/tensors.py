"""Tensors in safetensors' files, one or several with an index. No pickles, and no jax."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from encdec_jax.errors import UserError, require
from encdec_jax.files import read_json

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


def read(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a model's folder, in the types that they are stored in.

    Raises:
      UserError: there are none, a file is missing or damaged, or a tensor is not where the index says.
    """
    if (folder / INDEX).exists():
        index = read_json(folder / INDEX)
        where = index.get("weight_map") if isinstance(index, dict) else None
        sound = isinstance(where, dict) and all(isinstance(file, str) for file in where.values())
        require(sound, str(folder / INDEX), where, "an index: a weight_map from tensors to files")
        assert isinstance(where, dict)
        files = sorted(set(where.values()))
        inside = [Path(file).name == file for file in files]
        require(all(inside), str(folder / INDEX), files, "files that stand beside it")
        found: dict[str, np.ndarray] = {}
        for file in files:
            held = read_file(folder / file)
            lost = sorted(name for name, place in where.items() if place == file and name not in held)
            require(not lost, str(folder / file), lost, "the tensors that the index says are in it")
            found |= held
        return found
    if not (folder / ONE).exists():
        pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        why = "; a pickle may run code and is not read: save it as safetensors first" if pickles else ""
        raise UserError(f"{folder} holds no {ONE} and no {INDEX}{why}")
    return read_file(folder / ONE)


def read_file(path: Path) -> dict[str, np.ndarray]:
    """All tensors of one file.

    Raises:
      UserError: it is missing or damaged.
    """
    import safetensors

    try:
        held = safetensors.deserialize(path.read_bytes())
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is damaged or truncated: {error}") from error
    found = {}
    for name, tensor in held:
        require(tensor["dtype"] in DTYPES, f"{path}: {name}", tensor["dtype"], "one of " + ", ".join(DTYPES))
        found[name] = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
    return found


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Tensors as one file."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, {"format": "pt"})
