"""Fused attention is the attention of the one mask formula, values and gradients, padding and packing included."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import SMALL, example, model_config, mostly_slow, parameters, tokens

from encdec_jax.model.arch import ARCHS
from encdec_jax.model.edge import Reads
from encdec_jax.model.kernels import join_patterns, pattern, splash, told
from encdec_jax.model.model import graph
from encdec_jax.model.sees import Block, Causal, Earlier, Full, Opened, Prefix
from encdec_jax.model.softmax import attention
from encdec_jax.model.streams import Stream, WholeStream, mask, stream
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

    def fused(q, k, v, bias, mask, implementation, **told):
        assert implementation == "cudnn"
        assert q.shape[1] == 1 or q.shape[1] % 2 == k.shape[1] % 2 == 0
        return real(q, k, v, bias, mask, **told)

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


ALONE = stream(np.zeros((2, 24), np.int32))
SHORT = stream(np.zeros((2, 9), np.int32))
SAID = {  # pattern, queries, keys; whether a mask is left, and the flags
    "packed": (Causal(), CAUSAL, None, (True, True, 0)),
    "packed, in a window": (Causal(16), CAUSAL, None, (True, True, 0)),
    "packed blocks": (Block(length=32), CAUSAL, None, (True, True, 0)),
    "packed, earlier blocks": (Earlier(length=32), CAUSAL, None, (True, True, 0)),
    "packed and full": (Full(), SOURCE, None, (True, False, 0)),
    "packed and across": (Full(), TARGET, SOURCE, (True, False, 0)),
    "across, in order": (Causal(), TARGET, SOURCE, (True, False, 0)),
    "prefix": (Prefix(), PREFIX, None, (True, False, 0)),
    "open alone": (Opened(), PREFIX, None, (True, False, 0)),
    "whole": (Causal(), WholeStream(*ALONE), None, (False, True, 0)),
    "whole, in a window": (Causal(5), WholeStream(*ALONE), None, (False, True, 5)),
    "whole, in a window of one": (Causal(1), WholeStream(*ALONE), None, (False, True, 1)),
    "whole blocks": (Block(length=7), WholeStream(*ALONE), None, (True, True, 0)),
    "whole and full": (Full(), WholeStream(*ALONE), None, (False, False, 0)),
    "whole and full, in a window": (Full(5, 1), WholeStream(*ALONE), None, (True, False, 0)),
    "whole and across": (
        Full(),
        WholeStream(*ALONE),
        WholeStream(*stream(np.zeros((2, 9), np.int32))),
        (False, False, 0),
    ),
    "whole, of a packed source": (Full(), WholeStream(*ALONE), SHORT, (True, False, 0)),
    "whole, a prefix": (Prefix(), WholeStream(*ALONE._replace(open=ALONE.position < 9)), None, (True, False, 0)),
}


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("biased", [False, True])
def test_what_cudnn_is_told_is_the_mask(name, biased, monkeypatch):
    """Flags and what they leave of the mask. XLA's attention stands in for the kernel: it makes the flags a mask."""
    sees, query, key, (left, causal, window) = SAID[name]
    key = query if key is None else key
    said = told(Reads("target", "target", "own", sees, "none"), query, key)
    assert (said.mask is not None, said.causal, said.window) == (left, causal, window)
    real = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *given, implementation, **flags: real(*given, **flags))
    shapes = [(*stream.tokens.shape, n, DIM) for stream, n in ((query, 4), (key, 2), (key, 2))]
    q, k, v = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes))
    bias = jax.random.normal(jax.random.key(3), (len(q), 4, q.shape[1], k.shape[1])) if biased else None
    shown = jnp.asarray(sees.mask(query, key))
    seeing = np.asarray(shown.any(axis=2))
    found, exact = (attention(q, k, v, how, "cudnn" if how is said else "plain", bias) for how in (said, shown))
    np.testing.assert_allclose(np.asarray(found)[seeing], np.asarray(exact)[seeing], atol=1e-5, rtol=1e-5)


def calls(arch: str, monkeypatch, whole: bool) -> list[tuple[str, str]]:
    """The kernels that a GPU's program of a model's gradient would call, and the masks that they know."""
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91900)
    size = replace(SMALL, head_dim=8)
    sides = {"decoder": size, "encoder": size if ARCHS[arch].own_encoder else None}
    config = model_config(arch, attention="cudnn", dtype="bfloat16", **sides)
    source, target = example(arch, tokens(0, 2, 10), tokens(1, 2, 8))
    if whole:
        source, target = None if source is None else WholeStream(*source), WholeStream(*target)

    def loss(params, source, target):
        return nnx.merge(graph(config), params)(source, target, 8).sum()

    traced = jax.jit(jax.grad(loss)).trace(parameters(config), source, target)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    found = re.findall(r'custom_call @"?(__cudnn[^"( ]+)"?\(.*?mask_type\W+22\W+22([A-Z_]+)', text)
    assert len(found) == text.count("@__cudnn") + text.count('@"__cudnn')
    return sorted({(name.removeprefix("__cudnn$fmha"), kind) for name, kind in found})


def test_a_gpu_s_program_skips_what_is_behind_a_query(monkeypatch):
    """All pairs were computed, because the mask came as a bias alone."""
    biased, free = ("ScaleBiasSoftmax", "ScaleBiasSoftmaxBackward"), ("Softmax", "SoftmaxBackward")
    assert calls("causal_lm", monkeypatch, whole=False) == [(name, "CAUSAL") for name in biased]
    assert calls("causal_lm", monkeypatch, whole=True) == [(name, "CAUSAL") for name in free]
    assert calls("prefix_lm", monkeypatch, whole=True) == [(name, "NO_MASK") for name in biased]
    both = [(name, kind) for name in free for kind in ("CAUSAL", "NO_MASK")]
    assert calls("enc_dec", monkeypatch, whole=True) == both
