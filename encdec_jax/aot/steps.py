"""The project's real steps, lowered for shapes alone on given devices: an update of training, prefill, decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import require
from encdec_jax.infer.kv_cache import Cache, cache_axes, decode, prefill
from encdec_jax.mesh import ROWS, axis_of
from encdec_jax.model.choice import resolve
from encdec_jax.model.model import graph, initial
from encdec_jax.model.streams import Stream
from encdec_jax.train.axes import axes_of
from encdec_jax.train.sharding import make_mesh, parameter_sharding, rows_sharding
from encdec_jax.train.trainer import Trainer

Step = Literal["train", "prefill", "decode"]


def lower(run: RunConfig, step: Step, devices: Sequence[jax.Device]) -> jax.stages.Lowered:
    """One step of a run on its mesh over these devices.

    Inference keeps the weights in the compute dtype, divided as in training, and caches by rows and 'kv_heads'.
    'prefill' takes up a source a row, 'decode' feeds one token a row with room for a target; see `Geometry.sequence`.

    Raises:
      UserError: the mesh does not fit the devices, the rows, or the model's shapes.
    """
    if step == "train":
        return Trainer(run, devices).lower()
    shape, shards = geometry(run), run.mesh.shards
    rows, (source, capacity) = shape.rows, shape.sequence
    require(rows % shards == 0, "rows", rows, f"a multiple of mesh.data x mesh.fsdp = {shards}")
    mesh = make_mesh(run.mesh, devices)
    config = resolve(run.model, mesh.devices.flat[0].platform)
    definition, params = graph(config), _weights(replace(run, model=config), mesh)

    def take(params: nnx.State, source: Stream) -> Cache:
        return prefill(definition, params, source, capacity)

    def feed(params: nnx.State, cache: Cache, token: Stream) -> tuple[jax.Array, Cache]:
        return decode(definition, params, cache, token)

    prompt = _stream(rows, source, mesh)
    cache = _cache(take, params, prompt, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, cache)
    with jax.set_mesh(mesh):
        if step == "prefill":
            return jax.jit(take, out_shardings=shardings).lower(params, prompt)
        feeding = jax.jit(feed, donate_argnums=1, out_shardings=(rows_sharding(mesh), shardings))
        return feeding.lower(params, cache, _stream(rows, 1, mesh))


def _weights(run: RunConfig, mesh: Mesh) -> nnx.State:
    shapes = jax.eval_shape(lambda key: initial(run.model, key), jax.random.key(0))

    def place(leaf: jax.ShapeDtypeStruct, axes: tuple[str, ...]) -> jax.ShapeDtypeStruct:
        where = parameter_sharding(mesh, leaf.shape, axes)
        return jax.ShapeDtypeStruct(leaf.shape, run.model.dtype, sharding=where)

    return jax.tree.map(place, shapes, axes_of(shapes))


def _stream(rows: int, length: int, mesh: Mesh) -> Stream:
    number, flag = (
        jax.ShapeDtypeStruct((rows, length), dtype, sharding=rows_sharding(mesh)) for dtype in (np.int32, np.bool_)
    )
    return Stream(tokens=number, position=number, segment=number, open=flag)


def _cache(take: Callable[..., Cache], params: Any, prompt: Stream, mesh: Mesh) -> Cache:
    """The shapes of a cache, laid on the mesh."""
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(take, params, prompt)

    def place(leaf: jax.ShapeDtypeStruct, names: tuple[str, ...]) -> jax.ShapeDtypeStruct:
        heads = axis_of("kv_heads", leaf.shape[names.index("kv_heads")], mesh.shape) if "kv_heads" in names else None
        divided: dict[str, Any] = {"rows": ROWS, "kv_heads": heads}
        where = NamedSharding(mesh, PartitionSpec(*(divided.get(name) for name in names)))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    return jax.tree.map(place, shapes, cache_axes(shapes))
