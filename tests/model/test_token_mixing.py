"""MLP-Mixer's token mixing: against its formula; positions that it has no weights for; bad input."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx
from support import SMALL, logits, model_config, parameters, stream, tokens

from encdec_jax.errors import UserError
from encdec_jax.model.blocks import plans
from encdec_jax.model.declare import edges
from encdec_jax.model.node import Node
from encdec_jax.model.seen import Seen, View

ROWS, N = 12, 9


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_it_is_an_mlp_over_positions(side: str) -> None:
    config = model_config("enc_dec", block="mixer", position_rows=ROWS)
    plan = plans(config)[side]
    layer = plan.segments[0].period[0][0].layer
    node = Node(layer.declare(plan.scope), config, nnx.Rngs(params=0))
    name = "source" if side == "encoder" else "target"
    given = stream(np.zeros((1, N), int), 2)
    view = View(layer.reads[0].sees.mask(given, given), None, None)
    seen = Seen(name, given, np.int32(0), {layer.reads: view}, None, None, None, None, lambda states: states)
    x = np.random.default_rng(0).normal(size=(N, SMALL.d_model)).astype(np.float32)
    first, second = (np.asarray(node.exact(one))[2 : 2 + N, 2 : 2 + N] for one in ("first", "second"))
    if side == "decoder":
        first, second = np.tril(first), np.tril(second)
    want = second @ np.asarray(jax.nn.gelu(first @ x))
    np.testing.assert_allclose(layer(node, x[None], seen).y[0], want, atol=1e-5)


def test_a_position_behind_its_weights_has_no_loss() -> None:
    config = model_config("causal_lm", block="mixer", position_rows=ROWS)
    for n, lost in ((ROWS, False), (ROWS + 1, True)):
        found = logits(config, parameters(config), None, stream(tokens(0, 1, n)), n)
        assert np.isnan(found[0, -1]).all() == lost


@pytest.mark.parametrize(
    ("arch", "changes", "message"),
    [
        ("enc_dec_merged", {}, r"model\.block = 'mixer' is not accepted: 'standard', because enc_dec_merged reads"),
        ("causal_lm", {"window": 4}, r"model\.decoder\.window = 4 is not accepted: 0, because the hidden units"),
    ],
)
def test_bad_input(arch: str, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        edges(model_config(arch, decoder=replace(SMALL, **changes), block="mixer"))


def test_there_are_no_scores_for_a_fused_kernel() -> None:
    with pytest.raises(UserError, match=r"model\.attention = 'splash' is not accepted: .* no sliding windows, blocks"):
        edges(model_config("causal_lm", block="mixer", attention="splash"))
