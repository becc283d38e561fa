"""What must hold of every architecture, whatever its weights."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import (
    SMALL,
    TWO_STREAMS,
    concat,
    example,
    logits,
    model_config,
    parameters,
    stream,
    tokens,
)

from encdec_jax.model import declare
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.model import graph
from encdec_jax.model.param import leaves
from encdec_jax.model.streams import Stream

S, T = 7, 5
CLOSE = {"atol": 2e-5, "rtol": 1e-5}
every_arch = pytest.mark.parametrize("arch", ARCHS)


def run(config: ModelConfig, params: nnx.State, source: Stream | None, target: Stream) -> np.ndarray:
    return np.asarray(logits(config, params, source, target, T))


@pytest.mark.parametrize("changes", [{}, {"mlp": "gelu", "qk_norm": True}, {"scan": False, "tie": "none"}])
def test_prefix_lm_of_source_and_target_is_coordinated(changes: dict) -> None:
    prefix, coordinated = (model_config(arch, **changes) for arch in ("prefix_lm", "coordinated"))
    params = parameters(prefix)
    if "tie" in changes:  # the source reads a table of its own: give it the target's
        params_two = parameters(coordinated)
        for name in ("embed", "decoder", "head"):
            params_two[name] = params[name]
        params_two["source_embed"] = params["embed"]
    else:
        params_two = params
    source, target = tokens(0, 2, S), tokens(1, 2, T)
    one = run(prefix, params, *example("prefix_lm", source, target))
    two = run(coordinated, params_two, *example("coordinated", source, target))
    np.testing.assert_allclose(one, two, **CLOSE)


@every_arch
def test_packed_is_alone(arch: str) -> None:
    config = model_config(arch)
    params = parameters(config)
    pairs = [(tokens(i, 2, S), tokens(10 + i, 2, T)) for i in range(2)]
    alone = [run(config, params, *example(arch, *pair)) for pair in pairs]
    source, target = packed(arch, pairs)
    both = np.asarray(logits(config, params, source, target, target.tokens.shape[1]))
    ends = [T, 2 * T] if ARCHS[arch].own_stream else [S + T, 2 * (S + T)]
    for end, expected in zip(ends, alone, strict=True):
        np.testing.assert_allclose(both[:, end - T : end], expected, **CLOSE)


@every_arch
def test_a_packed_neighbour_changes_nothing_exactly(arch: str) -> None:
    config = model_config(arch)
    params = parameters(config)
    mine, other = (tokens(0, 2, S), tokens(1, 2, T)), (tokens(2, 2, S), tokens(3, 2, T))
    perturbed = ((other[0] + 5) % 64, (other[1] + 9) % 64)
    end = T if ARCHS[arch].own_stream else S + T
    rows = []
    for neighbour in (other, perturbed):
        source, target = packed(arch, [mine, neighbour])
        rows.append(np.asarray(logits(config, params, source, target, target.tokens.shape[1])))
    np.testing.assert_array_equal(rows[0][:, :end], rows[1][:, :end])
    assert np.abs(rows[0][:, end:] - rows[1][:, end:]).max() > 1e-3


@every_arch
def test_padding_changes_nothing(arch: str) -> None:
    config = model_config(arch)
    params = parameters(config)
    source, target = example(arch, tokens(0, 2, S), tokens(1, 2, T))
    plain = run(config, params, source, target)
    length = target.tokens.shape[1]
    results = []
    for seed in (5, 6):  # padding is known by its segment, whatever its tokens, positions and openness
        padding = stream(tokens(seed, 2, 4), first=seed, opened=bool(seed % 2), segment=0)
        wide = None if source is None else concat(source, padding)
        padded = logits(config, params, wide, concat(target, padding), length + 4)
        results.append(np.asarray(padded)[:, length - T : length])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_allclose(results[0], plain, **CLOSE)


@every_arch
def test_causality_by_gradient(arch: str) -> None:
    """Each position holds a token of its own, so the table's gradient by row is the gradient by position."""
    config = model_config(arch, tie="inputs")
    params = parameters(config)
    source, target = example(arch, np.arange(S)[None], S + np.arange(T)[None])
    weight = jax.random.normal(jax.random.key(3), (64,))

    @jax.jit
    @jax.jacrev
    def scores(table: jax.Array) -> jax.Array:
        changed = jax.tree.map(lambda leaf: leaf, params)
        changed["embed"]["table"][...] = table
        return logits(config, changed, source, target, T)[0] @ weight

    by_position = np.abs(scores(params["embed"]["table"][...])).max(axis=-1)[:, : S + T]
    for i in range(T):
        assert (by_position[i, : S + i + 1] > 1e-8).all(), f"target {i} must depend on all before it"
        assert (by_position[i, S + i + 1 :] == 0).all(), f"target {i} must not depend on what follows"


@pytest.mark.parametrize("arch", TWO_STREAMS)
def test_what_the_source_sees_of_itself(arch: str) -> None:
    config = model_config(arch, tie="inputs")
    params = parameters(config)
    source, _ = example(arch, np.arange(S)[None], np.arange(T)[None])

    @jax.jit
    @jax.jacrev
    def states(table: jax.Array) -> jax.Array:
        changed = jax.tree.map(lambda leaf: leaf, params)
        changed["embed"]["table"][...] = table
        memory = nnx.merge(graph(config), changed).encode(source)
        return (memory if memory.ndim == 3 else memory[-1])[0] @ jnp.arange(1.0, 17)

    seen = np.abs(states(params["embed"]["table"][...])).max(axis=-1)[:, :S]
    later = np.triu_indices(S, 1)
    earlier = np.tril_indices(S)
    assert (seen[earlier] > 1e-8).all()
    assert (seen[later] > 1e-8).all() if ARCHS[arch].source_open else (seen[later] == 0).all()


@every_arch
@pytest.mark.parametrize("changes", [{"scan": False}, {"remat": "full"}, {"remat": "dots"}])
def test_scan_and_remat_change_neither_loss_nor_gradient(arch: str, changes: dict) -> None:
    params = parameters(model_config(arch))
    source, target = example(arch, tokens(0, 2, S), tokens(1, 2, T))

    @partial(jax.jit, static_argnums=1)
    @jax.value_and_grad
    def loss(params: nnx.State, config: ModelConfig) -> jax.Array:
        return jax.nn.logsumexp(logits(config, params, source, target, T), axis=-1).mean()

    value, grads = loss(params, model_config(arch))
    other, others = loss(params, model_config(arch, **changes))
    np.testing.assert_allclose(value, other, rtol=2e-6)
    for mine, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6, rtol=2e-5)


@every_arch
def test_remat_is_really_on(arch: str) -> None:
    def equations(config: ModelConfig) -> str:
        source, target = example(arch, tokens(0, 1, S), tokens(1, 1, T))
        return str(jax.make_jaxpr(lambda params: logits(config, params, source, target, T))(parameters(config)))

    assert "prevent_cse" not in equations(model_config(arch))
    assert "prevent_cse" in equations(model_config(arch, remat="full"))


@every_arch
@pytest.mark.parametrize("tie", ["all", "inputs", "decoder", "none"])
def test_the_declaration_is_the_model(arch: str, tie: str) -> None:
    config = model_config(arch, tie=tie)
    declared = {path: (param.shape, param.axes) for path, param in leaves(declare.model(config))}
    held = {path: (leaf[...].shape, leaf.axes) for path, leaf in nnx.to_flat_state(parameters(config))}
    assert held == declared


@every_arch
def test_every_parameter_gets_a_gradient(arch: str) -> None:
    config = model_config(arch, tie="none", qk_norm=True, block_length=2)
    source, target = example(arch, tokens(0, 2, S), tokens(1, 2, T))
    grads = jax.jit(jax.grad(lambda p: (logits(config, p, source, target, T) ** 2).mean()))(parameters(config))
    for path, leaf in nnx.to_flat_state(grads):
        assert np.abs(leaf[...]).reshape(leaf.shape[0], -1).max(axis=1).min() > 0 or path[-1] == "table", path
        assert np.abs(leaf[...]).max() > 0, path


@every_arch
def test_bfloat16_is_near_float32_and_ends_in_float32(arch: str) -> None:
    params = parameters(model_config(arch))
    source, target = example(arch, tokens(0, 2, S), tokens(1, 2, T))
    exact = run(model_config(arch), params, source, target)
    rounded = logits(model_config(arch, dtype="bfloat16"), params, source, target, T)
    assert rounded.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    difference = np.abs(np.asarray(rounded) - exact).max()
    assert 0 < difference < 0.1 * exact.std() * np.sqrt(SMALL.n_layers)


def test_widths_and_depths_of_their_own() -> None:
    encoder = replace(SMALL, n_layers=2, d_model=8, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=20)
    config = model_config("enc_dec", encoder=encoder, tie="decoder")
    source, target = example("enc_dec", tokens(0, 2, S), tokens(1, 2, T))
    params = parameters(config)
    assert params["decoder"]["blocks"]["cross"]["k"].shape == (2, 8, 2, 6)
    assert run(config, params, source, target).shape == (2, T, 64)


def packed(arch: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Stream | None, Stream]:
    """The pairs as segments 1, 2, ... of the same rows."""
    streams = [example(arch, source, target, segment=i + 1) for i, (source, target) in enumerate(pairs)]
    sources = [source for source, _ in streams if source is not None]
    return (concat(*sources) if sources else None), concat(*(target for _, target in streams))
