"""From logical axes to a mesh, by a short table of rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from encdec_jax.errors import UserError, require
from encdec_jax.mesh import AXES, ROWS, axis_of
from encdec_jax.train.config import MeshConfig

Given = TypeVar("Given")


def in_turn(given: Given) -> Given:
    """What the devices were given to compute. CPUs of several processes end it before they are given more.

    There computations overtake one another, each process's in an order of its own, and messages between processes bear
    no name: those of one would be taken for another's. Other devices compute in the order in which they are asked.
    """
    if jax.process_count() > 1 and jax.default_backend() == "cpu":
        jax.block_until_ready(given)
    return given


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh (data, fsdp, tensor, sequence) over the first devices, all of them where the job spans processes.

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
    if devices is None and jax.process_count() > 1:
        require(
            size == len(given), "mesh", str(config), f"all {len(given)} devices of the {jax.process_count()} processes"
        )
    order = np.asarray(given[:size]).reshape(shape)
    if size == len(given):
        try:
            order = mesh_utils.create_device_mesh(shape, given, allow_split_physical_axes=True)
        except (NotImplementedError, ValueError) as error:  # of TPUs only: elsewhere any order will do
            raise UserError(f"mesh = '{config}' is not accepted: {str(error).splitlines()[0]}") from error
    return Mesh(order, AXES, axis_types=(AxisType.Auto,) * len(AXES))


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
      UserError: a mesh axis does not divide the dimension it is to shard, which is neither vocabulary nor heads.
    """
    names = [axis_of(axis, dim, mesh.shape) for dim, axis in zip(shape, axes, strict=True)]
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


def rows_by_process(mesh: Mesh, rows: int) -> dict[int, np.ndarray]:
    """The rows of a batch of `rows` that the devices of each process address, rising: what each process must load.

    Axes that do not divide rows (tensor, sequence) may run across processes; several of them then address the same
    rows. Tokens are divided on the devices: ids are few bytes.
    """
    found: dict[int, set[int]] = {}
    placed: Any = rows_sharding(mesh).devices_indices_map((rows,))
    for device, (part,) in placed.items():
        found.setdefault(device.process_index, set()).update(range(*part.indices(rows)))
    return {process: np.array(sorted(held), np.int64) for process, held in sorted(found.items())}


def put_rows(tree: Any, sharding: NamedSharding, rows: int, here: np.ndarray) -> Any:
    """A process's rows of a batch as global arrays.

    Args:
      tree: numpy leaves [..., rows here, tokens].
      sharding: of the whole.
      rows: of the whole, on axis -2.
      here: which of them the leaves hold, as `rows_by_process` gives them.
    """

    def put(leaf: np.ndarray) -> jax.Array:
        def part(index: Any) -> np.ndarray:  # rows alone are divided
            return leaf.take(np.searchsorted(here, np.arange(rows)[index[-2]]), axis=-2)

        return jax.make_array_from_callback((*leaf.shape[:-2], rows, leaf.shape[-1]), sharding, part)

    return jax.tree.map(put, tree)


def put_same(tree: Any, sharding: NamedSharding) -> Any:
    """Values that every process holds whole (numpy leaves) as global arrays."""
    return jax.tree.map(lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__), tree)
