"""A run's compiled parts: initial state, several updates, held-out scores, each placed on the run's mesh."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from encdec_jax.compute.limits import check_size, check_tokens
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import check_rows, geometry
from encdec_jax.data.packing import Batch
from encdec_jax.evaluate.fair import bits_per_byte, row_nats, suffix_bits
from encdec_jax.model.choice import choose, resolve
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.model import graph, initial
from encdec_jax.model.streams import Stream
from encdec_jax.train.axes import axes_of, decay_mask
from encdec_jax.train.optimizer import optimizer, rates_of
from encdec_jax.train.schedule import Hyper, hyper
from encdec_jax.train.sharding import (
    in_turn,
    make_mesh,
    parameter_sharding,
    put_rows,
    put_same,
    replicated,
    rows_by_process,
    rows_sharding,
)
from encdec_jax.train.step import Metrics, State, forward, make_update, several

log = logging.getLogger(__name__)


class Trainer:
    """Holds no state of training: that is a `State`, passed in and given back.

    Attributes:
      run: the configuration, its attention resolved to the kernel that the devices have.
      mesh: the run's devices.
      here: rows of a batch that this process's devices address, and which it must therefore load.
      answers_for: bool, as `here`: which of them no process before it loads too.
      abstract: a `State` of shapes, types and shardings, to restore checkpoints onto.
      compile_s: seconds spent compiling so far.
    """

    def __init__(self, run: RunConfig, devices: Sequence[jax.Device] | None = None) -> None:
        """Make the run's functions; nothing is compiled yet.

        Args:
          run: the configuration.
          devices: to place them on instead of the job's own; those of a machine that is only described can compile.

        Raises:
          UserError: the mesh does not fit the devices, the rows, or the model's shapes.
        """
        self.mesh = make_mesh(run.mesh, devices)
        self.run = run = replace(run, model=_with_kernel(run.model, self.mesh.devices.flat[0].platform))
        check_rows(run)
        check_tokens(run)
        check_size(run)
        self.rows = geometry(run).rows
        held = rows_by_process(self.mesh, self.rows)
        self.here = held[jax.process_index()] if devices is None else np.arange(self.rows)
        before = [row for process, rows in held.items() if process < jax.process_index() for row in rows]
        self.answers_for = ~np.isin(self.here, before)
        self.compile_s = 0.0
        self._graph = graph(run.model)
        shapes = jax.eval_shape(lambda key: initial(run.model, key), jax.random.key(0))
        self._optimizer = optimizer(run.optim, decay_mask(shapes), rates_of(run, shapes))
        self._rows = rows_sharding(self.mesh, leading=1)
        self.abstract = self._abstract()
        self._calls: Any = None
        self._scores: dict[Any, Any] = {}

    def init(self) -> State:
        """The state before the first update, drawn from `train.seed`."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract)
        # Random bits take a CPU's compiler 3.4 s when it optimises and 0.7 s when it doesn't, and run once.
        quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        init = jax.jit(self._init, out_shardings=shardings, compiler_options=quick)
        return init(jax.random.key(self.run.train.seed))

    def __call__(self, state: State, batches: Batch, hyper: Hyper, n: int) -> tuple[State, Metrics]:
        """The first n updates of `batches` (this process's rows, leaves [steps_per_call, rows, ...]).

        The given state is consumed. Returns before the devices have finished (`in_turn`).
        """
        placed = put_rows(batches, self._rows, self.rows, self.here)
        count = jnp.asarray(n, jnp.int32)
        if self._calls is None:
            start = time.perf_counter()
            calls = several(make_update(self.run, self._graph, self._optimizer), self.run.train.steps_per_call)
            shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract)
            step = jax.jit(calls, donate_argnums=0, out_shardings=(shardings, replicated(self.mesh)))
            with jax.set_mesh(self.mesh):  # which the model divides its activations by
                self._calls = step.lower(state, placed, hyper, count).compile()
            self.compile_s += time.perf_counter() - start
        return in_turn(self._calls(state, placed, hyper, count))

    def lower(self) -> jax.stages.Lowered:
        """One update as it would run on the mesh, lowered for shapes alone: state (donated), batch and schedule."""
        update = make_update(self.run, self._graph, self._optimizer)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract)
        step = jax.jit(update, donate_argnums=0, out_shardings=(shardings, replicated(self.mesh)))
        schedule = jax.tree.map(
            lambda n: jax.ShapeDtypeStruct((), n.dtype, sharding=replicated(self.mesh)), hyper(self.run.optim, 1, 0)
        )
        with jax.set_mesh(self.mesh):
            return step.lower(self.abstract, self._abstract_batch(), schedule)

    def held_out_bits(self, params: nnx.State, rows: Batch) -> np.ndarray:
        """Bits of each held-out row's suffix, float64 [rows]; every process gives all rows and gets all bits."""
        return self.score(params, rows)()

    def score(self, params: nnx.State, rows: Batch) -> Callable[[], np.ndarray]:
        """As `held_out_bits`, but returns before the devices have finished.

        Returns:
          what waits for them, and gives the bits of each row's suffix, float64 [rows].
        """
        where = rows_sharding(self.mesh)
        shards = self.run.mesh.shards
        size = math.ceil(self.run.evaluate.batch_size / shards) * shards

        def nats(params: nnx.State, batch: Batch) -> jax.Array:
            return forward(self._graph, params, batch, row_nats)[0]

        def scored(batch: Batch) -> jax.Array:
            placed = put_same(batch, where)
            shape = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
            if shape not in self._scores:
                start = time.perf_counter()
                with jax.set_mesh(self.mesh):
                    scoring = jax.jit(nats, out_shardings=replicated(self.mesh))
                    self._scores[shape] = scoring.lower(params, placed).compile()
                self.compile_s += time.perf_counter() - start
            found: jax.Array = in_turn(self._scores[shape](params, placed))
            return found

        return suffix_bits(scored, rows, size)

    def rates(
        self, params: nnx.State, sets: Iterable[tuple[str, Batch, np.ndarray]]
    ) -> dict[str, tuple[float, float] | tuple[None, None]]:
        """Bits per byte of held-out sets and its standard error; none where that is not finite.

        Args:
          params: the model's.
          sets: each its name, rows and bytes of them.
        """
        found = {name: bits_per_byte(self.held_out_bits(params, rows), nbytes) for name, rows, nbytes in sets}
        return {name: one if math.isfinite(one[0]) else (None, None) for name, one in found.items()}

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

    def _abstract_batch(self) -> Batch:
        shape = geometry(self.run)
        row = shape.layout
        where = rows_sharding(self.mesh)

        def array(length: int, dtype: type) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((shape.rows, length), dtype, sharding=where)

        def stream(length: int) -> Stream:
            number = array(length, np.int32)
            return Stream(tokens=number, position=number, segment=number, open=array(length, np.bool_))

        source = stream(row.source) if row.source else None
        return Batch(source, stream(row.target), array(row.scored, np.int32), array(row.scored, np.float32))


def _with_kernel(config: ModelConfig, platform: str) -> ModelConfig:
    """The model with the attention that it gets on a platform, said aloud."""
    resolved = resolve(config, platform)
    reason = choose(config, platform).reason if config.attention == "auto" else None
    if reason is None:
        log.info("attention: %s, on %s", resolved.attention, platform)
    else:
        log.warning("attention: plain, because %s", reason)
    return resolved
