"""muP: the coordinate check, the factors, and that nothing changes where it is off or at its base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import example, model_config, tokens
from train.stepping import batch, run_config, stack, train

from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig
from encdec_jax.data.config import ObjectiveConfig
from encdec_jax.data.packing import Batch
from encdec_jax.errors import UserError
from encdec_jax.model import declare
from encdec_jax.model.blocks import plans
from encdec_jax.model.config import StackConfig
from encdec_jax.model.model import graph, initial
from encdec_jax.model.node import Node
from encdec_jax.model.param import subtree
from encdec_jax.model.parts import norms, tables
from encdec_jax.model.parts.attention import Attention
from encdec_jax.model.parts.mlp import MLP
from encdec_jax.model.presets import preset
from encdec_jax.model.seen import Out
from encdec_jax.train.axes import decay_mask
from encdec_jax.train.config import MeshConfig, OptimConfig, TrainConfig
from encdec_jax.train.optimizer import optimizer, rates_of
from encdec_jax.train.schedule import hyper
from encdec_jax.train.step import State, forward, make_update
from encdec_jax.train.transfer import batch_windows, factors, recipe

BASE, VOCAB, HALF, UPDATES = 64, 32, 8, 5
ARCHS_CHECKED = ("causal_lm", "enc_dec")
QUICK = {"xla_backend_optimization_level": 0}  # compiling takes longer than running


@cache
def scales(arch: str, width: int, base: int, optim: OptimConfig) -> dict[str, float]:
    """RMS of what the model of this width computes after some updates, and of how far its logits have moved."""
    config = preset(arch, d_model=width, dec_layers=1, vocab_size=VOCAB, head_dim=16, scan=False, base_width=base)
    run = RunConfig(config, objective=ObjectiveConfig("prefix_lm"), optim=optim)
    source, target = tokens(0, 4, HALF, VOCAB), tokens(1, 4, HALF, VOCAB)
    labels = jnp.asarray(np.roll(target, -1, axis=1))
    data = Batch(*example(arch, source, target), labels, jnp.ones(labels.shape))
    model, schedule = graph(config), hyper(optim, UPDATES, 0)
    shapes = jax.eval_shape(lambda: initial(config, jax.random.key(0)))
    step = optimizer(optim, decay_mask(shapes), rates_of(run, shapes))
    update = make_update(run, model, step)

    def computed(params: nnx.State) -> dict[str, list[jax.Array]]:
        seen: dict[str, list[jax.Array]] = {"residual stream": [], "attention": [], "MLP": []}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(norms, "apply", noting(norms.apply, seen["residual stream"]))
            patch.setattr(Attention, "__call__", noting(Attention.__call__, seen["attention"]))
            patch.setattr(MLP, "__call__", noting(MLP.__call__, seen["MLP"]))
            return {**seen, "logits": [forward(model, params, data, lambda logits, *_: logits)[0]]}

    @partial(jax.jit, compiler_options=QUICK)
    def measured(params: nnx.State) -> dict[str, list[jax.Array]]:
        first = State(jnp.int32(0), params, step.init(params))
        last = jax.lax.fori_loop(0, UPDATES, lambda _, state: update(state, data, schedule)[0], first)
        before, after = computed(params)["logits"], computed(last.params)
        return {"change of logits": [after.pop("logits")[0] - before[0]], **after}

    params = jax.jit(lambda: initial(config, jax.random.key(0, impl="unsafe_rbg")))()  # compiles fastest
    return {name: rms(arrays) for name, arrays in measured(params).items()}


def noting(call: Callable, seen: list[jax.Array]) -> Callable:
    """A sublayer that notes its output, or a norm that notes its input."""

    def wrapped(*given: object) -> object:
        y = call(*given)
        seen.append(y.y if isinstance(y, Out) else given[1])
        return y

    return wrapped


def rms(arrays: list[jax.Array]) -> float:
    return float(np.sqrt(np.mean([np.mean(np.square(array)) for array in arrays])))


def spread(arch: str, widths: tuple[int, ...], base: int, optim: OptimConfig) -> dict[str, float]:
    """Largest over smallest scale across the widths, of each quantity."""
    found = [scales(arch, width, base, optim) for width in widths]
    for width, one in zip(widths, found, strict=True):
        print(f"{arch} {optim.name} base {base} width {width:5d} ", {k: round(v, 3) for k, v in one.items()})
    return {name: max(one[name] for one in found) / min(one[name] for one in found) for name in found[0]}


ADAM = OptimConfig(lr=0.35 / BASE, schedule="constant", warmup=0.0)
ADAFACTOR = OptimConfig("adafactor", lr=0.05, schedule="constant", warmup=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS_CHECKED)
def test_coordinates_keep_their_scale_under_mup(arch):
    """And the check can fail: at the same learning rate the standard parametrization does not pass it."""
    found = spread(arch, (64, 128, 256, 512, 1024), BASE, ADAM)
    assert max(found.values()) < 2, found
    assert scales(arch, BASE, 0, ADAM) == scales(arch, BASE, BASE, ADAM)
    standard, base = scales(arch, 1024, 0, ADAM), scales(arch, BASE, 0, ADAM)
    assert min(standard[name] / base[name] for name in base) > 2, standard


@pytest.mark.slow
def test_coordinates_keep_their_scale_under_adafactor():
    found = spread("causal_lm", (64, 1024), BASE, ADAFACTOR)
    assert max(found.values()) < 2, found
    standard, base = scales("causal_lm", 1024, 0, ADAFACTOR), scales("causal_lm", 64, BASE, ADAFACTOR)
    assert max(standard[name] / base[name] for name in base) > 2, standard


DEEP = 32


@cache
def moved(arch: str, depth: int, base_depth: int, width: int = 32) -> float:
    """RMS of how far logits move in some updates, without a final norm: it would hide how far the last states do."""
    config = preset(arch, d_model=width, dec_layers=depth, vocab_size=VOCAB, head_dim=16)
    config = replace(config, base_width=32, base_depth=base_depth, final_norm=False)
    optim = replace(ADAM, lr=0.35 / 32)
    run = RunConfig(config, objective=ObjectiveConfig("prefix_lm"), optim=optim)
    source, target = tokens(0, 4, HALF, VOCAB), tokens(1, 4, HALF, VOCAB)
    labels = jnp.asarray(np.roll(target, -1, axis=1))
    data = Batch(*example(arch, source, target), labels, jnp.ones(labels.shape))
    model, schedule = graph(config), hyper(optim, UPDATES, 0)
    shapes = jax.eval_shape(lambda: initial(config, jax.random.key(0)))
    step = optimizer(optim, decay_mask(shapes), rates_of(run, shapes))
    update = make_update(run, model, step)

    @partial(jax.jit, compiler_options=QUICK)
    def measured() -> jax.Array:
        params = initial(config, jax.random.key(0, impl="unsafe_rbg"))
        last = State(jnp.int32(0), params, step.init(params))
        last = jax.lax.fori_loop(0, UPDATES, lambda _, state: update(state, data, schedule)[0], last)
        before, after = (forward(model, one, data, lambda logits, *_: logits)[0] for one in (params, last.params))
        return after - before

    return rms([measured()])


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS_CHECKED)
def test_coordinates_keep_their_scale_over_depth_and_width(arch):
    """And the check can fail: branches that are not scaled do not pass it."""
    shallow = moved(arch, 2, 2)
    for deep in (moved(arch, DEEP, 2), moved(arch, DEEP, 2, 128)):
        assert 1 / 2 < deep / shallow < 2
    assert moved(arch, DEEP, 0) / shallow > 3


def test_branches_are_scaled_by_the_depth_of_their_stack():
    config = preset("enc_dec", d_model=32, dec_layers=4, enc_layers=8, vocab_size=VOCAB, base_depth=4, block="stepped")
    found = {side: {sub.name: sub.scale for sub in plan.segments[0].period[0]} for side, plan in plans(config).items()}
    assert found["encoder"] == {"step": 1, "attn": 0.5, "mlp": 0.5}
    assert set(found["decoder"].values()) == {1}
    assert factors(config, "adamw") == {}
    with pytest.raises(UserError, match=r"model.base_depth = 4 is not accepted: 0, because model.norm = 'post'"):
        replace(config, norm="post")


def test_factors_follow_each_matrix_its_own_width():
    narrow = StackConfig(n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, head_dim=8, d_ff=48)
    wide = replace(narrow, d_model=64, n_heads=8, d_ff=192)
    found = factors(model_config("enc_dec", encoder=wide, decoder=narrow, tie="none", base_width=16), "adamw")
    assert found["encoder", "blocks", "mlp", "down"] == found["encoder", "blocks", "attn", "o"] == 1 / 4
    assert found["decoder", "blocks", "cross", "k"] == 1 / 4  # projects the encoder's states
    assert found["decoder", "blocks", "cross", "q"] == found["decoder", "blocks", "mlp", "up"] == 1
    assert found["source_embed", "table"] == 1 / 2
    assert found["embed", "table"] == found["head", "table"] == 1
    assert {factor for path, factor in found.items() if path[-1] == "scale"} == {1}
    relative = factors(model_config("enc_dec", encoder=wide, decoder=narrow, tie="none", base_width=16), "adafactor")
    assert relative["encoder", "blocks", "mlp", "down"] == 1 / 2
    assert relative["source_embed", "table"] == 1
    assert factors(model_config("enc_dec"), "adamw") == {}
    assert factors(model_config("enc_dec", base_width=16), "adamw") == {}


def test_at_the_base_width_training_is_bitwise_the_standard_one():
    run, data = run_config("enc_dec"), stack(*[batch("enc_dec")] * 2)
    based = replace(run, model=replace(run.model, base_width=run.model.decoder.d_model))
    standard, mup = train(run, data), train(based, data)
    for a, b in zip(jax.tree.leaves(standard), jax.tree.leaves(mup), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weight_decay_does_not_go_by_the_factor():
    """A step without gradient shrinks every matrix by the same fraction, whatever the width."""
    optim = OptimConfig(weight_decay=0.5, clip_norm=0.0)
    run = run_config("causal_lm", optim=optim)
    run = replace(run, model=replace(run.model, base_width=4))
    shapes = jax.eval_shape(lambda: initial(run.model, jax.random.key(0)))
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), shapes)
    step = optimizer(optim, decay_mask(params), rates_of(run, params))
    change, _ = step.update(jax.tree.map(jnp.zeros_like, params), step.init(params), params)
    for path, leaf in nnx.to_flat_state(change):
        np.testing.assert_array_equal(leaf[...], 0.0 if path[-1] == "scale" else 0.5 * 2.0)


def test_logits_of_a_wider_model_are_scaled():
    x = jax.random.normal(jax.random.key(1), (2, 3, 16))

    def logits(base_width: int) -> jax.Array:
        config = model_config("causal_lm", base_width=base_width)
        return tables.logits(Node(subtree(declare.model(config), "embed"), config, nnx.Rngs(0)), x)

    np.testing.assert_array_equal(logits(4), logits(0) * 0.5)
    np.testing.assert_array_equal(logits(16), logits(0))


def small(arch: str = "causal_lm", width: int = 32, tokens: int = 1_000_000, **changes: object) -> RunConfig:
    run = run_config(arch)
    model = preset(arch, d_model=width, dec_layers=1, vocab_size=VOCAB)
    return replace(run, model=model, train=TrainConfig(tokens=tokens), **changes)


def test_a_recipe_is_a_learning_rate_and_a_batch():
    inverse = recipe(small(), "inverse_width", rate=0.7)
    assert (inverse.optim.lr, inverse.model.base_width) == (0.7 / 32, 0)
    mup = recipe(small(), "mup", rate=0.7, base_width=16, batch="keep")
    assert (mup.optim.lr, mup.model.base_width, mup.train.batch_size) == (0.7 / 16, 16, small().train.batch_size)
    same = recipe(small(), "mup", rate=0.7, base_width=32)
    assert same.optim == inverse.optim
    with pytest.raises(UserError, match="kind = 'best' is not accepted: mup or inverse_width"):
        recipe(small(), "best")


def test_the_batch_follows_the_law_in_whole_rows():
    """DeepSeek LLM: 0.2920 C^0.3271 tokens; windows here are of 16."""
    for n in (10**5, 10**7, 10**9):
        run = small(tokens=n)
        flops = count(run).train_flops.mask / (run.train.batch_size * 16) * n
        windows = batch_windows(run)
        assert 2**-0.5 <= windows * 16 / (0.2920 * flops**0.3271) <= 2**0.5
        assert windows & (windows - 1) == 0
    for arch in ("prefix_lm", "enc_dec"):  # cuts are drawn in pairs; and the row of an encoder-decoder holds a pair
        random = small(arch, tokens=100, objective=ObjectiveConfig("prefix_lm", "random"), mesh=MeshConfig(data=3))
        assert batch_windows(random) % 6 == 0
