"""A loss of which no logits are whole is the loss, and so is its gradient; on a mesh too."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from support import parameters
from train.stepping import batch, run_config, stack, train

from encdec_jax import mesh
from encdec_jax.compute import memory
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.evaluate.fair import row_nats
from encdec_jax.mesh import logit_chunks
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.model import graph
from encdec_jax.train.config import MeshConfig, TrainConfig
from encdec_jax.train.loss import weighted_sums
from encdec_jax.train.step import forward
from encdec_jax.train.trainer import Trainer

SUMS = partial(weighted_sums, z_loss=0.1, smoothing=0.1)


def in_chunks(patch: pytest.MonkeyPatch, run: RunConfig, positions: int) -> None:
    """Let a device hold the logits of this many positions of its rows."""
    rows = run.train.batch_size / run.mesh.shards
    patch.setattr(mesh, "LOGITS", int(4 * rows * positions * run.model.outputs / run.mesh.tensor))


def test_chunks_hold_what_a_device_may() -> None:
    assert logit_chunks(2, 256, 259, {}) == 1
    assert logit_chunks(8, 2048, 262_144, {}) == 8 * 2048 * 262_144 * 4 // mesh.LOGITS == 32
    assert logit_chunks(8, 2048, 262_144, {"data": 2, "fsdp": 4, "tensor": 2}) == 2
    assert logit_chunks(1 << 20, 3, 262_144, {}) == 3


@pytest.mark.parametrize(
    ("changes", "positions"),
    [
        ({}, 3),
        ({"tie": "none", "base_width": 4}, 1),
        ({"dtype": "bfloat16"}, 4),
        ({"logit_bias": True}, 3),
        ({"softmaxes": 3}, 3),
    ],
    ids=["tied", "muP, of its own", "bfloat16", "with a bias", "a mixture"],
)
def test_sums_and_gradients_do_not_depend_on_chunks(changes, positions, monkeypatch) -> None:
    """To 1e-6 in float32, to its rounding in bfloat16; 3 does not divide the 8 positions."""
    run = run_config("enc_dec")
    run = replace(run, model=replace(run.model, **changes))
    definition, params, data = graph(run.model), parameters(run.model), batch("enc_dec")

    def all_of(sums):
        return jax.value_and_grad(lambda params: forward(definition, params, data, sums)[0], has_aux=True)

    (whole, nll), gradient = jax.jit(all_of(SUMS))(params)
    rows = forward(definition, params, data, row_nats)[0]
    in_chunks(monkeypatch, run, positions)
    (found, found_nll), found_gradient = jax.jit(all_of(SUMS))(params)
    assert "scan" in str(jax.make_jaxpr(lambda params: forward(definition, params, data, row_nats)[0])(params))
    rounding = 1e-6 if run.model.dtype == "float32" else 2e-2
    np.testing.assert_allclose([found, found_nll], [whole, nll], rtol=rounding)
    np.testing.assert_allclose(forward(definition, params, data, row_nats)[0], rows, rtol=rounding)
    for one, other in zip(jax.tree.leaves(found_gradient), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=rounding * max(1.0, np.abs(other).max()))


@pytest.mark.parametrize(
    ("shape", "softmaxes"),
    [((8, 1, 1), 1), ((2, 2, 2), 1), ((1, 1, 8), 1), ((1, 2, 2, 2), 3), ((2, 1, 1, 3), 1)],
    ids=str,
)
def test_chunks_on_a_mesh_are_one_devices_batch(shape, softmaxes, monkeypatch) -> None:
    data, run = stack(*[batch("prefix_lm")] * 2), run_config("prefix_lm")
    run = replace(run, model=replace(run.model, logit_bias=True, softmaxes=softmaxes))
    alone, one = train(run, data)
    run = replace(run, mesh=MeshConfig(*shape))
    in_chunks(monkeypatch, run, 3)
    sharded, several = train(run, data)
    np.testing.assert_allclose(one.loss, several.loss, rtol=0, atol=2e-6)
    np.testing.assert_allclose(one.grad_norm, several.grad_norm, rtol=2e-5)
    for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(sharded.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4)  # Adam amplifies rounding, as in train/test_step.py
    if run.mesh.sequence > 1:
        scored = Trainer(run).held_out_bits(sharded.params, batch("prefix_lm"))
        monkeypatch.undo()
        bits = Trainer(replace(run, mesh=MeshConfig())).held_out_bits(alone.params, batch("prefix_lm"))
        np.testing.assert_allclose(scored, bits, rtol=1e-4)


def test_one_chunk_is_the_plain_loss_to_the_last_bit() -> None:
    run = run_config("causal_lm")
    definition, params, data = graph(run.model), parameters(run.model), batch("causal_lm")
    program = jax.make_jaxpr(lambda params: forward(definition, params, data, SUMS)[0])(params)
    plain = jax.make_jaxpr(
        lambda params: SUMS(forward(definition, params, data, lambda logits, *_: logits)[0], data.labels, data.weights)
    )(params)
    assert str(program) == str(plain)


@pytest.mark.slow
def test_a_large_vocabulary_takes_a_fifth_of_the_memory(monkeypatch) -> None:
    """d_model 2048, vocabulary 262,144, 8 rows of 2,048 tokens: 17 GB of logits, and as much for their gradient."""
    size = StackConfig(n_layers=1, d_model=2048, n_heads=1, n_kv_heads=1, head_dim=128, d_ff=2048)
    config = ModelConfig("causal_lm", 262_144, decoder=size, remat="full")
    run = RunConfig(config, DataConfig(length=2048), ObjectiveConfig("causal_lm"), train=TrainConfig(batch_size=8))

    def temporaries() -> int:
        return Trainer(run).lower().compile().memory_analysis().temp_size_in_bytes

    chunked, estimate = temporaries(), memory.training(run)
    assert 1 / 1.25 < (estimate.gradients + estimate.activations) / chunked < 1.25
    monkeypatch.setattr(mesh, "LOGITS", 1 << 40)
    assert temporaries() > 5 * chunked
