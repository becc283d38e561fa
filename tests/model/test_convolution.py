"""Convolutions in place of self-attention: against their formula; prompts of unequal lengths; bad input."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import SMALL, model_config, parameters, stream, tokens

from encdec_jax.compute.serving import cache_bytes
from encdec_jax.errors import UserError
from encdec_jax.infer import kv_cache
from encdec_jax.model.blocks import plans
from encdec_jax.model.declare import edges
from encdec_jax.model.model import graph
from encdec_jax.model.node import Node
from encdec_jax.model.parts.branches import DECODER, ENCODER
from encdec_jax.model.parts.convolution import Convolution
from encdec_jax.model.seen import Seen

D, HEADS, TAPS, N = SMALL.d_model, SMALL.n_heads, 5, 9


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("side", ["source", "target"])
def test_each_position_is_the_sum_that_the_paper_has(dynamic: bool, side: str) -> None:
    config = model_config("enc_dec", kernel_width=TAPS)
    stack = plans(config)["encoder" if side == "source" else "decoder"]
    node = Node(Convolution(dynamic).declare(stack.scope), config, nnx.Rngs(params=0))
    w = {name: np.asarray(node.exact(name)) for name in ("value", "gate", "kernel", "out")}
    x = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    inner = (x @ w["value"]) / (1 + np.exp(-x @ w["gate"]))
    want = np.zeros((N, D), np.float32)
    for t in range(N):
        kernel = np.einsum("d,dhk->hk", inner[t], w["kernel"]) if dynamic else w["kernel"]
        kernel = np.exp(kernel) / np.exp(kernel).sum(axis=-1, keepdims=True)
        for tap in range(TAPS):
            at = t + tap - (TAPS // 2 if side == "source" else TAPS - 1)
            if 0 <= at < N:
                want[t] += np.repeat(kernel[:, tap], D // HEADS) * inner[at]
    seen = Seen(side, stream(np.zeros((1, N), int)), jnp.int32(0), {}, None, None, None, None, lambda states: states)
    np.testing.assert_allclose(Convolution(dynamic)(node, x[None], seen).y[0], want @ w["out"], atol=1e-5)


def by_hand(x: np.ndarray, w: dict, width: int, ahead: int) -> np.ndarray:
    """A convolution, separable if it has kernels: of each position's neighbours, zeros beyond the ends."""
    padded = np.pad(x, ((width - 1 - ahead, ahead), (0, 0)))
    near = np.stack([padded[tap : tap + len(x)] for tap in range(width)], axis=1)  # [length, width, inputs]
    if "kernel" in w:
        return np.einsum("twd,wd->td", near, w["kernel"]) @ w["matrix"][0]
    return np.einsum("twd,wde->te", near, w["matrix"])


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_branches_are_those_of_the_evolved_transformer(side: str) -> None:
    config = model_config("enc_dec")
    layer, ahead = {"encoder": (ENCODER, lambda width: width // 2), "decoder": (DECODER, lambda width: 0)}[side]
    node = Node(layer.declare(plans(config)[side].scope), config, nnx.Rngs(params=0))
    w = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(node)))
    x = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    if side == "encoder":
        left = np.maximum(by_hand(x, w["left"], 1, 0), 0)
        right = np.maximum(by_hand(x, w["right"], 3, ahead(3)), 0)
        assert (left.shape[1], right.shape[1]) == (4 * D, D // 2)
    else:
        left, right = np.maximum(by_hand(x, w["left"], 11, 0), 0), by_hand(x, w["right"], 7, 0)
        assert (left.shape[1], right.shape[1]) == (2 * D, D // 2)
    both = left + np.pad(right, ((0, 0), (0, left.shape[1] - right.shape[1])))
    both = both / np.sqrt((both**2).mean(axis=-1, keepdims=True) + 1e-6)
    width = 9 if side == "encoder" else 7
    want = by_hand(both, w["out"], width, ahead(width))
    want = np.pad(want, ((0, 0), (0, D - want.shape[1])))
    stream_name = "source" if side == "encoder" else "target"
    seen = Seen(
        stream_name, stream(np.zeros((1, N), int)), jnp.int32(0), {}, None, None, None, None, lambda states: states
    )
    np.testing.assert_allclose(layer(node, jnp.asarray(x[None]), seen).y[0], want, atol=1e-5)


def test_a_padded_prompt_leaves_the_state_of_its_tokens() -> None:
    config = model_config("causal_lm", block="dynamic", kernel_width=TAPS)
    params, definition, n = parameters(config), graph(config), 6
    take, feed = (jax.jit(partial(f, definition)) for f in (partial(kv_cache.prefill, capacity=2), kv_cache.decode))
    prompt, next_token = tokens(0, 1, n), stream(tokens(1, 1, 1), n)
    alone, _ = feed(params, take(params, stream(prompt)), next_token)
    for before in (0, 3):
        padded = stream(np.pad(prompt, ((0, 0), (before, 3 - before))), -before)
        shown = (padded.position >= 0) & (padded.position < n)
        found, _ = feed(params, take(params, padded._replace(segment=shown.astype(jnp.int32))), next_token)
        np.testing.assert_allclose(found, alone, atol=3e-5)


def test_a_cache_holds_the_last_inputs_however_long_the_target_is() -> None:
    config = model_config("causal_lm", block="lightweight", kernel_width=TAPS)
    held = jax.eval_shape(
        lambda params: kv_cache.prefill(graph(config), params, stream(tokens(0, 1, 7)), 3), parameters(config)
    )
    numbers = sum(leaf.size for leaf in jax.tree.leaves((held.own.kv, held.own.states)))
    assert 4 * numbers == cache_bytes(config, 7, 3, "float32").total == cache_bytes(config, 700, 3, "float32").total


@pytest.mark.parametrize(
    ("arch", "changes", "message"),
    [
        ("enc_dec_merged", {}, r"model\.block = 'dynamic' is not accepted: 'standard', because enc_dec_merged reads"),
        ("causal_lm", {"d_model": 18}, r"model\.decoder\.n_heads = 4 is not accepted: a divisor of d_model = 18"),
    ],
)
def test_bad_input(arch: str, changes: dict, message: str) -> None:
    size = SMALL.__class__(**{**vars(SMALL), **changes})
    with pytest.raises(UserError, match=message):
        edges(model_config(arch, decoder=size, block="dynamic"))
    with pytest.raises(UserError, match=r"model\.kernel_width = 4 is not accepted: an odd number"):
        model_config(arch, kernel_width=4)
