from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import mostly_slow, parameters
from tiny import environment
from train.stepping import ROWS, WIDE, batch, run_config, stack, start, train
from train.test_learning import KINDS

from encdec_jax.data.config import DataConfig
from encdec_jax.data.objectives.objective import Layout, Segments
from encdec_jax.data.packing import Batch, assemble
from encdec_jax.errors import UserError
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.blocks import BLOCK_SOURCES, BLOCKS, ends
from encdec_jax.model.model import graph
from encdec_jax.train.config import MeshConfig, OptimConfig
from encdec_jax.train.schedule import hyper
from encdec_jax.train.step import State, make_update, several
from encdec_jax.train.trainer import Trainer

few = pytest.mark.parametrize("arch", mostly_slow(ARCHS, ["causal_lm", "enc_dec", "coordinated"]))


def gradients(run, data) -> tuple[nnx.State, float]:
    """The gradient of one update, seen as the parameters' change under plain descent at a rate of 1."""
    plain = replace(run, optim=OptimConfig(lr=1.0, warmup=0.0, schedule="constant"))
    params = parameters(run.model)
    update = jax.jit(make_update(plain, graph(run.model), optax.identity()))
    after, metrics = update(State(jnp.int32(0), params, optax.EmptyState()), data, hyper(plain.optim, 100, 0))
    return jax.tree.map(lambda a, b: a - b, params, after.params), float(metrics.loss)


def close(a, b, tolerance: float = 2e-6) -> None:
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@few
def test_accumulation_is_one_large_batch(arch):
    data = batch(arch)
    whole, loss = gradients(run_config(arch), data)
    parts, loss_of_parts = gradients(run_config(arch, accumulate=4), data)
    close(whole, parts)
    assert abs(loss - loss_of_parts) < 2e-6


def two(arch):
    return batch(arch, 0), batch(arch, 7)


@cache
def on_one_device(arch):
    return train(run_config(arch), stack(*two(arch)))


def test_the_initial_state_does_not_depend_on_the_mesh():
    run = run_config("enc_dec", MeshConfig(2, 2, 2))
    close(start(run_config("enc_dec")), Trainer(run).init())


@few
@pytest.mark.parametrize("mesh", [(8, 1, 1), (1, 4, 2), (1, 1, 8)], ids=str)
def test_sharded_is_one_device(arch, mesh):
    same_on(arch, mesh)


@pytest.mark.parametrize("arch", ARCHS)
def test_sharded_by_every_axis_is_one_device(arch):
    same_on(arch, (1, 2, 2, 2))  # data divides rows as fsdp does


def same_on(arch, mesh):
    data = stack(*two(arch))
    alone, one = on_one_device(arch)
    sharded, several = train(run_config(arch, MeshConfig(*mesh)), data)
    np.testing.assert_allclose(one.loss, several.loss, rtol=0, atol=2e-6)
    np.testing.assert_allclose(one.grad_norm, several.grad_norm, rtol=2e-5)
    sizes = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(sharded)}
    assert sizes == {8}
    close(alone.params, sharded.params, 2e-4)  # Adam amplifies rounding: 2 updates of up to 1e-2 a parameter


ONE_KEY = replace(WIDE, n_kv_heads=1)
BIASES = {"attention_bias": "all", "mlp_bias": True, "logit_bias": True, "norm_kind": "layer"}
SCALED = {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original": 8, "rope_share": 0.5}
ONE_LAYER = replace(WIDE, distinct=1)
PARTS = {
    **{block: (arch, {"block": block}) for block, (arch, _) in BLOCK_SOURCES.items()},
    "biases": ("enc_dec", BIASES),
    "scaled RoPE": ("layerwise", SCALED),
    "sinks": ("enc_dec_merged", {"sinks": True}),
    "one key head, tied": ("enc_dec", {"tied_kv": True, "encoder": ONE_KEY, "decoder": ONE_KEY}),
    "softmaxes": ("causal_lm", {"softmaxes": 3}),
    "dynamic convolution": ("enc_dec", {"block": "dynamic", "kernel_width": 3}),
    "T5's bias": ("prefix_lm", {"position": "t5"}),
    "windows": ("enc_dec", {"encoder": replace(WIDE, window=3, ahead=2), "decoder": replace(WIDE, window=3)}),
    "Performer": ("enc_dec", {"block": "performer", "random_features": 16}),
    "MLP-Mixer": ("enc_dec", {"block": "mixer", "position_rows": 64}),
}
SLOW = {
    "stepped": ("enc_dec", {"block": "stepped", "encoder": ONE_LAYER, "decoder": ONE_LAYER}),
    "lightweight": ("enc_dec", {"block": "lightweight", "kernel_width": 3}),
    "evolved": ("enc_dec", {"block": "evolved"}),
    "funnel": ("enc_dec", {"block": "funnel", "encoder": replace(WIDE, n_layers=3)}),
}
CASES = [pytest.param(*case, id=name) for name, case in PARTS.items()]
CASES += [pytest.param(*case, id=name, marks=pytest.mark.slow) for name, case in SLOW.items()]


@pytest.mark.parametrize(("arch", "changes"), CASES)
def test_sharded_is_one_device_whatever_layers_are_made_of(arch, changes):
    """By every axis; places of a stage are not divided over tokens."""
    data, run = stack(*two(arch)), run_config(arch)
    run = replace(run, model=replace(run.model, **changes))
    alone, one = train(run, data)
    mesh = MeshConfig(2, 2, 2) if ends(run.model) > 1 else MeshConfig(1, 2, 2, 2)
    sharded, several = train(replace(run, mesh=mesh), data)
    np.testing.assert_allclose(one.loss, several.loss, rtol=0, atol=2e-6)
    close(alone.params, sharded.params, 2e-4)


def test_no_kind_of_layer_is_left_out_of_sharding_or_of_learning():
    kinds = set(BLOCKS) - {"standard", "tests' own"}
    for rows in ((*PARTS.values(), *SLOW.values()), KINDS.values()):
        assert kinds == {changes["block"] for _, changes in rows if "block" in changes}


def packed(arch: str) -> Batch:
    """Two segments a row, of 5 and 2 source tokens and 3 and 4 of target, and padding; the prefix of each is open."""
    choices, random = ARCHS[arch], np.random.default_rng(0)
    sources, targets = [random.integers(1, 64, (2, n * ROWS)) for n in (7, 7)]
    segments = Segments(
        source=sources[0], source_lengths=np.tile([5, 2], ROWS), inputs=targets[0], labels=targets[1],
        target_lengths=np.tile([3, 4], ROWS),
    )  # fmt: skip
    layout = Layout(1, 8, 8, 8, ()) if choices.own_stream else Layout(1, 0, 16, 16, ())
    return assemble(choices, layout, np.repeat(np.arange(ROWS), 2), ROWS, segments)


TOKENS = {  # meshes that divide tokens, evenly and unevenly, and an architecture of each kind of attention
    "enc_dec": (2, 1, 2, 2),
    "coordinated": (1, 2, 1, 3),
    "prefix_lm": (1, 1, 1, 8),
    "double_decoder": (2, 1, 1, 3),
}


@pytest.mark.parametrize(("arch", "mesh"), [pytest.param(*one, marks=pytest.mark.slow) for one in TOKENS.items()])
def test_tokens_divided_are_one_devices_packed_or_held_out_or_recomputed(arch, mesh):
    run, one = run_config(arch), packed(arch)
    run = replace(run, model=replace(run.model, remat="full"))
    divided = replace(run, mesh=MeshConfig(*mesh))
    alone, whole = train(run, stack(one, one))
    sharded, several = train(divided, stack(one, one))
    np.testing.assert_allclose(whole.loss, several.loss, rtol=0, atol=2e-6)
    np.testing.assert_allclose(whole.grad_norm, several.grad_norm, rtol=2e-5)
    close(alone.params, sharded.params, 2e-4)
    bits = [
        Trainer(each).held_out_bits(state.params, batch(arch)) for each, state in ((run, alone), (divided, sharded))
    ]
    np.testing.assert_allclose(*bits, rtol=1e-4)
    assert np.ptp(bits[0]) > 1


def test_mesh_divides_what_it_is_to_divide():
    state, _ = train(run_config("enc_dec", MeshConfig(1, 2, 4)), stack(*[batch("enc_dec")] * 2))
    up = state.params["decoder"]["blocks"]["mlp"]["up"]
    moments = state.opt_state[1].mu["decoder"]["blocks"]["mlp"]["up"]
    shape = up.get_value().shape
    for leaf in (up.get_value(), moments.get_value()):
        assert {s.data.shape for s in leaf.addressable_shards} == {(shape[0], shape[1] // 2, shape[2] // 4)}


def test_one_batch_can_be_overfitted_by_factored_moments():
    overfitted("enc_dec", "adafactor")


@few
def test_one_batch_can_be_overfitted(arch):
    overfitted(arch, "adamw")


def overfitted(arch, name):
    rate = 2e-2 if name == "adamw" else 5e-2
    optim = OptimConfig(name, lr=rate, schedule="constant", warmup=0.05)
    data = batch(arch)
    before = gradients(run_config(arch), data)[1]
    _, last = train(run_config(arch, optim=optim, steps_per_call=10), stack(*[data] * 10), calls=12)
    assert before > 3.5  # about log 64
    assert last.loss[-1] < 0.3


@pytest.mark.parametrize("arch", ["enc_dec_shared", "coordinated"])
def test_shared_stack_stays_one_and_learns_from_both_sides(arch):
    state, _ = train(run_config(arch), stack(*[batch(arch)] * 2))
    assert set(state.params) == {"embed", "decoder"}
    run, data = run_config(arch), batch(arch)
    both, _ = gradients(run, data)
    other, _ = gradients(run, data._replace(source=data.source._replace(tokens=data.source.tokens[::-1])))

    def up(tree):
        return np.asarray(tree["decoder"]["blocks"]["mlp"]["up"].get_value())

    assert np.abs(up(both) - up(other)).max() > 1e-4


def test_the_number_done_is_an_argument():
    run, data = run_config("causal_lm"), [batch("causal_lm", seed) for seed in range(4)]
    trainer = Trainer(replace(run, train=replace(run.train, steps_per_call=4)))
    schedule = hyper(run.optim, 100, run.train.seed)
    whole, seen = trainer(trainer.init(), stack(*data), schedule, 3)
    state = trainer.init()
    for one in data[:3]:
        state, metrics = trainer(state, stack(*[one] * 4), schedule, 1)
    assert int(whole.step) == int(state.step) == 3
    assert seen.loss[3] == 0
    assert seen.loss[2] == metrics.loss[0]
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_seeds_share_one_compilation():
    """With the seed in it, each seed of a sweep was compiled for itself: half of a small run's time."""

    run, data = run_config("causal_lm"), stack(batch("causal_lm"))

    def lowered(seed: int) -> str:
        trainer = Trainer(replace(run, train=replace(run.train, seed=seed)))
        calls = several(make_update(trainer.run, trainer._graph, trainer._optimizer), 1)
        return jax.jit(calls).lower(trainer.abstract, data, hyper(run.optim, 100, seed), np.int32(1)).as_text()

    assert lowered(0) == lowered(1)


def test_weight_decay_spares_norms():
    optim = OptimConfig(lr=1e-2, weight_decay=10.0, schedule="constant", warmup=0.0, clip_norm=0.0)
    kept, _ = train(run_config("enc_dec", optim=replace(optim, weight_decay=0.0)), stack(batch("enc_dec")))
    decayed, _ = train(run_config("enc_dec", optim=optim), stack(batch("enc_dec")))
    flat = zip(nnx.to_flat_state(kept.params), nnx.to_flat_state(decayed.params), strict=True)
    for (path, a), (_, b) in flat:
        same = np.array_equal(a.get_value(), b.get_value())
        assert same == (path[-1] == "scale"), path


def test_bad_meshes_are_refused():
    with pytest.raises(UserError, match=r"mesh = 'data=16,fsdp=1,tensor=1' is not accepted: at most 8 devices"):
        Trainer(run_config("causal_lm", MeshConfig(16)))
    with pytest.raises(UserError, match=r"train.batch_size = 8 is not accepted: .* 3 x 1"):
        Trainer(run_config("causal_lm", MeshConfig(3)))
    with pytest.raises(UserError, match=r"mesh.sequence = 8 is not accepted: at most the 4 tokens of the shortest"):
        Trainer(replace(run_config("enc_dec", MeshConfig(1, 1, 1, 8)), data=DataConfig(length=8)))
    with pytest.raises(UserError, match=r"mesh.tensor = 3 is not accepted: it must divide the '\w+' dimension of"):
        Trainer(run_config("causal_lm", MeshConfig(1, 1, 3)))


def test_the_reported_norm_is_that_before_clipping():
    data = stack(batch("causal_lm"))
    _, free = train(run_config("causal_lm", optim=OptimConfig(clip_norm=0.0)), data)
    _, clipped = train(run_config("causal_lm", optim=OptimConfig(clip_norm=1e-3)), data)
    assert free.grad_norm[0] == clipped.grad_norm[0] > 1e-2


COMPILES = """
import sys
from train.stepping import run_config
from encdec_jax.model.arch import ARCHS
from encdec_jax.train.config import MeshConfig
from encdec_jax.train.trainer import Trainer
for arch in ARCHS:
    print(arch, file=sys.stderr, flush=True)
    Trainer(run_config(arch, MeshConfig(2, 2, 2))).lower().compile()
"""


@pytest.mark.slow
def test_no_array_is_replicated_only_to_be_divided_again():
    """XLA says so as "involuntary full rematerialization", on standard error."""
    env = environment(
        XLA_FLAGS="--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0",
        TF_CPP_MIN_LOG_LEVEL="0",
        JAX_ENABLE_COMPILATION_CACHE="false",  # what is read back is not compiled
    )
    done = subprocess.run([sys.executable, "-c", COMPILES], env=env, capture_output=True, text=True, check=True)
    assert all(arch in done.stderr for arch in ARCHS)
    assert "PjRt" in done.stderr  # the compiler speaks at all
    assert "nvoluntary full remat" not in done.stderr


UNEVEN = {  # a mesh, and the vocabulary, query heads or key heads that its tensor axis does not divide
    "a vocabulary of bytes": ((2, 2, 2), 259, 8, 8),
    "two key heads": ((1, 2, 4), 64, 8, 2),
    "six heads, three key heads": ((1, 1, 8), 63, 6, 3),
}


@pytest.mark.parametrize(("shape", "vocab", "heads", "kv_heads"), UNEVEN.values(), ids=UNEVEN)
def test_what_an_axis_does_not_divide_is_one_devices_all_the_same(shape, vocab, heads, kv_heads):
    def run_on(mesh):
        run = run_config("enc_dec", mesh)
        size = replace(run.model.decoder, n_heads=heads, n_kv_heads=kv_heads)
        return replace(run, model=replace(run.model, vocab_size=vocab, encoder=size, decoder=size))

    data = stack(*two("enc_dec"))
    alone, one = train(run_on(MeshConfig()), data)
    sharded, several = train(run_on(MeshConfig(*shape)), data)
    np.testing.assert_allclose(one.loss, several.loss, rtol=0, atol=2e-6)
    np.testing.assert_allclose(one.grad_norm, several.grad_norm, rtol=2e-5)
    close(alone.params, sharded.params, 2e-4)  # Adam amplifies rounding: 2 updates of up to 1e-2 a parameter
