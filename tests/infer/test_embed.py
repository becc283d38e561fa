"""Pooled states: packed = alone, whatever the architecture."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx
from support import concat, model_config, parameters, stream, tokens

from encdec_jax.errors import UserError
from encdec_jax.infer.embed import embed
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.model import graph

POOLS = [("enc_dec", "mean"), ("enc_dec", "first"), ("layerwise", "mean"), ("coordinated", "first")]
POOLS += [("prefix_lm", "mean"), ("causal_lm", "last"), ("causal_lm", "mean")]


@pytest.mark.parametrize(("arch", "pool"), POOLS)
def test_a_packed_text_gives_what_it_gives_alone(arch, pool):
    config = model_config(arch)
    params, of = parameters(config), jax.jit(partial(embed, graph(config)), static_argnums=(2, 3))
    opened = ARCHS[arch].source_open
    texts = [stream(tokens(seed, 2, n), 0, opened, seed + 1) for seed, n in enumerate((4, 7))]
    both = of(params, concat(*texts, stream(tokens(2, 2, 3), 5, opened, 0)), pool, 3)
    assert both.shape == (2, 3, 16)
    for i, text in enumerate(texts):
        alone = of(params, text._replace(segment=np.ones_like(text.segment)), pool, 1)
        np.testing.assert_allclose(both[:, i], alone[:, 0], atol=2e-5, rtol=2e-5)
        assert np.abs(alone).max() > 0.1
    np.testing.assert_array_equal(both[:, 2], 0)
    assert np.abs(both[:, 0] - both[:, 1]).max() > 0.1


def test_each_pool_is_its_tokens_state():
    config = model_config("enc_dec")
    text, params = stream(tokens(0, 2, 5), 3, True), parameters(config)
    states = np.asarray(nnx.merge(graph(config), params).read(text)[0])
    found = {pool: embed(graph(config), params, text, pool)[:, 0] for pool in ("first", "last", "mean")}
    np.testing.assert_allclose(found["first"], states[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found["last"], states[:, -1], rtol=1e-6)
    np.testing.assert_allclose(found["mean"], states.mean(axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arch", "pool", "message"),
    [("enc_dec", "max", "one of mean, first, last"), ("causal_lm", "first", "one of mean, last: the first token")],
)
def test_a_pool_that_is_none(arch, pool, message):
    config = model_config(arch)
    with pytest.raises(UserError, match=f"pool = '{pool}' is not accepted: {message}"):
        embed(graph(config), parameters(config), stream(tokens(0, 1, 3)), pool)
