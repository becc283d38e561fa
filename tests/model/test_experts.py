"""Experts: against each token's own, what capacity drops and whom it may not reach, losses, meshes, bad input."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import SMALL, concat, example, logits, model_config, parameters, stream, tokens
from train.stepping import batch, run_config, stack, train

from encdec_jax.compute.ledger import count
from encdec_jax.compute.ledger import parameters as counted
from encdec_jax.errors import UserError
from encdec_jax.model.blocks import plans
from encdec_jax.model.config import ExpertConfig, ModelConfig
from encdec_jax.model.declare import model
from encdec_jax.model.node import Node
from encdec_jax.model.param import leaves
from encdec_jax.model.parts.experts import Experts, route
from encdec_jax.model.seen import Out, Seen
from encdec_jax.train.config import MeshConfig

D, LENGTH = SMALL.d_model, 9


def with_experts(arch: str = "causal_lm", **experts: object) -> ModelConfig:
    return model_config(arch, experts=ExpertConfig(**{"number": 4, **experts}))


def layer(config: ModelConfig) -> Node:
    """Experts of one layer."""
    return Node(Experts().declare(plans(config)["decoder"].scope), config, nnx.Rngs(params=0))


@partial(jax.jit, static_argnums=0)
def given(config: ModelConfig, x: np.ndarray, shown: np.ndarray | None = None) -> Out:
    """What they make of x; tokens that are not shown are padding."""
    tokens = stream(np.zeros(x.shape[:2], int))
    if shown is not None:
        tokens = tokens._replace(segment=jnp.asarray(shown, jnp.int32))
    seen = Seen("target", tokens, jnp.int32(0), {}, None, None, None, None, lambda states: states)
    return Experts()(layer(config), jnp.asarray(x), seen)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def by_hand(config: ModelConfig, x: np.ndarray) -> np.ndarray:
    """Each token through its experts, one after the other, with room in the order of the row."""
    node = layer(config)
    w = {name: np.asarray(node.exact(name)) for name in ("router", "gate", "up", "down")}
    experts, y = config.experts, np.zeros_like(x)
    for row in range(len(x)):
        room = np.full(experts.number, experts.slots(x.shape[1]) if experts.capacity else x.shape[1])
        for t in range(x.shape[1]):
            share = np.exp(x[row, t] @ w["router"])
            share /= share.sum()
            chosen = np.argsort(-share)[: experts.chosen]
            gates = share[chosen] / (share[chosen].sum() if experts.chosen > 1 else 1)
            for e, gate in zip(chosen, gates, strict=True):
                room[e] -= 1
                if room[e] >= 0:
                    inner = silu(x[row, t] @ w["gate"][e]) * (x[row, t] @ w["up"][e])
                    y[row, t] += gate * (inner @ w["down"][e])
    return y


X = np.random.default_rng(0).normal(size=(3, LENGTH, D)).astype(np.float32)


@pytest.mark.parametrize(("chosen", "capacity"), [(1, 0.0), (2, 0.0), (1, 0.7), (3, 1.25)])
def test_experts_are_each_tokens_own(chosen: int, capacity: float) -> None:
    config = with_experts(chosen=chosen, capacity=capacity)
    out = given(config, X)
    np.testing.assert_allclose(out.y, by_hand(config, X), atol=1e-5)
    assert ("expert_dropped" in out.numbers) == (capacity > 0)
    if capacity:
        lost = sum(
            not np.allclose(a, b)
            for a, b in zip(out.y.reshape(-1, D), given(with_experts(chosen=chosen), X).y.reshape(-1, D), strict=True)
        )
        assert (lost > 0) == (out.numbers["expert_dropped"] > 0)


def test_what_is_dropped_is_said() -> None:
    same = np.broadcast_to(X[:1, :1], X.shape)  # all tokens choose one expert, with room for ceil(9 / 4) of 9
    out = given(with_experts(capacity=1.0), same)
    np.testing.assert_allclose(out.numbers["expert_dropped"], 6 / 9)
    assert (np.abs(out.y).max(axis=-1) > 0).sum(axis=1).tolist() == [3, 3, 3]
    assert (np.abs(out.y[:, :3]).max(axis=-1) > 0).all()


def test_padding_goes_nowhere_and_takes_no_room() -> None:
    shown = np.arange(LENGTH) >= 4
    config = with_experts(capacity=1.0, z_loss=1.0)
    x = np.concatenate([np.broadcast_to(X[:1, :1], (1, 4, D)), X[:1, 4:]], axis=1)
    out = given(config, x, shown[None])
    others = given(config, np.where(shown[None, :, None], x, 7), shown[None])
    np.testing.assert_array_equal(out.y[:, :4], 0)
    np.testing.assert_array_equal(out.y, others.y)
    np.testing.assert_array_equal(out.loss, others.loss)


def test_losses_are_those_of_the_papers() -> None:
    scores = np.random.default_rng(1).normal(size=(3, LENGTH, 4)).astype(np.float32)
    share = np.asarray(jax.nn.softmax(scores))
    fell = np.stack([np.bincount(row.argmax(-1), minlength=4) / LENGTH for row in scores])
    _, balance = route(jnp.asarray(scores), jnp.ones((3, LENGTH), bool), ExpertConfig(4))
    np.testing.assert_allclose(balance, (4 * (fell * share.mean(axis=1)).sum(axis=1)).mean(), rtol=1e-6)
    even = jnp.zeros((1, 4, 4)) + 1e-3 * jnp.eye(4)
    np.testing.assert_allclose(route(even, jnp.ones((1, 4), bool), ExpertConfig(4))[1], 1, rtol=1e-3)
    out = given(with_experts(balance=0.5, z_loss=0.25), X)
    want = 0.5 * out.numbers["expert_imbalance"] + 0.25 * out.numbers["router_z"]
    np.testing.assert_allclose(out.loss, want)
    scores = X @ np.asarray(layer(with_experts()).exact("router"))
    np.testing.assert_allclose(
        out.numbers["router_z"], (np.asarray(jax.nn.logsumexp(scores, -1)) ** 2).mean(), rtol=1e-5
    )


def test_in_bfloat16_the_router_stays_in_float32() -> None:
    config = with_experts()
    jaxpr = str(jax.make_jaxpr(partial(given, replace(config, dtype="bfloat16")))(X.astype(jnp.bfloat16)))
    routing = [line for line in jaxpr.splitlines() if "dot_general" in line and f"f32[3,{LENGTH},4]" in line]
    assert len(routing) == 1


@pytest.mark.parametrize("arch", ["causal_lm", "enc_dec"])
def test_what_follows_a_document_takes_no_room_of_it(arch: str) -> None:
    """With a limited capacity a packed document may lose tokens to those before it in its row, to others never."""
    config = replace(with_experts(arch, capacity=0.5), scan=False)
    params, n = parameters(config), 6

    def packed(*documents: int) -> np.ndarray:
        streams = [example(arch, tokens(i, 1, n), tokens(9 + i, 1, n), segment=s + 1) for s, i in enumerate(documents)]
        sources = [source for source, _ in streams if source is not None]
        target = concat(*(target for _, target in streams))
        return np.asarray(logits(config, params, concat(*sources) if sources else None, target, target.tokens.shape[1]))

    one, other, swapped = packed(0, 1), packed(0, 2), packed(1, 0)
    half = one.shape[1] // 2
    np.testing.assert_array_equal(one[:, :half], other[:, :half])
    assert np.abs(one[:, half:] - swapped[:, :half]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "capacity", "mesh"), [("enc_dec", 0.0, MeshConfig(1, 2, 2, 2)), ("prefix_lm", 1.0, MeshConfig(1, 2, 4))]
)
def test_a_mesh_divides_experts_and_changes_nothing(arch: str, capacity: float, mesh: MeshConfig) -> None:
    experts = ExpertConfig(4, chosen=2, capacity=capacity, every=2, z_loss=1e-3)
    data = stack(batch(arch), batch(arch, 7))

    def run(mesh: MeshConfig) -> object:
        plain = run_config(arch, mesh)
        return replace(plain, model=replace(plain.model, experts=experts))

    one, metrics = train(run(MeshConfig()), data)
    state, seen = train(run(mesh), data)
    np.testing.assert_allclose(seen.loss, metrics.loss, rtol=2e-5)
    for name, values in metrics.numbers.items():
        np.testing.assert_allclose(seen.numbers[name], values, rtol=1e-4, err_msg=name)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    held = state.params["decoder"]["blocks"]["1"]["experts"]["up"][...]
    assert held.addressable_shards[0].data.shape == (1, 4 // mesh.tensor, 16 // mesh.fsdp, 32)


def test_experts_that_do_not_divide_the_mesh_are_refused_before_anything_is_compiled() -> None:
    run = run_config("causal_lm", MeshConfig(1, 1, 4))
    run = replace(run, model=replace(run.model, experts=ExpertConfig(6)))
    with pytest.raises(
        UserError, match=r"^mesh\.tensor = 4 is not accepted: it must divide the 'experts' dimension of 6$"
    ):
        train(run, stack(batch("causal_lm")))


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ({"chosen": 5}, r"model\.experts\.chosen = 5 is not accepted: at most model\.experts\.number = 4"),
        ({"every": 3}, r"model\.experts\.every = 3 is not accepted: at most 2, the layers there are"),
        (
            {"number": 0, "chosen": 2},
            r"model\.experts\.chosen = 2 is not accepted: 1, because model\.experts\.number is 0",
        ),
        ({"capacity": -1.0}, r"model\.experts\.capacity = -1\.0 is not accepted: at least 0"),
    ],
)
def test_bad_input(experts: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_experts(**experts)


@pytest.mark.parametrize(("chosen", "capacity"), [(1, 0.0), (2, 0.0), (2, 1.3)])
def test_active_parameters_and_flops(chosen: int, capacity: float) -> None:
    config = with_experts("enc_dec", chosen=chosen, capacity=capacity)
    plain = replace(config, experts=ExpertConfig())
    one, other = counted(config), counted(plain)
    router = sum(param.size for _, param in leaves(model(config)) if param.role == "router")
    mlps = other.groups["MLPs"]
    assert one.groups["experts"] == 4 * mlps + router
    assert one.total == other.total + 3 * mlps + router
    assert one.active == other.total + (chosen - 1) * mlps + router
    run = run_config("enc_dec")
    active, dense = (count(replace(run, model=m)).forward.by("group") for m in (config, plain))
    each = 2 * router / 2 * 8 * 16  # 8 rows, a stream each half of the 2 + 2 layers
    assert active["experts"].mask == pytest.approx(chosen * dense["MLPs"].mask + each)
    slots = 4 * config.experts.slots(8) / (chosen * 8) if capacity else 1
    assert active["experts"].dense == pytest.approx(chosen * slots * dense["MLPs"].dense + each)
