"""What sublayers of a user's own give beside states: losses and numbers; and what they draw."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sublayers
from support import parameters
from tiny import tiny_run, write_noise
from train.stepping import batch, run_config, stack, train

from encdec_jax.errors import UserError
from encdec_jax.model.model import graph
from encdec_jax.train import loop, step
from encdec_jax.train.checkpoint import Checkpoints
from encdec_jax.train.config import MeshConfig, OptimConfig
from encdec_jax.train.loss import weighted_sums
from encdec_jax.train.schedule import hyper
from encdec_jax.train.trainer import Trainer


def noisy(run, **model):
    return replace(run, model=replace(run.model, block="tests' own", **model))


def update(run, data):
    plain = replace(run, optim=OptimConfig(lr=1.0, warmup=0.0, schedule="constant"))
    params = parameters(run.model)
    state = step.State(jnp.int32(0), params, optax.EmptyState())
    after, metrics = jax.jit(step.make_update(plain, graph(run.model), optax.identity()))(
        state, data, hyper(plain.optim, 100, 0)
    )
    return params, jax.tree.map(lambda a, b: a - b, params, after.params), metrics


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("arch", ["causal_lm", "enc_dec", "coordinated"])
def test_the_step_adds_and_logs_what_sublayers_give(arch, accumulate, monkeypatch):
    run, data = noisy(run_config(arch, accumulate=accumulate)), batch(arch)
    params, grads, metrics = update(run, data)
    stacks = [(params[side], grads[side]) for side in ("encoder", "decoder") if side in params]
    passes = 2 if arch == "coordinated" else 1
    rows = [np.asarray(own["blocks"]["noise"]["row"][...]) for own, _ in stacks]
    assert metrics.numbers.keys() == {"aux_loss", "layer", "shown"}
    np.testing.assert_allclose(metrics.numbers["aux_loss"], passes * sum((row**2).sum() for row in rows), rtol=1e-5)
    np.testing.assert_allclose(metrics.numbers["layer"], 0.5)
    np.testing.assert_allclose(metrics.numbers["shown"], 1)
    without = sublayers.Noise.__call__

    def silent(self, node, x, seen):
        return without(self, node, x, seen)._replace(loss=None, numbers={})

    monkeypatch.setattr(sublayers.Noise, "__call__", silent)
    _, others, metrics = update(run, data)
    assert metrics.numbers == {}
    for row, (_, mine), side in zip(
        rows, stacks, [side for side in ("encoder", "decoder") if side in params], strict=True
    ):
        added = mine["blocks"]["noise"]["row"][...] - others[side]["blocks"]["noise"]["row"][...]
        np.testing.assert_allclose(added, passes * 2 * row, atol=2e-5)


def test_a_number_keeps_out_of_the_names_that_metrics_have(monkeypatch):
    monkeypatch.setattr(
        sublayers.Noise, "__call__", lambda self, node, x, seen: sublayers.Out(x, numbers={"lr": jnp.float32(1)})
    )
    with pytest.raises(UserError, match="'lr' is not accepted: none of step, tokens, loss"):
        update(noisy(run_config("causal_lm")), batch("causal_lm"))


def test_what_is_drawn_follows_from_seed_update_row_stream_layer_and_use(monkeypatch):
    keys = []
    monkeypatch.setattr(
        sublayers.Noise,
        "__call__",
        lambda self, node, x, seen: (
            jax.debug.callback(
                lambda *both: keys.extend(map(int, np.ravel(both))),
                *map(jax.vmap(jax.random.bits), map(seen.key, (0, 1))),
            )
            or sublayers.Out(x)
        ),
    )
    run, data = noisy(run_config("coordinated", accumulate=2)), batch("coordinated")

    def drawn(**changes):
        keys.clear()
        train(replace(run, train=replace(run.train, **changes)), stack(data, data))
        jax.effects_barrier()
        return set(keys)

    one = drawn()
    assert len(one) == 2 * 8 * 2 * 2 * 2  # updates, rows, streams, layers, uses
    assert drawn() == one
    assert drawn(accumulate=1) == one
    assert not drawn(seed=1) & one


def test_dropout_does_not_depend_on_how_a_batch_is_divided_and_leaves_evaluation_alone():
    """Over microbatches and devices."""
    run, data = run_config("enc_dec"), stack(batch("enc_dec"), batch("enc_dec", 7))
    rates = {"attention_dropout": 0.2, "residual_dropout": 0.3, "embedding_dropout": 0.1}
    run = replace(run, model=replace(run.model, **rates))
    one, metrics = train(run, data)
    for other in (
        replace(run, train=replace(run.train, accumulate=4)),
        replace(run, mesh=MeshConfig(2, 2, 2)),
    ):
        state, seen = train(other, data)
        np.testing.assert_allclose(seen.loss, metrics.loss, rtol=2e-5)
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(state.params), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)
    first, plain = jax.tree.map(lambda leaf: leaf[0], data), replace(run.model, **dict.fromkeys(rates, 0.0))

    @partial(jax.jit, static_argnums=(0, 1))
    def loss(config, training):
        keys = jax.random.split(jax.random.key(5), len(first.labels)) if training else None
        return step.forward(graph(config), one.params, first, partial(weighted_sums, z_loss=0.0), keys)[0][0]

    assert loss(run.model, False) == loss(plain, False)
    alone = [float(loss(replace(plain, **{name: rate}), True)) for name, rate in rates.items()]
    assert len({*alone, float(loss(plain, False))}) == 4  # each has a say


def test_what_is_drawn_does_not_depend_on_the_mesh_or_the_scan():
    data = stack(batch("enc_dec"), batch("enc_dec", 7))
    run = noisy(run_config("enc_dec"))
    one, metrics = train(run, data)
    for other in (noisy(run_config("enc_dec", MeshConfig(2, 2, 2))), noisy(run, scan=False)):
        state, seen = train(other, data)
        np.testing.assert_allclose(seen.loss, metrics.loss, rtol=2e-5)
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(state.params), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)


def test_a_restarted_run_draws_and_logs_the_same(folders):
    write_noise()
    run = noisy(tiny_run("enc_dec"))
    loop.train(run, folders / "whole")
    calls = iter(range(100))
    while loop.train(run, folders / "parts", stop=lambda: next(calls) % 4 == 3) is None:
        pass
    lines = [(folders / name / "metrics.jsonl").read_text() for name in ("whole", "parts")]
    assert lines[0] == lines[1]
    assert {"aux_loss", "layer", "shown"} < json.loads(lines[0].splitlines()[0]).keys()
    ends = [
        Checkpoints(folders / name / "checkpoints").restore_latest(Trainer(run).abstract)[1]
        for name in ("whole", "parts")
    ]
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_array_equal(a, b)
