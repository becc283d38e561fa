"""Tensors by name as parameters by path, and back: which are wanted, how they lie, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import numpy as np

from encdec_jax.errors import UserError
from encdec_jax.interop.family import HFFamily, Path
from encdec_jax.model import declare
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.param import Param, leaves

Values = dict[Path, np.ndarray]


def from_tensors(family: HFFamily, config: ModelConfig, held: Mapping[str, np.ndarray], where: str) -> Values:
    """Parameters by path, float32, of tensors by name; `where` they are from is said in messages.

    Raises:
      UserError: tensors are missing, unknown, of another shape, or not the copies that they should be.
    """
    declared, wanted = dict(leaves(declare.model(config))), list(family.tensors(config))
    known = {name for name, _, _ in wanted}
    missing = [name for name in known if name not in held]
    unknown = [name for name in held if name not in known | {*family.same} and not unused_by(family, name)]
    shaped = []
    for name, paths, _ in wanted:
        if name in held and held[name].shape != (shape := shape_of(family, name, [declared[path] for path in paths])):
            shaped.append(f"{name} is {held[name].shape} where the configuration says {shape}")
    differing = [name for name, of in family.same.items() if name in held and name not in known and of in held]
    differing = [name for name in differing if not same_bits(held[name], held[family.same[name]])]
    lists = {"missing": missing, "unknown": unknown, "of another shape": shaped, "not the copy it should be": differing}
    wrong = [f"{what}: {', '.join(sorted(names))}" for what, names in lists.items() if names]
    if wrong:
        raise UserError(f"{where}: tensors {'; '.join(wrong)}")
    parts: dict[Path, list[np.ndarray]] = {}
    for name, paths, _ in wanted:  # layers in order
        params = [declared[path] for path in paths]
        tensor = _outputs_last(family, params[0], held[name].astype(np.float32))
        places = np.cumsum([_flat(param)[-1] for param in params])[:-1]
        for path, part in zip(paths, np.split(tensor, places, axis=-1), strict=True):
            parts.setdefault(path, []).append(part)
    return {path: np.stack(found).reshape(declared[path].shape) for path, found in parts.items()}


def to_tensors(family: HFFamily, config: ModelConfig, values: Values) -> dict[str, np.ndarray]:
    """Tensors by name, float32, of parameters by path."""
    declared, found = dict(leaves(declare.model(config))), {}
    for name, paths, layer in family.tensors(config):
        params = [declared[path] for path in paths]
        of_layer = [values[path] if layer is None else values[path][layer] for path in paths]
        parts = [value.reshape(_flat(param)) for value, param in zip(of_layer, params, strict=True)]
        tensor = _outputs_last(family, params[0], np.concatenate(parts, axis=-1))
        found[name] = tensor.reshape(shape_of(family, name, params))
    return found


def shape_of(family: HFFamily, name: str, params: list[Param]) -> tuple[int, ...]:
    """The shape of the tensor that holds parameters of one layer, one behind the other."""
    *inputs, _ = _flat(params[0])
    whole = (*inputs, sum(_flat(param)[-1] for param in params))
    whole = whole[::-1] if params[0].role == "matrix" and not family.inputs_first else whole
    return (1, *whole) if name in family.rows else whole


def unused_by(family: HFFamily, name: str) -> bool:
    """Whether a tensor enters nothing."""
    return any(fnmatchcase(name, one) for one in family.unused)


def same_bits(one: np.ndarray, other: np.ndarray | None) -> bool:
    """Whether two tensors are one."""
    return other is not None and one.shape == other.shape and one.tobytes() == other.tobytes()


def _flat(param: Param) -> tuple[int, ...]:
    """The shape of a parameter of one layer, heads and head_dim as one: matrices as (inputs, outputs)."""
    shape = param.shape[1:] if param.axes[0] == "layers" else param.shape
    if param.role == "matrix":
        return param.fan_in, int(np.prod(shape)) // param.fan_in
    return (int(np.prod(shape)),) if param.axes[-1] == "head_dim" else shape


def _outputs_last(family: HFFamily, param: Param, tensor: np.ndarray) -> np.ndarray:
    """A matrix with its outputs behind, or as it is stored: either is the other's inverse."""
    return tensor.T if param.role == "matrix" and not family.inputs_first else tensor
