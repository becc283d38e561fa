"""From logical axes to a mesh, by a short table of rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from encdec_jax.errors import UserError, require
from encdec_jax.mesh import AXES, ROWS, RULES
from encdec_jax.train.config import MeshConfig


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh (data, fsdp, tensor) over the first devices, all of them where the job spans processes.

    Where it takes them all, their order follows the hardware's: neighbours on the last axis are linked directly.

    Args:
      config: devices along each axis.
      devices: to take instead of the job's own, such as those of a machine that is only described.

    Raises:
      UserError: the mesh needs more devices than there are, or the hardware's axes cannot be split that way.
    """
    shape, size = astuple(config), config.size
    given = list(present() if devices is None else devices)
    require(
        size <= len(given),
        "mesh",
        str(config),
        f"at most {len(given)} devices in all, as many as there are; this mesh has {size}",
    )
    order = np.asarray(given[:size]).reshape(shape)
    if size == len(given):
        try:
            order = mesh_utils.create_device_mesh(shape, given, allow_split_physical_axes=True)
        except (NotImplementedError, ValueError) as error:  # of TPUs only: elsewhere any order will do
            raise UserError(f"mesh = '{config}' is not accepted: {str(error).splitlines()[0]}") from error
    return Mesh(order, AXES, axis_types=(AxisType.Auto,) * 3)


def present() -> list[jax.Device]:
    """The job's devices.

    Raises:
      UserError: the platform that the environment's JAX_PLATFORMS names is not there.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter, without a word, for 'cuda' where no plugin is
        told = str(error).splitlines()[0] if str(error) else "there is none here"
        raise UserError(f"JAX_PLATFORMS = {os.environ.get('JAX_PLATFORMS')!r} is not accepted: {told}") from error


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
