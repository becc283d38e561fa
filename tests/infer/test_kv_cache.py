"""Decoding with a cache gives the logits of the uncached model, and does the source's work once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import SMALL, TWO_STREAMS, concat, example, logits, model_config, parameters, stream, tokens

from encdec_jax.compute.witness import flops
from encdec_jax.errors import UserError
from encdec_jax.infer import kv_cache
from encdec_jax.infer.kv_cache import Cache, cache_axes
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.model import graph
from encdec_jax.model.streams import Stream

S, T, ROOM = 7, 6, 9  # a row's longest source, its target, and the slots for the target
LENGTHS = (7, 4)  # of the sources of a batch
CLOSE = {"atol": 2e-5, "rtol": 1e-5}
OTHER = replace(SMALL, d_model=20, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=28)
every_arch = pytest.mark.parametrize("arch", ARCHS)


@partial(jax.jit, static_argnums=(0, 3))
def prefill(config: ModelConfig, params: nnx.State, source: Stream, capacity: int) -> Cache:
    return kv_cache.prefill(graph(config), params, source, capacity)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def decode(config: ModelConfig, params: nnx.State, held: Cache, token: Stream) -> tuple[jax.Array, Cache]:
    return kv_cache.decode(graph(config), params, held, token)


def prompts(arch: str) -> Stream:
    """Sources of different lengths, padded with tokens that would be noticed."""
    rows = []
    for row, length in zip(tokens(0, len(LENGTHS), S), LENGTHS, strict=True):
        first = stream(row[None, :length], 0, ARCHS[arch].source_open)
        rows.append(concat(first, stream(row[None, length:], 2, True, segment=0)))
    return Stream(*(jnp.concatenate(parts) for parts in zip(*rows, strict=True)))


def targets() -> Stream:
    """Each continues the positions of its own source."""
    rows = [stream(row[None], length) for row, length in zip(tokens(1, len(LENGTHS), T), LENGTHS, strict=True)]
    return Stream(*(jnp.concatenate(parts) for parts in zip(*rows, strict=True)))


def part(given: Stream, start: int, end: int) -> Stream:
    return Stream(*(leaf[:, start:end] for leaf in given))


def cached(config: ModelConfig, params: nnx.State, n: int = 1, spoil: float = 0.0) -> np.ndarray:
    """Logits of all targets, decoded `n` tokens at a time; `spoil` is put into unwritten slots before each call."""
    held, found = prefill(config, params, prompts(config.arch), ROOM), []
    for start in range(0, T, n):
        if spoil:
            held = spoiled(held, spoil)
        out, held = decode(config, params, held, part(targets(), start, start + n))
        found.append(out)
    return np.concatenate(found, axis=1)


def spoiled(held: Cache, value: float) -> Cache:
    kv, streams = dict(held.own.kv), dict(held.own.stream)
    for r, of in held.own.stream.items():
        bare = of.segment == 0
        streams[r] = Stream(*(leaf | bare for leaf in of))._replace(segment=of.segment)
    for r, leaves in held.own.kv.items():
        bare = (streams[r].segment == 0)[:, :, None, None]
        kv[r] = jax.tree.map(lambda leaf, bare=bare: jnp.where(bare, value, leaf), leaves)
    return held._replace(own=held.own._replace(kv=kv, stream=streams))


def uncached(config: ModelConfig, params: nnx.State) -> np.ndarray:
    """The same, each row alone in one forward pass, with no padding."""
    pairs = zip(tokens(0, len(LENGTHS), S), LENGTHS, tokens(1, len(LENGTHS), T), strict=True)
    rows = [example(config.arch, source[None, :length], target[None]) for source, length, target in pairs]
    return np.concatenate([logits(config, params, *row, T) for row in rows])


@every_arch
@pytest.mark.parametrize("scan", [True, False])
def test_cached_is_uncached(arch: str, scan: bool) -> None:
    params = parameters(model_config(arch))
    expected = uncached(model_config(arch), params)
    np.testing.assert_allclose(cached(model_config(arch, scan=scan), params), expected, **CLOSE)


@pytest.mark.parametrize(
    ("arch", "changes"),
    [
        ("coordinated", {"qk_norm": True, "tie": "none", "mlp": "gelu"}),
        ("enc_dec", {"qk_norm": True, "tie": "decoder", "encoder": OTHER}),
        ("layerwise", {"tie": "none", "encoder": OTHER}),
    ],
)
def test_whatever_blocks_are_made_of(arch: str, changes: dict) -> None:
    config = model_config(arch, **changes)
    params = parameters(config)
    np.testing.assert_allclose(cached(config, params), uncached(config, params), **CLOSE)


@pytest.mark.parametrize("arch", ["prefix_lm", "enc_dec", "coordinated"])
def test_several_tokens_at_once(arch: str) -> None:
    config = model_config(arch)
    params = parameters(config)
    np.testing.assert_allclose(cached(config, params, n=3), uncached(config, params), **CLOSE)


WINDOWS = {
    "one in three sees all": ("causal_lm", {"window": 3, "global_every": 3}),
    "none does, of an open source": ("prefix_lm", {"window": 4, "ahead": 1}),
    "depth shares": ("enc_dec", {"window": 2, "global_every": 2, "n_layers": 4, "distinct": 2}),
    "merged": ("enc_dec_shared", {"window": 3}),
    "one position": ("layerwise", {"window": 1, "global_every": 2}),
    "blocks": ("double_decoder", {}),
}


QUICK = {("one in three sees all", 1), ("none does, of an open source", 3), ("blocks", 1)}


@pytest.mark.parametrize(
    ("arch", "size", "n"),
    [
        pytest.param(*case, n, id=f"{name}, {n}", marks=() if (name, n) in QUICK else pytest.mark.slow)
        for name, case in WINDOWS.items()
        for n in (1, 3)
    ],
)
def test_a_window_keeps_a_ring(arch: str, size: dict, n: int) -> None:
    """Beyond its length, behind sources of unequal lengths; more tokens at once than a ring has slots, too."""
    changes = {"block_length": 3, "encoder": replace(SMALL, window=4)} if arch == "double_decoder" else {}
    stack = replace(SMALL, **{"n_layers": 3, **size})
    both = {"encoder": replace(SMALL, n_layers=3)} if arch == "layerwise" else {}
    config = model_config(arch, **{"decoder": stack, **both, **changes})
    params = parameters(config)
    np.testing.assert_allclose(cached(config, params, n=n, spoil=1e30), uncached(config, params), **CLOSE)
    held = prefill(config, params, prompts(arch), ROOM)
    window = size.get("window", 3)
    assert held.own.kv[window].keys.shape[2] == window
    assert (0 in held.own.kv) == ("global_every" in size)
    if held.context is not None:
        assert held.context.kv.keys() == {4}


@pytest.mark.slow
def test_positions_that_begin_anew_find_their_source_behind_a_ring() -> None:
    config = model_config("prefix_lm", decoder=replace(SMALL, window=3), position="separate")
    params = parameters(config)
    np.testing.assert_allclose(cached(config, params), uncached(config, params), **CLOSE)
    config = model_config("enc_dec", decoder=replace(SMALL, window=3), target_positions="restart")
    np.testing.assert_allclose(cached(config, params := parameters(config)), uncached(config, params), **CLOSE)


@every_arch
def test_unwritten_slots_have_no_influence(arch: str) -> None:
    config = model_config(arch)
    params = parameters(config)
    np.testing.assert_array_equal(cached(config, params, spoil=1e30), cached(config, params))


@pytest.mark.parametrize("arch", ["causal_lm", "enc_dec", "enc_dec_shared"])
def test_bfloat16_is_near_float32(arch: str) -> None:
    config = model_config(arch, dtype="bfloat16")
    params = parameters(config)
    held = prefill(config, params, prompts(arch), ROOM)
    assert held.own.kv[0].keys.dtype == held.own.kv[0].values.dtype == jnp.bfloat16
    exact, rounded = uncached(model_config(arch), params), cached(config, params)
    assert rounded.dtype == np.float32
    assert (rounded != rounded.astype(jnp.bfloat16)).mean() > 0.9  # logits are not made in bfloat16
    assert 0 < np.abs(rounded - exact).max() < 0.1 * exact.std() * np.sqrt(SMALL.n_layers)


@pytest.mark.parametrize("arch", ["prefix_lm", "enc_dec", "enc_dec_shared"])
def test_greedy_takes_the_likeliest(arch: str) -> None:
    config = model_config(arch, tie="none")  # a tied one repeats itself
    params = parameters(config)
    source, target = tokens(0, 2, S), tokens(1, 2, 1)
    run = jax.jit(kv_cache.greedy, static_argnums=(0, 4))
    first = stream(target, S)
    best = np.asarray(run(graph(config), params, stream(source, 0, ARCHS[arch].source_open), first, T))
    full = logits(config, params, *example(arch, source, np.hstack([target, best[:, :-1]])), T)
    np.testing.assert_array_equal(best, full.argmax(axis=-1))


@every_arch
def test_the_source_is_projected_once(arch: str) -> None:
    """A longer source costs a decoded token the longer attention, and nothing else."""
    config = model_config(arch)

    def cost(length: int) -> int:
        source, params = stream(tokens(0, 2, length)), jax.eval_shape(partial(parameters, config))
        held = jax.eval_shape(lambda params: prefill(config, params, source, ROOM), params)
        return flops(partial(decode, config), params, held, part(targets(), 0, 1))

    decoder = config.decoder
    pairs = 2 * decoder.n_layers * (20 - 10)  # a row's, over both rows
    pairs *= 3 if ARCHS[arch].context else 1  # its own, those of its context, and the context's own
    assert cost(20) - cost(10) == pairs * 4 * decoder.n_heads * decoder.head_dim


def test_coordinated_takes_up_a_source_as_prefix_lm_does() -> None:
    """Its cross cache is what prefix_lm's own cache holds, at the same cost."""
    one, two = model_config("prefix_lm"), model_config("coordinated")
    params, source = parameters(one), prompts("prefix_lm")
    assert len({flops(partial(prefill, config, capacity=ROOM), params, source) for config in (one, two)}) == 1
    own, cross = prefill(one, params, source, ROOM).own, prefill(two, params, source, ROOM).cross
    for mine, theirs in zip(own.kv[0], cross.kv, strict=True):
        np.testing.assert_allclose(mine[:, 0, :S], theirs[:, 0], **CLOSE)
        np.testing.assert_allclose(mine[:, 1, : LENGTHS[1]], theirs[:, 1, : LENGTHS[1]], **CLOSE)


@every_arch
def test_what_a_cache_holds(arch: str) -> None:
    config = model_config(arch)
    held = jax.eval_shape(lambda params: prefill(config, params, prompts(arch), ROOM), parameters(config))
    axes = cache_axes(held)
    assert all(jax.tree.leaves(jax.tree.map(lambda leaf, names: leaf.ndim == len(names), held, axes)))
    kv = (SMALL.n_kv_heads, SMALL.head_dim)
    slots = ROOM if arch in TWO_STREAMS else S + ROOM
    assert held.own.kv[0].keys.shape == held.own.kv[0].values.shape == (SMALL.n_layers, 2, slots, *kv)
    assert (held.cross is not None) == (arch in TWO_STREAMS or ARCHS[arch].context)
    if arch in TWO_STREAMS:
        assert held.cross.kv.keys.shape == held.cross.kv.values.shape == (SMALL.n_layers, 2, S, *kv)


@pytest.mark.parametrize("arch", ["causal_lm", "enc_dec"])
@pytest.mark.parametrize("scan", [True, False])
def test_a_donated_cache_is_written_in_place(arch: str, scan: bool) -> None:
    config = model_config(arch, scan=scan, decoder=replace(SMALL, n_layers=6, window=3, global_every=3))
    params = parameters(config)
    held = prefill(config, params, prompts(arch), 500)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(held))
    memory = decode.lower(config, params, held, part(targets(), 0, 1)).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= size
    decode(config, params, held, part(targets(), 0, 1))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(held.own.kv))


def test_a_full_cache_gives_no_logits() -> None:
    config = model_config("prefix_lm")
    params = parameters(config)
    held = prefill(config, params, prompts("prefix_lm"), 3)
    some, held = decode(config, params, held, part(targets(), 0, 3))
    more, _ = decode(config, params, held, part(targets(), 3, 4))
    assert np.isfinite(some).all()
    assert np.isnan(more).all()


def test_what_cannot_be_is_refused_before_it_is_computed() -> None:
    config = model_config("enc_dec")
    params, source = parameters(config), prompts("enc_dec")
    held = prefill(config, params, source, 2)
    refused = {
        r"capacity = 0 .*at least 1": lambda: prefill(config, params, source, 0),
        r"source length = 0 .*at least 1": lambda: prefill(config, params, part(source, 0, 0), 1),
        r"tokens to decode = 3 .*at most 2": lambda: decode(config, params, held, part(targets(), 0, 3)),
        r"steps = 0 .*at least 1": lambda: kv_cache.greedy(graph(config), params, source, targets(), 0),
    }
    for message, function in refused.items():
        with pytest.raises(UserError, match=message):
            function()
