"""The pure training step, and several steps in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.packing import Batch
from encdec_jax.errors import require
from encdec_jax.evaluate.chunks import Sums, summed
from encdec_jax.model.stack import Aux
from encdec_jax.train.loss import weighted_sums
from encdec_jax.train.schedule import Hyper, learning_rate


class State(NamedTuple):
    """What training changes: updates done (int32), float32 parameters, the optimizer's state."""

    step: Array
    params: nnx.State
    opt_state: optax.OptState


class Metrics(NamedTuple):
    """Of one update, float32.

    Attributes:
      loss: nats a loss token, without z-loss and without what sublayers add.
      grad_norm: of the gradient before clipping.
      lr: learning rate.
      loss_tokens: in the batch.
      numbers: what sublayers want logged, by name, and as 'aux_loss' what they add, in nats a loss token.
    """

    loss: Array
    grad_norm: Array
    lr: Array
    loss_tokens: Array
    numbers: Mapping[str, Array]


DRAWS = 0x6472  # what the seed is folded with for the keys of updates, apart from those of initial values
# In a line of metrics.jsonl.
TAKEN = ("step", "tokens", "loss", "grad_norm", "lr", "skipped", "suffix_bits_per_byte", "aux_loss", "hash")
Update = Callable[[State, Batch, Hyper], tuple[State, Metrics]]
Calls = Callable[[State, Batch, Hyper, Array], tuple[State, Metrics]]


def forward(
    graph: nnx.GraphDef, params: nnx.State, batch: Batch, sums: Sums, keys: Array | None = None
) -> tuple[Any, Aux]:
    """What `encdec_jax.evaluate.chunks.summed` makes of a batch, and what sublayers add or want logged.

    `keys` [rows] are of what each row draws; None outside training.
    """
    model = nnx.merge(graph, params)
    states, aux = model.states(batch.source, batch.target, batch.labels.shape[-1], keys)
    return summed(sums, model, states, batch.labels, batch.weights), aux


def make_update(run: RunConfig, graph: nnx.GraphDef, optimizer: optax.GradientTransformation) -> Update:
    """One update as a pure function of state, batch and schedule.

    Gradients of the summed loss are added over `train.accumulate` microbatches, then divided by the loss tokens of the
    whole batch: so accumulation and sharding give the gradient of one large batch. What sublayers add is weighted by
    the loss tokens of each microbatch. What is drawn follows from the seed, the update and the row of the batch,
    however that is divided.

    Raises (when traced):
      UserError: a sublayer gives a number a name that metrics have already.

    Where `optim.skip` allows any, an update whose loss or gradient is not finite changes neither parameters nor the
    optimizer's state, and its metrics say so; the next one takes the next batch at the next learning rate.
    """
    parts, whole = run.train.accumulate, geometry(run).whole

    def summed(params: nnx.State, batch: Batch, keys: Array) -> tuple[Array, tuple[Array, Aux]]:
        sums = partial(weighted_sums, z_loss=run.train.z_loss, smoothing=run.train.label_smoothing)
        (total, nll), aux = forward(graph, params, batch.whole if whole else batch, sums, keys)
        if aux.loss is None:
            return total, (nll, aux)
        added = aux.loss * batch.weights.sum()
        return total + added, (nll, aux._replace(loss=added))

    gradient = jax.grad(summed, has_aux=True)

    def update(state: State, batch: Batch, hyper: Hyper) -> tuple[State, Metrics]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(hyper.seed), DRAWS), state.step)
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(batch.labels)))
        if parts == 1:
            grads, (nll, aux) = gradient(state.params, batch, keys)
        else:
            micro = jax.tree.map(lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), (batch, keys))
            first = gradient(state.params, *jax.tree.map(lambda leaf: leaf[0], micro))
            rest = jax.tree.map(lambda leaf: leaf[1:], micro)

            def add(total: Any, part: tuple[Batch, Array]) -> tuple[Any, None]:
                return jax.tree.map(jnp.add, total, gradient(state.params, *part)), None

            (grads, (nll, aux)), _ = jax.lax.scan(add, first, rest)
        tokens = jnp.maximum(batch.weights.sum(), 1.0)
        grads = jax.tree.map(lambda g: g / tokens, grads)
        lr = learning_rate(run.optim.schedule, hyper, state.step)
        change, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda p, c: p - lr * c, state.params, change)
        metrics = Metrics(nll / tokens, optax.global_norm(grads), lr, batch.weights.sum(), _numbers(aux, tokens))
        if run.optim.skip:
            sound = jnp.isfinite(metrics.loss) & jnp.isfinite(metrics.grad_norm)
            made, before = (params, opt_state), (state.params, state.opt_state)
            params, opt_state = jax.tree.map(lambda new, old: jnp.where(sound, new, old), made, before)
        return State(state.step + 1, params, opt_state), metrics

    return update


def _numbers(aux: Aux, tokens: Array) -> dict[str, Array]:
    for name in aux.sums:
        require(name not in TAKEN, "the name of a sublayer's number", name, "none of " + ", ".join(TAKEN))
    found = {name: total / count for name, (total, count) in aux.sums.items()}
    return found if aux.loss is None else {"aux_loss": aux.loss / tokens, **found}


def several(update: Update, length: int) -> Calls:
    """Up to `length` updates in one call; for tiny models that is 1.4-1.7 times as fast as a call each.

    The number done is an argument, not a shape, so that the last, shorter call needs no second compilation.

    Returns:
      a function of the state, batches (leaves [length, rows, ...]), the schedule, and the number n of updates to do;
      it gives the new state and metrics with leaves [length], zero beyond n.
    """

    update = jax.jit(update, inline=True)  # traced once, though its shapes are asked for first

    def calls(state: State, batches: Batch, hyper: Hyper, n: Array) -> tuple[State, Metrics]:
        def body(i: Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
            state, seen = carry
            state, metrics = update(state, jax.tree.map(lambda leaf: leaf[i], batches), hyper)
            return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), seen, metrics)

        first = jax.tree.map(lambda leaf: leaf[0], batches)
        shapes = jax.eval_shape(update, state, first, hyper)[1]
        return jax.lax.fori_loop(0, n, body, (state, jax.tree.map(lambda _: jnp.zeros(length), shapes)))

    return calls
