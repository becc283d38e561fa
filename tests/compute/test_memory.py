"""Bytes against the residuals of the real model, the optimizer's real arrays, the real sharding, and the compiler."""

from collections.abc import Collection
from dataclasses import astuple, replace
from functools import partial
from math import prod

import jax
import pytest
from flax import nnx
from jax.sharding import AbstractMesh
from support import model_config
from test_compiled import compiled
from test_witness import abstract_batch

from encdec_jax.compute import memory
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.packing import Batch
from encdec_jax.errors import UserError
from encdec_jax.mesh import AXES
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.blocks import plans
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.declare import model
from encdec_jax.model.model import graph, initial
from encdec_jax.model.param import leaves
from encdec_jax.model.presets import preset
from encdec_jax.train.axes import decay_mask
from encdec_jax.train.config import MeshConfig, OptimConfig, TrainConfig
from encdec_jax.train.loss import weighted_sums
from encdec_jax.train.optimizer import optimizer
from encdec_jax.train.sharding import parameter_sharding
from encdec_jax.train.step import forward

LAYERS = 7  # of no other dimension
WIDE = StackConfig(n_layers=LAYERS, d_model=96, n_heads=3, n_kv_heads=3, head_dim=32, d_ff=200)
every_arch = pytest.mark.parametrize("arch", ARCHS)


def run_of(config: ModelConfig, length: int = 56, batch: int = 2, **more: object) -> RunConfig:
    objective = ObjectiveConfig("causal_lm" if config.arch == "causal_lm" else "prefix_lm")
    return RunConfig(config, DataConfig(length=length), objective, train=TrainConfig(batch_size=batch), **more)


def residuals(run: RunConfig) -> set:
    """What `jax.vjp` through the real model keeps, beside its arguments."""
    definition, params = graph(run.model), jax.eval_shape(lambda key: initial(run.model, key), jax.random.key(0))

    def kept(params: nnx.State, batch: Batch) -> list[jax.Array]:
        def loss(params: nnx.State) -> jax.Array:
            keys = jax.random.split(jax.random.key(0), len(batch.labels))
            return forward(definition, params, batch, partial(weighted_sums, z_loss=0.0), keys)[0][0]

        return jax.tree.leaves(jax.vjp(loss, params)[1])

    jaxpr = jax.make_jaxpr(kept)(params, abstract_batch(run)).jaxpr
    return {var for var in jaxpr.outvars if not hasattr(var, "val")} - {*jaxpr.invars}


def stacked_residuals(run: RunConfig, times: Collection[int] = (LAYERS,)) -> int:
    """Bytes that scans of so many layers stack up for the backward pass: those kept with a leading 'layers' axis."""
    kept = [v.aval for v in residuals(run) if v.aval.shape[:1] in {(n,) for n in times}]
    return sum(prod(one.shape) * one.dtype.itemsize for one in kept)


@pytest.mark.parametrize(
    ("remat", "dtype", "mlp"),
    [
        ("none", "float32", "swiglu"),
        ("none", "bfloat16", "gelu"),
        ("dots", "bfloat16", "swiglu"),
        ("full", "float32", "gelu"),
    ],
)
@every_arch
def test_what_the_backward_pass_keeps_is_what_vjp_keeps(arch: str, remat: str, dtype: str, mlp: str) -> None:
    """To 1 %: statistics of rows, one number a token, are not counted."""
    changes = {"decoder": WIDE, "encoder": WIDE if ARCHS[arch].own_encoder else None}
    config = model_config(arch, remat=remat, dtype=dtype, mlp=mlp, attention="plain", **changes)
    run = run_of(config)
    assert memory.kept(run) == pytest.approx(stacked_residuals(run), rel=0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "parts",
    [
        {"norm": "sandwich", "attention_bias": "all", "mlp_bias": True, "mlp": "relu"},
        {"norm": "post", "mlp": "geglu_exact", "attention_dropout": 0.1, "residual_dropout": 0.1},
        {"score_cap": 3.0, "sinks": True, "mlp": "silu", "output_transform": True, "softmaxes": 2},
        {"qk_scaled_norm": True, "tied_kv": True, "norm_kind": "layer_unbiased"},
        {"block": "dynamic", "position": "none"},
        {"block": "mixer", "position_rows": 64},
        {"qk_norm": True, "v_norm": True, "mixed_norm": True, "position": "t5", "mlp": "gelu_exact"},
    ],
    ids=lambda parts: ", ".join(parts),
)
def test_what_parts_keep_is_what_vjp_keeps(parts: dict, dtype: str) -> None:
    config = model_config("enc_dec", decoder=WIDE, encoder=WIDE, attention="plain", dtype=dtype, **parts)
    run = run_of(config)
    assert memory.kept(run) == pytest.approx(stacked_residuals(run), rel=0.02)


@pytest.mark.parametrize("remat", ["none", "dots"])
@pytest.mark.parametrize("block", ["standard", "stepped"])
def test_layers_of_the_same_weights_keep_one_copy_of_the_sources_keys(block: str, remat: str) -> None:
    """ALBERT's sharing and Universal Transformer: the copy is beside what a scan stacks up, less than 2 % of it."""
    one = replace(WIDE, distinct=1)
    run = run_of(model_config("enc_dec", decoder=one, encoder=one, attention="plain", block=block, remat=remat))
    assert memory.kept(run) == pytest.approx(stacked_residuals(run), rel=0.02)


@pytest.mark.parametrize("length", [27, 28])
def test_what_random_features_keep_goes_by_the_chunks_of_a_row(length: int) -> None:
    """Chunks of 1 and of 4 tokens: a sum of features times values for each, which in rows of odd length is most."""
    config = model_config("causal_lm", decoder=WIDE, block="performer", random_features=8)
    run = replace(run_of(config, length=length), objective=ObjectiveConfig("causal_lm"))
    assert memory.kept(run) == pytest.approx(stacked_residuals(run), rel=0.02)


@pytest.mark.parametrize(("remat", "dtype"), [("none", "float32"), ("none", "bfloat16"), ("dots", "float32")])
def test_what_stages_keep_goes_by_their_places(remat: str, dtype: str) -> None:
    """Of a Funnel's encoder: 8 layers of all tokens, and of each stage behind it the first, whose keys are longer."""
    sizes = {"decoder": WIDE, "encoder": replace(WIDE, n_layers=3 * 8)}
    config = model_config("enc_dec", **sizes, attention="plain", block="funnel", remat=remat, dtype=dtype)
    run = run_of(config)
    times = {segment.times for plan in plans(config).values() for segment in plan.segments}
    assert times == {8, LAYERS, 1}
    assert memory.kept(run) == pytest.approx(stacked_residuals(run, times), rel=0.01)


@pytest.mark.parametrize("position", ["t5", "t5_by_layer", "alibi"])
def test_biases_that_layers_share_are_kept_once(position: str) -> None:
    """One table or one array of biases a stack, and T5's rows of it, as `jax.vjp` keeps them under remat."""
    config = model_config("enc_dec", decoder=WIDE, encoder=WIDE, attention="plain", remat="full", position=position)
    run = run_of(config)
    found = [v.aval for v in residuals(run) if sum(dim == 28 for dim in v.aval.shape) == 2 and v.aval.ndim == 4]
    assert memory.biases(run) == sum(prod(one.shape) * 4 for one in found if one.dtype != bool) > 0
    assert memory.biases(replace(run, model=replace(config, remat="none"))) == (
        0 if position == "alibi" else memory.biases(run)
    )
    assert memory.biases(run_of(replace(config, position="rope"))) == 0


@pytest.mark.slow
@every_arch
def test_the_estimate_is_near_what_the_compiler_allots(arch: str) -> None:
    """Within a factor of 1.25, on a CPU, where temporaries hold gradients and activations."""
    run = run_of(preset(arch, d_model=128, dec_layers=4, vocab_size=1024, attention="plain"), length=256, batch=8)
    allotted = compiled(run, jax.devices("cpu")[0]).memory_analysis().temp_size_in_bytes
    held = memory.training(run)
    assert 1 / 1.25 < (held.gradients + held.activations) / allotted < 1.25


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_moments_are_the_arrays_that_optax_holds(name: str) -> None:
    config = preset("enc_dec", d_model=256, dec_layers=2, enc_layers=3, vocab_size=300)
    run = run_of(config, optim=OptimConfig(name=name))
    params = jax.eval_shape(lambda key: initial(config, key), jax.random.key(0))
    moments = jax.eval_shape(optimizer(run.optim, decay_mask(params)).init, params)
    arrays = sum(prod(leaf.shape) * 4 for leaf in jax.tree.leaves(moments) if leaf.ndim)
    held = memory.training(run)
    assert held.moments == arrays
    assert held.weights == held.gradients == sum(prod(leaf.shape) * 4 for leaf in jax.tree.leaves(params))


@every_arch
def test_devices_hold_what_the_sharding_gives_them(arch: str) -> None:
    mesh = MeshConfig(data=2, fsdp=4, tensor=2)
    config = model_config(arch, tie="none", vocab_size=65)  # which no axis divides
    devices = AbstractMesh(astuple(mesh), AXES)
    shards = [
        parameter_sharding(devices, param.shape, param.axes).shard_shape(param.shape)
        for _, param in leaves(model(config))
    ]
    found = memory.per_device(run_of(config, batch=16, mesh=mesh))
    assert found.weights == sum(4 * prod(shape) for shape in shards)
    assert found.moments == 2 * found.weights
    whole = memory.training(run_of(config, batch=16))
    assert whole.activations / 16 < found.activations < whole.activations / 4


def test_what_saves_activations_saves_them() -> None:
    def activations(accumulate: int = 1, **changes: object) -> int:
        run = run_of(preset("enc_dec", d_model=256, dec_layers=8, vocab_size=300, **changes), 1024, 8)
        return memory.training(replace(run, train=replace(run.train, accumulate=accumulate))).activations

    assert activations() > activations(remat="dots") > activations(remat="full")
    assert activations() > activations(attention="splash")
    assert activations() > activations(dtype="bfloat16") > activations() / 2
    assert activations(accumulate=4) == pytest.approx(activations() / 4, rel=0.01)


def test_microbatches_hold_two_gradients() -> None:
    run = run_of(model_config("causal_lm"), batch=4)
    held = memory.training(replace(run, train=replace(run.train, accumulate=2)))
    assert held.gradients == 2 * held.weights


def test_inference_holds_weights_cache_and_one_layer() -> None:
    config = model_config("enc_dec")
    one, many = (memory.inference(config, batch, 100, 50, "bfloat16") for batch in (1, 8))
    assert one.weights == many.weights == 2 * sum(param.size for _, param in leaves(model(config)))
    assert (many.cache, many.activations) == (8 * one.cache, 8 * one.activations)
    assert one.cache == memory.cache_bytes(config, 100, 50, "bfloat16").total
    assert 2 * memory.inference(config, 1, 100, 50, "int4").weights == memory.inference(config, 1, 9, 9, "int8").weights
    with pytest.raises(UserError, match="batch = 0 is not accepted"):
        memory.inference(config, 0, 1, 1, "int8")
