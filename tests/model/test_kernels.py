"""Fused attention is the attention of the one mask formula, values and gradients, padding and packing included."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import example, model_config, mostly_slow, parameters, tokens

from encdec_jax.model.arch import ARCHS
from encdec_jax.model.kernels import join_patterns, pattern, splash
from encdec_jax.model.model import graph
from encdec_jax.model.softmax import attention
from encdec_jax.model.streams import Stream, mask
from encdec_jax.train.config import MeshConfig
from encdec_jax.train.sharding import make_mesh

HEADS, KEY_HEADS, DIM = 4, 2, 8


def packed(lengths: list[list[tuple[int, int]]], width: int) -> Stream:
    """Rows of segments given as (open tokens, closed tokens); what is left of a row is padding."""
    shape = (len(lengths), width)
    fields = {name: np.zeros(shape, np.int32) for name in ("position", "segment")} | {"open": np.zeros(shape, bool)}
    for row, segments in enumerate(lengths):
        start = 0
        for number, (opened, closed) in enumerate(segments, 1):
            n = opened + closed
            fields["position"][row, start : start + n] = np.arange(n)
            fields["segment"][row, start : start + n] = number
            fields["open"][row, start : start + opened] = 1
            start += n
    return Stream(jnp.zeros((len(lengths), width), jnp.int32), *map(jnp.asarray, fields.values()))


def joined(first: Stream, second: Stream) -> Stream:
    return Stream(*(jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)))


SOURCE = packed([[(70, 0), (20, 0)], [(130, 0)]], 150)
TARGET = packed([[(0, 60), (0, 90)], [(0, 200)]], 200)
CAUSAL = packed([[(0, 120), (0, 60)], [(0, 200)]], 200)
PREFIX = packed([[(50, 70), (0, 20), (30, 10)], [(199, 1)]], 200)
CASES = {
    "causal": ("causal", CAUSAL, CAUSAL),
    "full": ("full", SOURCE, SOURCE),
    "cross": ("full", TARGET, SOURCE),
    "joined": ("causal", TARGET, joined(SOURCE, TARGET)),
    "prefix": ("prefix", PREFIX, PREFIX),
}


@pytest.fixture(params=CASES)
def case(request) -> tuple:
    """Queries, keys, values, the pattern, the mask, and which queries are no padding."""
    sees, query, key = CASES[request.param]
    if request.param == "joined":  # a target's positions continue its source's
        first = [dict(zip(*np.unique(row, return_counts=True), strict=True)) for row in np.asarray(SOURCE.segment)]
        shift = np.array([[n.get(s, 0) for s in row] for n, row in zip(first, np.asarray(TARGET.segment), strict=True)])
        query = query._replace(position=query.position + shift)
        key = joined(SOURCE, query)
    random = np.random.default_rng(0)
    shapes = (query, HEADS), (key, KEY_HEADS), (key, KEY_HEADS)
    q, k, v = (
        jnp.asarray(random.normal(size=(*stream.segment.shape, heads, DIM)), jnp.float32) for stream, heads in shapes
    )
    shown = mask(query, key)
    seen = pattern(sees, query, key)
    if request.param == "joined":
        seen = join_patterns(pattern("full", query, SOURCE), pattern("causal", query, query))
    return q, k, v, seen, shown, query.segment != 0


def close(a: jax.Array, b: jax.Array) -> bool:
    return bool(jnp.allclose(a, b, atol=2e-5, rtol=1e-4))


def test_splash_is_plain_attention(case):
    q, k, v, seen, shown, real = case
    assert close(splash(q, k, v, seen, q.shape[-1] ** -0.5, True)[real], attention(q, k, v, shown)[real])


def test_so_are_its_gradients(case):
    q, k, v, seen, shown, real = case
    wanted = jnp.asarray(np.random.default_rng(1).normal(size=q.shape), jnp.float32) * real[:, :, None, None]
    ours = jax.grad(lambda q, k, v: (splash(q, k, v, seen, q.shape[-1] ** -0.5, True) * wanted).sum(), (0, 1, 2))(
        q, k, v
    )
    theirs = jax.grad(lambda q, k, v: (attention(q, k, v, shown) * wanted).sum(), (0, 1, 2))(q, k, v)
    for own, other in zip(ours, theirs, strict=True):
        assert close(own, other)


@pytest.mark.parametrize(("tensor", "sequence"), [(2, 1), (3, 1), (4, 1), (2, 2)])
def test_each_device_has_its_rows_and_heads(tensor, sequence):
    """And the key heads of its heads, where those are fewer than devices; all heads, where they do not divide."""
    sees, query, key = CASES["prefix"]
    random = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(random.normal(size=(2, 200, heads, DIM)), jnp.float32) for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    )
    alone = splash(q, k, v, pattern(sees, query, key), q.shape[-1] ** -0.5, True)
    with jax.set_mesh(make_mesh(MeshConfig(data=2, tensor=tensor, sequence=sequence))):
        divided = jax.jit(lambda q, k, v: splash(q, k, v, pattern(sees, query, key), q.shape[-1] ** -0.5, True))(
            q, k, v
        )
    assert len(divided.sharding.device_set) == 2 * tensor * sequence
    assert close(alone, divided)


@pytest.mark.slow
def test_each_device_has_its_queries(case):
    """Values and gradients, where a mesh divides tokens."""
    q, k, v, seen, shown, real = case
    wanted = jnp.asarray(np.random.default_rng(1).normal(size=q.shape), jnp.float32) * real[:, :, None, None]

    def ours(q, k, v):
        return (splash(q, k, v, seen, q.shape[-1] ** -0.5, True) * wanted).sum()

    theirs = jax.value_and_grad(lambda q, k, v: (attention(q, k, v, shown) * wanted).sum(), (0, 1, 2))(q, k, v)
    with jax.set_mesh(make_mesh(MeshConfig(data=2, sequence=4))):
        divided = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(q, k, v)
    for own, other in zip(jax.tree.leaves(divided), jax.tree.leaves(theirs), strict=True):
        assert np.allclose(own, other, atol=2e-5, rtol=1e-4)


KNOWN = [name for name, arch in ARCHS.items() if not arch.context]  # it knows no blocks


@pytest.mark.parametrize("arch", mostly_slow(KNOWN, ["prefix_lm", "enc_dec", "coordinated"]))
def test_every_model_is_the_same_with_splash(arch, monkeypatch):
    """Each architecture says truly what its streams see: the patterns that it names give the mask's logits."""
    monkeypatch.setattr("encdec_jax.model.softmax.splash", partial(splash, interpret=True))
    plain, fused = (model_config(arch, attention=kernel) for kernel in ("plain", "splash"))
    params = parameters(plain)
    streams = example(arch, tokens(0, 2, 9), tokens(1, 2, 7))
    ours, theirs = (nnx.merge(graph(config), params)(*streams, 7) for config in (fused, plain))
    assert close(ours, theirs)


@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (7, 8), (8, 7), (8, 8), (1, 7)])
@pytest.mark.parametrize("biased", [False, True])
def test_cudnn_is_given_even_lengths(queries, keys, biased, monkeypatch):
    """It takes others for no gradient with a bias. XLA's attention stands in for its kernel."""
    real = jax.nn.dot_product_attention

    def fused(q, k, v, bias, mask, scale, implementation):
        assert implementation == "cudnn"
        assert q.shape[1] == 1 or q.shape[1] % 2 == k.shape[1] % 2 == 0
        return real(q, k, v, bias, mask, scale=scale)

    monkeypatch.setattr(jax.nn, "dot_product_attention", fused)
    q, k, v, g, bias = (
        jax.random.normal(jax.random.key(i), shape)
        for i, shape in enumerate([(2, n, 4, DIM) for n in (queries, keys, keys, queries)] + [(2, 4, queries, keys)])
    )
    shown = jnp.asarray(np.random.default_rng(0).random((2, queries, keys)) < 0.7).at[:, :, 0].set(True)

    def both(kernel: str) -> list:
        def mixed(q, k, v, bias):
            return attention(q, k, v, shown, kernel, bias if biased else None)

        out, back = jax.vjp(mixed, q, k, v, bias)
        return [out, *back(g)]

    for found, exact in zip(both("cudnn"), both("plain"), strict=True):
        np.testing.assert_allclose(found, exact, atol=1e-5, rtol=1e-5)
