"""FLOPs of a run's own step, traced: of an update, or of a forward pass over its batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from encdec_jax.compute.witness import flops
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.packing import Batch
from encdec_jax.model.model import graph, initial
from encdec_jax.model.streams import Stream
from encdec_jax.train.axes import decay_mask
from encdec_jax.train.optimizer import optimizer
from encdec_jax.train.schedule import hyper
from encdec_jax.train.step import State, make_update


def abstract(shape: tuple[int, ...], dtype: type = jnp.int32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def abstract_batch(run: RunConfig) -> Batch:
    row = geometry(run).layout
    rows = run.train.batch_size // row.windows

    def stream(length: int) -> Stream:
        ids = abstract((rows, length))
        return Stream(ids, ids, ids, abstract((rows, length), jnp.bool_))

    source = stream(row.source) if row.source else None
    labels = (rows, row.scored)
    return Batch(source, stream(row.target), abstract(labels), abstract(labels, jnp.float32))


def computed(run: RunConfig) -> int:
    """FLOPs of one update of the run's step."""
    params = jax.eval_shape(lambda key: initial(run.model, key), jax.random.key(0))
    optim, model = optimizer(run.optim, decay_mask(params)), graph(run.model)
    state = State(abstract(()), params, jax.eval_shape(optim.init, params))
    return flops(make_update(run, model, optim), state, abstract_batch(run), hyper(run.optim, 10, 0))
