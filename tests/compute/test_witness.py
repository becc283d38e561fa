"""The ledger's dense FLOPs are those of the real forward pass and train step, to the last one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from support import SMALL, model_config
from traced import abstract, abstract_batch, computed

from encdec_jax.compute.ledger import count
from encdec_jax.compute.witness import flops
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.evaluate.fair import row_nats
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ExpertConfig, ModelConfig
from encdec_jax.model.model import graph, initial
from encdec_jax.train.config import OptimConfig, TrainConfig
from encdec_jax.train.step import forward

HALVES = ObjectiveConfig("prefix_lm")
DATA = DataConfig(length=11, source_length=9, target_length=7)
OTHER = replace(SMALL, d_model=20, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=28)  # 2 layers, as SMALL
every_arch = pytest.mark.parametrize("arch", ARCHS)


def run_of(config: ModelConfig, objective: ObjectiveConfig = HALVES, accumulate: int = 1, **optim: object) -> RunConfig:
    train = TrainConfig(batch_size=4, accumulate=accumulate)
    return RunConfig(config, DATA, objective, OptimConfig(**optim), train)


def agrees(run: RunConfig) -> None:
    ledger = count(run, segments=geometry(run).layout.segments)
    params = jax.eval_shape(lambda key: initial(run.model, key), jax.random.key(0))
    model, batch = graph(run.model), abstract_batch(run)
    if run.model.remat == "none":
        passed = flops(lambda params, batch: forward(model, params, batch, row_nats)[0], params, batch)
        assert passed == ledger.forward.dense
    assert computed(run) == ledger.train_flops.dense + ledger.recompute.dense


@pytest.mark.parametrize(("scan", "remat"), [(True, "none"), (True, "full"), (False, "none"), (False, "full")])
@every_arch
def test_the_ledger_is_what_the_step_computes(arch: str, scan: bool, remat: str) -> None:
    agrees(run_of(model_config(arch, scan=scan, remat=remat)))


@pytest.mark.parametrize("arch", ["layerwise", "coordinated", "causal_lm"])
def test_whatever_blocks_are_made_of(arch: str) -> None:
    changes = {"mlp": "gelu", "qk_norm": True, "tie": "none", "dtype": "bfloat16", "scan": False, "remat": "dots"}
    optim = {"name": "adafactor", "weight_decay": 0.1, "clip_norm": 0.0}
    agrees(run_of(model_config(arch, **changes), ObjectiveConfig("span_corruption"), **optim))


def test_accumulation_and_scanned_dots() -> None:
    agrees(run_of(model_config("enc_dec_shared", remat="dots"), accumulate=2))


@pytest.mark.parametrize("remat", ["full", "dots"])
@pytest.mark.parametrize(
    "changes",
    [
        {"experts": ExpertConfig(4, chosen=2)},
        {"experts": ExpertConfig(3, every=2, capacity=1.3)},
        {"softmaxes": 3},
        {"block": "mixer"},
        {"block": "performer", "random_features": 7},
        {"norm": "post"},
        {"norm": "sandwich"},
        {"decoder": replace(SMALL, n_layers=4, cross_every=2)},
        {"decoder": replace(SMALL, n_layers=6, distinct=2)},
        {"decoder": replace(SMALL, n_layers=4, distinct=1), "scan": False},
    ],
    ids=[
        "dropless",
        "capacity",
        "softmaxes",
        "mixer",
        "performer",
        "post",
        "sandwich",
        "a period of two",
        "depth shares",
        "depth shares, unrolled",
    ],
)
def test_what_remat_repeats_of_parts(changes: dict, remat: str) -> None:
    agrees(run_of(model_config("enc_dec", remat=remat, **changes)))


@pytest.mark.parametrize("arch", ["enc_dec", "causal_lm"])
@pytest.mark.parametrize("objective", [ObjectiveConfig("prefix_lm", prefix="random"), ObjectiveConfig("seq2seq")])
def test_whatever_a_row_is(arch: str, objective: ObjectiveConfig) -> None:
    agrees(run_of(model_config(arch), objective))


@pytest.mark.parametrize(
    ("arch", "objective"),
    [
        ("enc_dec", ObjectiveConfig("bart", noise_density=0.3)),
        ("enc_dec", ObjectiveConfig("span_corruption", tuning=0.2)),
        ("causal_lm", ObjectiveConfig("ul2")),
        ("prefix_lm", ObjectiveConfig("masked_lm")),
    ],
)
def test_work_and_padding_are_together_what_the_step_computes(arch: str, objective: ObjectiveConfig) -> None:
    run = run_of(model_config(arch), objective)
    ledger = count(run)
    assert (ledger.padding.dense > 0) == (objective.name != "masked_lm")
    assert computed(run) == pytest.approx(ledger.train_flops.dense + ledger.padding.dense, rel=1e-12)


@pytest.mark.parametrize(("arch", "tie"), [("enc_dec", "decoder"), ("layerwise", "none")])
def test_unequal_widths(arch: str, tie: str) -> None:
    agrees(run_of(model_config(arch, encoder=OTHER, tie=tie)))


def test_unequal_depths_and_tied_inputs() -> None:
    agrees(run_of(model_config("enc_dec", encoder=replace(SMALL, n_layers=4), tie="inputs")))


@pytest.mark.parametrize("remat", ["none", "full"])
def test_one_unrolled_layer_whose_source_pass_nobody_reads(remat: str) -> None:
    agrees(run_of(model_config("coordinated", decoder=replace(SMALL, n_layers=1), scan=False, remat=remat)))


def test_gradients_are_two_forward_passes_but_for_layers_that_nobody_reads() -> None:
    """The identity behind 'training is 3 forward passes', and its one exception.

    Unrolled, JAX gives no gradient to the last layer's pass over the source where the target reads layers' inputs.
    """
    for arch in ARCHS:
        for scan in (True, False):
            ledger = count(run_of(model_config(arch, scan=scan)))
            for kind in ("dense", "mask"):
                whole = getattr(ledger.train_flops, kind) == 3 * getattr(ledger.forward, kind)
                assert whole == (scan or arch != "coordinated")


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    return x @ y


def test_products_are_counted_with_their_batch_and_all_contracted_dimensions() -> None:
    x, y = abstract((5, 2, 3), jnp.float32), abstract((5, 3, 4), jnp.float32)
    assert flops(product, x, y) == 2 * 5 * 2 * 3 * 4
    assert flops(lambda x, y: jnp.einsum("bij,bjk->k", x, y), x, y) >= 2 * 5 * 3 * 4
    assert flops(lambda x: jnp.tanh(x) + x.sum(), x) == 0


def test_loops_count_as_often_as_they_run() -> None:
    x = abstract((3, 3), jnp.float32)
    once = flops(product, x, x)

    def nested(x: jax.Array) -> jax.Array:
        def inner(x: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, 5, lambda i, x: x @ x, x)

        return jax.lax.scan(lambda x, _: (jax.jit(inner)(x), None), x, length=7)[0]

    assert flops(nested, x) == 35 * once
    assert flops(lambda x: jax.lax.cond(x[0, 0] > 0, lambda: x @ x, lambda: x), x) == once


def test_a_loop_of_unknown_length_is_refused() -> None:
    x, n = abstract((3, 3), jnp.float32), abstract(())
    with pytest.raises(ValueError, match="length is not known"):
        flops(lambda x, n: jax.lax.fori_loop(0, n, lambda i, x: x @ x, x), x, n)
    assert flops(lambda x, n: jax.lax.fori_loop(0, n, lambda i, x: x + 1, x), x, n) == 0
