"""Models of Hugging Face as folders of runs, and back, bit by bit."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from encdec_jax.config import RunConfig, to_dict
from encdec_jax.data.config import ObjectiveConfig
from encdec_jax.errors import UserError, require, shown
from encdec_jax.files import read_json, write_json
from encdec_jax.interop import tensors
from encdec_jax.interop.family import HFFamily
from encdec_jax.interop.huggingface import FAMILIES
from encdec_jax.model import declare
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.param import Param, leaves
from encdec_jax.train.checkpoint import Checkpoints
from encdec_jax.train.restore import restore
from encdec_jax.train.trainer import Trainer

KEPT = "hf.json"  # beside a run's config.json: what its parameters don't say of the model that it was made of
HEAD = "lm_head.weight"
Values = dict[tuple[str, ...], np.ndarray]


def from_hf(source: Path, folder: Path) -> ModelConfig:
    """A model's folder as that of a run whose checkpoint of update 0 has its parameters, in float32.

    Such a run is decoded and scored as any other; training goes on from it by `train.init_from` FOLDER/checkpoints/0.

    Args:
      source: config.json, and model.safetensors or several files with an index.
      folder: to make; it must not exist. Nothing is left of it where something fails.

    Raises:
      UserError: `folder` exists; a file is missing or damaged; the model is of no family that is known; tensors are
        missing, unknown or of another shape, all of which the message lists.
    """
    with _made(folder) as made:
        data = read_json(source / "config.json")
        kind = data.get("model_type") if isinstance(data, dict) else None
        require(kind in FAMILIES, f"{source / 'config.json'}: model_type", kind, "one of " + ", ".join(FAMILIES))
        family, held = FAMILIES[str(kind)], tensors.read(source)
        apart = HEAD in held and not _equal(held[HEAD], held.get(family.same[HEAD]))
        try:
            config = family.read(data, apart)
        except UserError as error:
            raise UserError(f"{source / 'config.json'}: {error}") from error
        values = from_tensors(family, config, held, str(source))
        run = RunConfig(config, objective=ObjectiveConfig("prefix_lm"))
        state = Trainer(run).init()
        for path, leaf in nnx.to_flat_state(state.params):
            leaf[...] = values[tuple(map(str, path))]
        write_json(made / "config.json", to_dict(run))
        dtypes = {name: tensor.dtype.name for name, tensor in held.items() if not _unused(family, name)}
        write_json(made / KEPT, {"config": data, "dtypes": dtypes})
        saver = Checkpoints(made / "checkpoints")
        saver.save(0, state, {})
        saver.close()
    return config


def to_hf(source: Path, folder: Path) -> ModelConfig:
    """The newest checkpoint of a run as a model's folder: config.json and model.safetensors.

    A run that `from_hf` made gives what it was made of: each tensor's bits, type and name.

    Raises:
      UserError: `folder` exists, `source` holds no run, or the run's model is of no family that is known.
    """
    with _made(folder) as made:
        run, params = restore(source)
        kept = read_json(source / KEPT) if (source / KEPT).exists() else {"config": {}, "dtypes": {}}
        family, config, data = family_of(run.model)
        values = {tuple(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(params)}
        found = to_tensors(family, config, values)
        for name, of in family.same.items():
            if name in kept["dtypes"] and name not in found:
                found[name] = found[of]
        found = {name: one.astype(np.dtype(_dtype(kept["dtypes"].get(name)))) for name, one in found.items()}
        tensors.write(made / tensors.ONE, found)
        # Numbers that the file left to the library's defaults stay so: what was read is written again.
        merged = kept["config"] or {**data, "pad_token_id": 0, "eos_token_id": 1}
        (made / "config.json").write_text(json.dumps(merged, indent=2) + "\n")
    return config


def from_tensors(family: HFFamily, config: ModelConfig, held: Mapping[str, np.ndarray], where: str) -> Values:
    """Parameters by path, float32, of tensors by name; `where` they are from is said in messages."""
    declared, wanted = dict(leaves(declare.model(config))), list(family.tensors(config))
    known = {name for name, _, _ in wanted}
    missing = [name for name in known if name not in held]
    unknown = [name for name in held if name not in known | {*family.same} and not _unused(family, name)]
    shaped = []
    for name, path, _ in wanted:
        if name in held and held[name].shape != (shape := _stored(declared[path])):
            shaped.append(f"{name} is {held[name].shape} where the configuration says {shape}")
    differing = [name for name, of in family.same.items() if name in held and name not in known and of in held]
    differing = [name for name in differing if not _equal(held[name], held[family.same[name]])]
    lists = {"missing": missing, "unknown": unknown, "of another shape": shaped, "not the copy it should be": differing}
    wrong = [f"{what}: {', '.join(sorted(names))}" for what, names in lists.items() if names]
    if wrong:
        raise UserError(f"{where}: tensors {'; '.join(wrong)}")
    parts: dict[tuple[str, ...], list[np.ndarray]] = {}
    for name, path, _ in wanted:  # layers in order
        tensor = held[name].astype(np.float32)
        parts.setdefault(path, []).append(tensor.T if declared[path].role == "matrix" else tensor)
    return {path: np.stack(found).reshape(declared[path].shape) for path, found in parts.items()}


def to_tensors(family: HFFamily, config: ModelConfig, values: Values) -> dict[str, np.ndarray]:
    """Tensors by name, float32, of parameters by path."""
    declared, found = dict(leaves(declare.model(config))), {}
    for name, path, layer in family.tensors(config):
        value = values[path] if layer is None else values[path][layer]
        shape = _stored(declared[path])
        found[name] = value.reshape(shape[::-1]).T if declared[path].role == "matrix" else value
    return found


def _stored(param: Param) -> tuple[int, ...]:
    """The shape of a parameter's tensor, of one layer: matrices as [outputs, inputs]."""
    shape = param.shape[1:] if param.axes[0] == "layers" else param.shape
    if param.role != "matrix":
        return shape
    inputs = param.fan_in
    return int(np.prod(shape)) // inputs, inputs


def family_of(config: ModelConfig) -> tuple[HFFamily, ModelConfig, dict[str, Any]]:
    """The family that says a model whole: it, the model as it reads it, and its config.json.

    Raises:
      UserError: there is none; the message says what the nearest one lacks.
    """
    execution = {field.name: getattr(config, field.name) for field in fields(config) if field.metadata.get("execution")}
    config, near = _canonical(config), []
    for kind, family in FAMILIES.items():
        try:
            data = family.write(config)
            again = replace(family.read(data, config.tie != "all"), dtype=config.dtype, **execution)
        except UserError as error:
            near.append((len(fields(config)), f"{kind} can't have {error}"))
            continue
        differing = [
            field.name for field in fields(config) if getattr(again, field.name) != getattr(config, field.name)
        ]
        if not differing:
            return family, config, data
        values = ", ".join(f"model.{name} = {shown(getattr(config, name))}" for name in differing)
        near.append((len(differing), f"{kind} does not have {values}"))
    raise UserError(f"the run's model is none of {', '.join(FAMILIES)}; {min(near)[1]}")


def _canonical(config: ModelConfig) -> ModelConfig:
    """The same model, where two configurations say one: of one stream's two tables, and a turn that never comes."""
    decoder = config.decoder
    if decoder.global_every > decoder.n_layers:
        decoder = replace(decoder, global_every=0)
    one = {"decoder": "all", "none": "inputs"} if not config.choices.own_stream else {}
    return replace(config, decoder=decoder, tie=one.get(config.tie, config.tie))  # type: ignore[arg-type]


def _unused(family: HFFamily, name: str) -> bool:
    return name in family.unused or re.sub(r"\.\d+\.", ".{i}.", name) in family.unused


def _dtype(name: str | None) -> np.dtype:
    return {dtype.name: dtype for dtype in tensors.DTYPES.values()}[name or "float32"]


def _equal(one: np.ndarray, other: np.ndarray | None) -> bool:
    return other is not None and one.shape == other.shape and one.tobytes() == other.tobytes()


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, which takes its name when all is in it, and is removed where something fails."""
    require(not folder.exists(), "--to", str(folder), "a folder that is not there yet")
    made = folder.absolute().with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        made.mkdir(parents=True)
        yield made
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
