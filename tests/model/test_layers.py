from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import model_config

from encdec_jax.model import declare
from encdec_jax.model.blocks import plans
from encdec_jax.model.node import Node
from encdec_jax.model.param import subtree
from encdec_jax.model.parts.mlp import MLP
from encdec_jax.model.product import mixed, product, scored


def test_gelu_is_its_tanh_form():
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (arXiv 1606.08415, section 2), and not erf's."""
    config = model_config("causal_lm", mlp="gelu")
    plan = plans(config)["decoder"]
    tree = declare.block(plan.segments[0].period[0], plan.scope, ends=True)
    mlp = Node(subtree(tree, "mlp"), config, nnx.Rngs(0))
    n = config.decoder.d_model
    mlp.up[...] = jnp.eye(n, config.decoder.d_ff)
    mlp.down[...] = jnp.eye(config.decoder.d_ff, n)
    x = np.linspace(-3, 3, n)
    found = np.asarray(MLP()(mlp, jnp.asarray(x, jnp.float32)[None, None], None).y)[0, 0]
    tanh = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    exact = np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x])
    np.testing.assert_allclose(found, tanh, atol=2e-6)
    assert np.abs(exact - tanh).max() > 1e-4
    assert "tanh form" in type(config).__doc__


WIDENS, NARROWS = (6, 10), (10, 6)


def around_product(shape, dtype):
    """x [2, 5, n], w [n, m] and the gradient of their product."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (2, 5, shape[0]), shape, (2, 5, shape[1])
    return [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [WIDENS, NARROWS])
def test_a_products_gradient_is_that_of_the_plain_product(shape, dtype):
    x, w, g = around_product(shape, dtype)
    (found, grads), (value, plain) = ((y, back(g)) for y, back in (jax.vjp(f, x, w) for f in (product, jnp.matmul)))
    assert jnp.array_equal(found, value)
    for one, other in zip(grads, plain, strict=True):
        assert one.dtype == other.dtype == dtype
        rounding = 4 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(np.asarray(one, float), np.asarray(other, float), rtol=rounding, atol=4 * rounding)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("heads", [1, 2])
def test_the_gradients_of_attentions_products_are_those_of_the_plain_products(heads, dtype):
    """With one head the sums over queries are written otherwise, and the narrow operand stays transposed."""
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (2, heads, n, 4), dtype) for key, n in zip(keys, (5, 6, 6), strict=True))

    def by(scored, mixed):
        return jax.grad(lambda q, k, v: jnp.sin(mixed(scored(q, k).astype(dtype), v)).sum(), (0, 1, 2))

    einsum = partial(jnp.einsum, preferred_element_type=jnp.float32)
    ours, plain = by(scored, mixed), by(partial(einsum, "bkqd,bksd->bkqs"), partial(einsum, "bkqs,bksd->bkqd"))
    for found, wanted in zip(ours(q, k, v), plain(q, k, v), strict=True):
        assert found.dtype == wanted.dtype == dtype
        np.testing.assert_allclose(np.asarray(found, float), np.asarray(wanted, float), rtol=1e-5, atol=1e-5)
    barriers = str(jax.make_jaxpr(ours)(q, k, v)).count("optimization_barrier")
    assert barriers == (2 if heads == 1 and dtype == "float32" else 0)


@pytest.mark.parametrize("shape", [WIDENS, NARROWS])
def test_the_narrower_operand_of_a_weights_gradient_stands_left(shape):
    x, w, g = around_product(shape, jnp.float32)
    jaxpr = jax.make_jaxpr(lambda x, w, g: jax.vjp(product, x, w)[1](g)[1])(x, w, g).jaxpr
    found = [e for e in jaxpr.eqns if e.primitive.name == "dot_general" and e.outvars[0].aval.ndim == 2]
    assert [equation.invars[0].aval.shape[-1] for equation in found] == [min(shape)]
