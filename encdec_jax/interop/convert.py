"""Models of Hugging Face as folders of runs, and back, bit by bit."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from encdec_jax.config import RunConfig, to_dict
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.named_vocab import vocab_file, vocab_name
from encdec_jax.errors import UserError, require, shown
from encdec_jax.files import read_json, write_json
from encdec_jax.interop import tensors
from encdec_jax.interop.family import HFFamily
from encdec_jax.interop.huggingface import FAMILIES
from encdec_jax.interop.stored import from_tensors, same_bits, to_tensors, unused_by
from encdec_jax.model.config import ModelConfig
from encdec_jax.train.checkpoint import Checkpoints
from encdec_jax.train.objects import holding, run_folder
from encdec_jax.train.restore import VOCABULARIES, restore
from encdec_jax.train.trainer import Trainer

log = logging.getLogger(__name__)
KEPT = "hf.json"  # beside a run's config.json: what its parameters don't say of the model that it was made of
UNUSED = "hf-unused.safetensors"  # and the tensors that enter nothing here
HEAD = "lm_head.weight"


def from_hf(source: Path, folder: Path) -> ModelConfig:
    """A model's folder as that of a run whose checkpoint of update 0 has its parameters, in float32.

    Such a run is decoded and scored as any other, on tasks that are prepared in its vocabulary, whose file it holds
    (`encdec_jax.train.restore.VOCABULARIES`); training goes on from it by `train.init_from` FOLDER/checkpoints/0.

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
        bare = "" if any(name.startswith(family.prefix) for name in held) else family.prefix
        held = {bare + name: tensor for name, tensor in held.items()}
        apart = HEAD in held and not same_bits(held[HEAD], held.get(family.same.get(HEAD, "")))
        try:
            config = family.read(data, apart)
        except UserError as error:
            raise UserError(f"{source / 'config.json'}: {error}") from error
        values = from_tensors(family, config, held, str(source))
        vocab = _vocabulary(source, made, config.vocab_size)
        run = RunConfig(config, DataConfig(vocab=vocab), ObjectiveConfig(family.objective))  # type: ignore[arg-type]
        state = Trainer(run).init()
        for path, leaf in nnx.to_flat_state(state.params):
            leaf[...] = values[tuple(map(str, path))]
        write_json(made / "config.json", to_dict(run))
        unused = {name: tensor for name, tensor in held.items() if unused_by(family, name)}
        dtypes = {name: tensor.dtype.name for name, tensor in held.items() if name not in unused}
        write_json(made / KEPT, {"config": data, "dtypes": dtypes, "bare": bare})
        if unused:
            tensors.write(made / UNUSED, unused)
        saver = Checkpoints(made / "checkpoints")
        saver.save(0, state, {})
        saver.close()
    return config


def _vocabulary(source: Path, made: Path, size: int) -> str:
    """Carry the files of a model's vocabulary over; `data.vocab` of the first whose ids are those of the model.

    Files are carried as they are; of none, or none that is read here with its own ids, it is 'bytes'.
    """
    for name in VOCABULARIES:
        if not (source / name).exists():
            continue
        try:
            known = vocab_name(str(source / name), None)
            found = vocab_file(known, str(source / name))
            assert found is not None
            accepted = f"at most the model's {size} ids, of which 0, 1 and 2 are pad, eos and unk"
            own = not getattr(found, "moved", 0)  # of a tokenizer.json whose ids are others here than in the model
            require(own and found.size <= size, f"ids of {source / name}", found.size, accepted)
        except UserError as error:
            log.warning("its vocabulary is not carried over: %s", error)
            continue
        shutil.copyfile(source / name, made / name)
        return known
    return "bytes"


def to_hf(source: Path, folder: Path) -> ModelConfig:
    """The newest checkpoint of a run as a model's folder: config.json and model.safetensors.

    A run that `from_hf` made gives what it was made of: each tensor's bits, type and name.

    Raises:
      UserError: `folder` exists, `source` holds no run, or the run's model is of no family that is known.
    """
    with _made(folder) as made:
        run, params = restore(source)
        source = run_folder(source)
        kept: dict[str, Any] = {"config": {}, "dtypes": {}, "bare": ""}
        if (source / KEPT).exists():
            kept |= read_json(source / KEPT)
        family, config, data = family_of(run.model)
        values = {tuple(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(params)}
        found = to_tensors(family, config, values)
        for name, of in family.same.items():
            if name in kept["dtypes"] and name not in found:
                found[name] = found[of]
        found = {name: one.astype(np.dtype(_dtype(kept["dtypes"].get(name)))) for name, one in found.items()}
        unused = tensors.read_file(source / UNUSED) if kept["config"] and (source / UNUSED).exists() else {}
        tensors.write(made / tensors.ONE, {name.removeprefix(kept["bare"]): x for name, x in (found | unused).items()})
        # Numbers that the file left to the library's defaults stay so: what was read is written again.
        merged = kept["config"] or {**data, "pad_token_id": 0, "eos_token_id": 1}
        (made / "config.json").write_text(json.dumps(merged, indent=2) + "\n")
        for name in VOCABULARIES:
            if (source / name).exists():
                shutil.copyfile(source / name, made / name)
    return config


def family_of(config: ModelConfig) -> tuple[HFFamily, ModelConfig, dict[str, Any]]:
    """The family that says a model whole: it, the model as it reads it, and its config.json.

    Raises:
      UserError: there is none; the message says what the nearest one lacks.
    """
    execution = {field.name: getattr(config, field.name) for field in fields(config) if field.metadata.get("execution")}
    near = []
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


def _dtype(name: str | None) -> np.dtype:
    return {dtype.name: dtype for dtype in tensors.DTYPES.values()}[name or "float32"]


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, which takes its name when all is in it, and is removed where something fails."""
    require(not folder.exists(), "--to", str(folder), "a folder that is not there yet")
    accepted = "a folder on this machine, not one of the bucket that ENCDEC_RUNS names: copy it there afterwards"
    require(holding(folder.absolute()) is None, "--to", str(folder), accepted)
    made = folder.absolute().with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        made.mkdir(parents=True)
        yield made
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
