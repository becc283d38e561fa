"""Where attention looks: weights whose statistics are known by hand, and every architecture's layers."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import example, model_config, parameters

from encdec_jax.errors import UserError
from encdec_jax.infer.attended import attending, check_shown
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.model import graph, initial
from encdec_jax.model.parts.looked import MOST, WINDOW, look

SOURCE, TARGET = 12, 16


def model_of(arch):
    return model_config(arch, attention="plain", position="none")


@partial(jax.jit, static_argnums=0)
def looked(config, params):
    tokens = np.arange(SOURCE + TARGET)[None]
    return nnx.merge(graph(config), params).looked(*example(config.arch, tokens[:, :SOURCE], tokens[:, SOURCE:]))


@pytest.mark.parametrize("arch", ARCHS)
def test_every_attention_of_every_architecture_is_named(arch):
    config = model_of(arch)
    shapes = jax.eval_shape(lambda key: looked(config, initial(config, key)), jax.random.key(0))
    context = ARCHS[arch].own_stream or ARCHS[arch].context
    assert sorted(shapes) == (["source", "target"] if context else ["target"])
    for stream, one in shapes.items():
        layers = list(attending(config, stream))
        assert len(one.local) == len(layers)
        assert set(layers) <= {0, 1}


@pytest.mark.parametrize("arch", ["prefix_lm", "enc_dec", "enc_dec_merged"])
def test_queries_of_nothing_look_at_all_keys_alike(arch):
    """Scores are then all 0, and weights follow from what is seen."""
    config = model_of(arch)
    params = parameters(config)
    still = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if "'q'" in jax.tree_util.keystr(path) else leaf, params
    )
    every = looked(config, still)
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[0, 0], every)  # the first attention, one row
    place = np.arange(TARGET)
    trailing = np.minimum(place + 1, WINDOW)

    def centred(n):
        return [sum(abs(i - j) <= WINDOW // 2 for j in range(n)) / n for i in range(n)]

    if arch == "enc_dec":
        np.testing.assert_allclose(found["target"].local, trailing / (place + 1), rtol=1e-5)
        assert np.isnan(found["target"].source).all()
        np.testing.assert_allclose(found["source"].local, centred(SOURCE), rtol=1e-5)
        cross = jax.tree.map(lambda leaf: np.asarray(leaf)[1, 0], every["target"])
        np.testing.assert_allclose(cross.entropy, np.log2(SOURCE), rtol=1e-5)
        np.testing.assert_allclose((cross.common, cross.most), (np.log2(SOURCE), MOST / SOURCE), rtol=1e-5)
        assert np.isnan(cross.local).all()
    elif arch == "enc_dec_merged":
        np.testing.assert_allclose(found["target"].local, trailing / (SOURCE + place + 1), rtol=1e-5)
        np.testing.assert_allclose(found["target"].source, SOURCE / (SOURCE + place + 1), rtol=1e-5)
        np.testing.assert_allclose(found["target"].entropy, np.log2(SOURCE), rtol=1e-5)
    else:
        place = np.arange(SOURCE + TARGET)
        expected = np.minimum(place + 1, WINDOW) / (place + 1)
        expected[:SOURCE] = centred(SOURCE)  # of an open query at the source's end, near keys of the target are unseen
        np.testing.assert_allclose(found["target"].local, expected, rtol=1e-5)


@partial(jax.jit, static_argnums=1)
def seen(weights, own, around):
    return look(weights[None, :, None], own, jnp.arange(len(weights))[None], around[None])


def test_queries_that_look_at_one_token_each_differ_in_their_mean():
    n = 8
    apart, ahead, behind = np.eye(n, dtype=np.float32), np.ones(n, bool), np.zeros(n, bool)
    for weights, common, most in ((apart, 3.0, MOST / n), (np.tile(apart[:1], (n, 1)), 0.0, 1.0)):
        found = seen(weights, 0, behind)
        np.testing.assert_allclose(found.entropy, 0, atol=1e-6)
        np.testing.assert_allclose((found.common[0], found.most[0]), (common, most), atol=1e-6)
        assert np.isnan(found.local).all()
    np.testing.assert_allclose(seen(apart, n, behind).local, 1)
    shifted = np.roll(apart, 1, axis=-1)  # each looks at the key behind it, and the last at the first
    np.testing.assert_allclose(seen(shifted, n, behind).local[0], 0)
    np.testing.assert_allclose(seen(shifted, n, ahead).local[0], [1] * 7 + [0])


@pytest.mark.parametrize(
    ("arch", "changes", "shown"),
    [
        ("causal_lm", {"block": "performer", "random_features": 16}, None),
        ("enc_dec", {"block": "mixer", "position_rows": 64}, None),
        ("causal_lm", {"block": "dynamic", "kernel_width": 3}, None),
        ("enc_dec", {"block": "dynamic", "kernel_width": 3}, ["target"]),
        ("enc_dec", {"block": "evolved"}, ["source", "target"]),
    ],
)
def test_what_reads_without_weights_is_refused(arch, changes, shown):
    """Attentions by features or by place gave a traceback, and beside others would have taken their names."""
    config = model_config(arch, attention="plain", **changes)
    shapes = jax.eval_shape(lambda key: looked(config, initial(config, key)), jax.random.key(0))
    if shown is None:
        with pytest.raises(UserError, match=f"model.block = '{config.block}' is not accepted"):
            check_shown(config, shapes)
    else:
        check_shown(config, shapes)
        assert [stream for stream in sorted(shapes) if shapes[stream] is not None] == shown
