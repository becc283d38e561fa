from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import nnx
from support import model_config

from encdec_jax.model import declare
from encdec_jax.model.layers import MLP, subtree


def test_gelu_is_its_tanh_form():
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (arXiv 1606.08415, section 2), and not erf's."""
    config = model_config("causal_lm", mlp="gelu")
    tree = declare.block(config, config.decoder, "decoder", ("target",), None)
    mlp = MLP(subtree(tree, "mlp"), config, nnx.Rngs(0))
    n = config.decoder.d_model
    mlp.up[...] = jnp.eye(n, config.decoder.d_ff)
    mlp.down[...] = jnp.eye(config.decoder.d_ff, n)
    x = np.linspace(-3, 3, n)
    found = np.asarray(mlp(jnp.asarray(x, jnp.float32)[None, None]))[0, 0]
    tanh = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    exact = np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x])
    np.testing.assert_allclose(found, tanh, atol=2e-6)
    assert np.abs(exact - tanh).max() > 1e-4
    assert "tanh form" in type(config).__doc__
