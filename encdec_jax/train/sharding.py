"""From logical axes to a mesh, by a short table of rules."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from encdec_jax.config import MeshConfig
from encdec_jax.errors import UserError, require

RULES: dict[str, str | None] = {
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "embed": "fsdp",
    "head_dim": None,
    "layers": None,
    "norm": None,
}
ROWS = ("data", "fsdp")  # mesh axes that the rows of a batch are divided over


def make_mesh(config: MeshConfig) -> Mesh:
    """A mesh (data, fsdp, tensor) over the first devices of the job, all of them where it spans processes.

    Raises:
      UserError: the mesh needs more devices than there are.
    """
    shape = (config.data, config.fsdp, config.tensor)
    size, devices = math.prod(shape), jax.devices()
    require(
        size <= len(devices),
        "mesh",
        f"data={config.data}, fsdp={config.fsdp}, tensor={config.tensor}",
        f"at most {len(devices)} devices in all, as many as there are; this mesh has {size}",
    )
    return Mesh(np.asarray(devices[:size]).reshape(shape), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def parameter_sharding(mesh: Mesh, shape: tuple[int, ...], axes: tuple[str, ...]) -> NamedSharding:
    """Where a parameter of this shape and these logical axes lives.

    Raises:
      UserError: a mesh axis does not divide the dimension it is to shard.
    """
    names = [RULES[axis] for axis in axes]
    for dim, axis, name in zip(shape, axes, names, strict=True):
        if name is not None and dim % mesh.shape[name]:
            raise UserError(
                f"mesh.{name} = {mesh.shape[name]} is not accepted: it must divide the '{axis}' dimension of {dim}"
            )
    return NamedSharding(mesh, PartitionSpec(*names))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def rows_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Rows divided over data and fsdp, behind `leading` undivided axes."""
    return NamedSharding(mesh, PartitionSpec(*[None] * leading, ROWS))


def put_rows(tree: Any, sharding: NamedSharding) -> Any:
    """This process's rows (numpy leaves) as global arrays."""
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), tree)


def put_same(tree: Any, sharding: NamedSharding) -> Any:
    """Values that every process holds whole (numpy leaves) as global arrays."""
    return jax.tree.map(lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__), tree)
