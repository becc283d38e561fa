"""A run's compiled parts: initial state, several updates, held-out scores, each placed on the run's mesh."""

from __future__ import annotations

import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from encdec_jax.config import RunConfig
from encdec_jax.data.layout import Batch
from encdec_jax.errors import require
from encdec_jax.evaluate.fair import row_nats, suffix_bits
from encdec_jax.model.model import graph, initial
from encdec_jax.train.axes import axes_of, decay_mask
from encdec_jax.train.optimizer import optimizer
from encdec_jax.train.schedule import Hyper
from encdec_jax.train.sharding import make_mesh, parameter_sharding, put_rows, put_same, replicated, rows_sharding
from encdec_jax.train.step import Metrics, State, forward, make_update, several


class Trainer:
    """Holds no state of training: that is a `State`, passed in and given back.

    Attributes:
      mesh: the run's devices.
      abstract: a `State` of shapes, types and shardings, to restore checkpoints onto.
      compile_s: seconds spent compiling so far.
    """

    def __init__(self, run: RunConfig, rows: int) -> None:
        """Make the run's functions; nothing is compiled yet.

        Args:
          run: the configuration.
          rows: rows of a batch over all processes.

        Raises:
          UserError: the mesh does not fit the devices, the rows, or the model's shapes.
        """
        self.run = run
        self.mesh = make_mesh(run.mesh)
        shards = run.mesh.data * run.mesh.fsdp
        require(
            rows % (shards * run.train.accumulate) == 0,
            "train.batch_size",
            run.train.batch_size,
            f"a number whose {rows} rows divide by mesh.data x mesh.fsdp x train.accumulate"
            f" = {shards} x {run.train.accumulate}",
        )
        self.compile_s = 0.0
        self._graph = graph(run.model)
        shapes = jax.eval_shape(lambda key: initial(run.model, key), jax.random.key(0))
        self._optimizer = optimizer(run.optim, decay_mask(shapes))
        self._rows = rows_sharding(self.mesh, leading=1)
        self.abstract = self._abstract()
        self._calls: Any = None

    def init(self) -> State:
        """The state before the first update, drawn from `train.seed`."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract)
        # Random bits take a CPU's compiler 3.4 s when it optimises and 0.7 s when it doesn't, and run once.
        quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        init = jax.jit(self._init, out_shardings=shardings, compiler_options=quick)
        return init(jax.random.key(self.run.train.seed))

    def __call__(self, state: State, batches: Batch, hyper: Hyper, n: int) -> tuple[State, Metrics]:
        """The first n updates of `batches` (this process's rows, leaves [steps_per_call, rows, ...]).

        The given state is consumed. Returns before the devices have finished.
        """
        placed = put_rows(batches, self._rows)
        count = jnp.asarray(n, jnp.int32)
        if self._calls is None:
            start = time.perf_counter()
            calls = several(make_update(self.run, self._graph, self._optimizer), self.run.train.steps_per_call)
            shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract)
            step = jax.jit(calls, donate_argnums=0, out_shardings=(shardings, replicated(self.mesh)))
            self._calls = step.lower(state, placed, hyper, count).compile()
            self.compile_s += time.perf_counter() - start
        return self._calls(state, placed, hyper, count)

    def held_out_bits(self, params: nnx.State, rows: Batch) -> np.ndarray:
        """Bits of each held-out row's suffix, float64 [rows]; every process gives all rows and gets all bits."""
        where = rows_sharding(self.mesh)
        shards = self.run.mesh.data * self.run.mesh.fsdp
        size = math.ceil(self.run.evaluate.batch_size / shards) * shards

        def nats(params: nnx.State, batch: Batch) -> jax.Array:
            return row_nats(forward(self._graph, params, batch), batch.labels, batch.weights)

        compiled = jax.jit(nats, out_shardings=replicated(self.mesh))
        return suffix_bits(lambda batch: np.asarray(compiled(params, put_same(batch, where))), rows, size)

    def _init(self, key: jax.Array) -> State:
        params = initial(self.run.model, key)
        return State(jnp.zeros((), jnp.int32), params, self._optimizer.init(params))

    def _abstract(self) -> State:
        shapes = jax.eval_shape(self._init, jax.random.key(0))
        axes = axes_of(shapes)

        def place(leaf: jax.ShapeDtypeStruct, axes: tuple[str, ...] | None) -> jax.ShapeDtypeStruct:
            if axes is None or len(axes) != leaf.ndim:  # a counter, or a factored moment
                where = replicated(self.mesh)
            else:
                where = parameter_sharding(self.mesh, leaf.shape, axes)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

        return jax.tree.map(place, shapes, axes)
