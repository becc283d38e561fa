"""cuDNN's attention on a GPU is the attention of the one mask formula, values and gradients.

What bfloat16 costs plain attention is the measure: against float32, the fused kernel may be off by twice as much.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import SMALL, example, model_config, parameters, tokens
from test_kernels import CAUSAL, PREFIX, SOURCE, TARGET, packed

from encdec_jax.evaluate.fair import token_nll
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.edge import Reads
from encdec_jax.model.kernels import told
from encdec_jax.model.model import graph
from encdec_jax.model.sees import Block, Causal, Full, Opened, Prefix
from encdec_jax.model.softmax import attention
from encdec_jax.model.streams import WholeStream, stream

pytestmark = pytest.mark.device
WORSE = 2.0  # times the error of plain attention in bfloat16
WHOLE = WholeStream(*map(jnp.asarray, stream(np.zeros((2, 200), np.int32))))
READ = WholeStream(*map(jnp.asarray, stream(np.zeros((2, 150), np.int32))))
ODD_ROWS, ODD_ROW = packed([[(0, 120), (0, 60)], [(0, 199)]], 199), WholeStream(*(leaf[:, :199] for leaf in WHOLE))
CASES = {  # pattern, queries, keys, heads, key heads, head_dim, what is added to scores
    "causal, packed": (Causal(), CAUSAL, CAUSAL, 4, 4, 64, None),
    "full, packed": (Full(), SOURCE, SOURCE, 4, 4, 64, None),
    "cross": (Full(), TARGET, SOURCE, 4, 4, 64, None),
    "prefix": (Prefix(), PREFIX, PREFIX, 4, 4, 64, None),
    "window": (Causal(window=16), CAUSAL, CAUSAL, 4, 4, 64, None),
    "window, ahead": (Full(window=16, ahead=1), SOURCE, SOURCE, 4, 4, 64, None),
    "blocks": (Block(length=32), CAUSAL, CAUSAL, 4, 4, 64, None),
    "open alone": (Opened(), PREFIX, PREFIX, 4, 4, 64, None),
    "grouped": (Causal(), CAUSAL, CAUSAL, 4, 2, 64, None),
    "one key head": (Prefix(), PREFIX, PREFIX, 4, 1, 64, None),
    "narrow heads": (Causal(), CAUSAL, CAUSAL, 4, 4, 8, None),
    "wide heads": (Causal(), CAUSAL, CAUSAL, 4, 4, 128, None),
    "a bias that is learnt": (Causal(), CAUSAL, CAUSAL, 4, 4, 64, "learnt"),
    "a bias that is not": (Causal(), CAUSAL, CAUSAL, 4, 4, 64, "fixed"),
    "causal, odd": (Causal(), ODD_ROWS, ODD_ROWS, 4, 4, 64, None),
    "whole": (Causal(), WHOLE, WHOLE, 4, 4, 64, None),
    "whole, odd": (Causal(), ODD_ROW, ODD_ROW, 4, 4, 64, None),
    "whole, window": (Causal(window=16), WHOLE, WHOLE, 4, 4, 64, None),
    "whole, blocks": (Block(length=32), WHOLE, WHOLE, 4, 4, 64, None),
    "whole, grouped": (Causal(), WHOLE, WHOLE, 4, 2, 128, None),
    "whole, full": (Full(), READ, READ, 4, 4, 64, None),
    "whole, cross": (Full(), ODD_ROW, READ, 4, 2, 64, None),
    "whole, a bias": (Causal(), WHOLE, WHOLE, 4, 4, 64, "learnt"),
    "whole, a bias across": (Full(), ODD_ROW, READ, 4, 4, 64, "learnt"),
}


@pytest.fixture(autouse=True)
def gpu():
    if jax.default_backend() != "gpu":
        pytest.skip("needs a GPU, and JAX_PLATFORMS=cuda")


def off(found, exact) -> float:
    """The distance of trees from exact ones, over the norm of these."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True))
    assert all(np.isfinite(a).all() for a, _ in pairs)
    square = sum(np.square(np.asarray(a, np.float64) - np.asarray(b, np.float64)).sum() for a, b in pairs)
    return float(np.sqrt(square / sum(np.square(np.asarray(b, np.float64)).sum() for _, b in pairs)))


def compare(errors: dict[str, tuple[float, float]], record_property) -> None:
    """Each a fused kernel's error, and plain attention's in bfloat16."""
    for name, (fused, plain) in errors.items():
        record_property(name, f"{fused:.2e} fused, {plain:.2e} plain")
    bad = {name: pair for name, pair in errors.items() if pair[0] > WORSE * pair[1]}
    assert not bad, errors


@pytest.mark.parametrize("name", CASES)
def test_cudnn_is_plain_attention(name, record_property):
    sees, query, key, heads, key_heads, dim, biased = CASES[name]
    shown, real = sees.mask(query, key), (query.segment != 0)[:, :, None, None]
    said = told(Reads("target", "target", "own", sees, "none"), query, key)
    random = np.random.default_rng(0)
    shapes = (query, heads), (key, key_heads), (key, key_heads), (query, heads)
    *qkv, wanted = (
        jnp.asarray(random.normal(size=(*stream.segment.shape, n, dim)), jnp.bfloat16) for stream, n in shapes
    )
    pairs = (query.segment.shape[0], heads, query.segment.shape[1], key.segment.shape[1])
    bias = None if biased is None else jnp.asarray(random.normal(size=pairs), jnp.float32)

    def value(kernel: str, dtype: str) -> tuple:
        def mixed(q, k, v, bias):
            held = bias if biased == "learnt" or bias is None else jax.lax.stop_gradient(bias)
            return attention(q, k, v, said if kernel == "cudnn" else shown, kernel, held) * real

        given = tuple(x.astype(dtype) for x in qkv)
        out, back = jax.vjp(mixed, *given, bias)
        return out, back(wanted.astype(dtype))[: 4 if biased == "learnt" else 3]

    with jax.default_matmul_precision("highest"):
        exact = jax.jit(value, static_argnums=(0, 1))("plain", "float32")
    found = [jax.jit(value, static_argnums=(0, 1))(kernel, "bfloat16") for kernel in ("cudnn", "plain")]
    names = ["output", "dq", "dk", "dv", "dbias"]
    parts = [[out, *grads] for out, grads in (exact, *found)]
    errors = {n: (off(a, e), off(b, e)) for n, e, a, b in zip(names, *parts, strict=False)}
    compare(errors, record_property)


MODELS = {
    **{arch: {} for arch in ARCHS},
    "enc_dec, T5's bias": {"position": "t5"},
    "causal_lm, a bias a layer": {"position": "t5_by_layer"},
    "prefix_lm, ALiBi": {"position": "alibi"},
    "enc_dec, unrolled": {"scan": False},
    "causal_lm, remat": {"remat": "full"},
}


EVEN, ODD, SOME = (32, 32), (33, 30), ("causal_lm", "enc_dec")
LEARNT = [
    *((name, EVEN, False) for name in MODELS),
    *((name, ODD, False) for name in SOME),
    *((name, EVEN, True) for name in (*SOME, "enc_dec_causal", "double_decoder", "causal_lm, remat")),
    *((name, ODD, True) for name in (*SOME, "enc_dec, T5's bias")),
]


@pytest.mark.parametrize(("name", "lengths", "whole"), LEARNT)
def test_every_model_learns_the_same(name, lengths, whole, record_property):
    """Loss and gradient; of odd lengths too, which cuDNN's gradient does not take beside a bias."""
    arch, (source, target) = name.partition(",")[0], lengths
    size = replace(SMALL, n_heads=4, n_kv_heads=2, head_dim=16, d_model=64, d_ff=96)
    sides = {"decoder": size, "encoder": size if ARCHS[arch].own_encoder else None}
    streams, labels = example(arch, tokens(0, 2, source), tokens(1, 2, target)), tokens(2, 2, target)
    if whole:
        streams = tuple(None if stream is None else WholeStream(*stream) for stream in streams)
    params = parameters(model_config(arch, **{**sides, **MODELS[name]}))

    def of(kernel: str, dtype: str) -> tuple:
        config = model_config(arch, **{**sides, **MODELS[name], "attention": kernel, "dtype": dtype})

        def loss(params):
            return token_nll(nnx.merge(graph(config), params)(*streams, labels.shape[1]), labels)[0].mean()

        return jax.jit(jax.value_and_grad(loss))(params)

    with jax.default_matmul_precision("highest"):
        exact = of("plain", "float32")
    fused, plain = of("cudnn", "bfloat16"), of("plain", "bfloat16")
    errors = {"gradient": (off(fused[1], exact[1]), off(plain[1], exact[1]))}
    compare(errors, record_property)
