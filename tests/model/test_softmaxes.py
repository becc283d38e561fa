"""A mixture of softmaxes against its formula."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx
from support import model_config, parameters

from encdec_jax.model.model import graph


def test_logits_are_the_mixtures_log_probabilities() -> None:
    config = model_config("causal_lm", softmaxes=3, embedding="plain")
    model = nnx.merge(graph(config), parameters(config))
    x = np.random.default_rng(0).normal(size=(2, 5, 16)).astype(np.float32)
    router, project = (np.asarray(model.softmaxes.exact(name)) for name in ("router", "project"))
    table = np.asarray(model.embed.exact("table")) / 4  # T5's factor of a tied table, d_model ** -0.5
    share = np.asarray(jax.nn.softmax(x @ router))
    every = [np.asarray(jax.nn.softmax(np.tanh(x @ project[:, k]) @ table.T)) for k in range(3)]
    want = sum(share[..., k : k + 1] * every[k] for k in range(3))
    found = np.exp(np.asarray(model.logits(x)))
    np.testing.assert_allclose(found, want, rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)
    assert not np.allclose(want, every[0], rtol=1e-2)
