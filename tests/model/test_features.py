"""Attention by random features: against its formula over chunks and documents, and against softmax; bad input."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from support import model_config

from encdec_jax.errors import UserError
from encdec_jax.model.declare import edges
from encdec_jax.model.edge import Reads
from encdec_jax.model.parts import features
from encdec_jax.model.sees import Causal, Full, Prefix, Sees
from encdec_jax.model.streams import Stream

SEGMENTS = np.array(
    [[1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 0], [0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 9, 9]]
)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).random(shape).astype(np.float32)


@pytest.mark.parametrize("sees", [Full(), Causal(), Prefix()], ids=lambda sees: type(sees).__name__)
def test_chunks_and_documents_make_no_difference(sees: Sees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CHUNK", 4)
    (b, t), kv, group, m, d = SEGMENTS.shape, 2, 3, 5, 4
    position = np.array([[i - list(row).index(row[i]) for i in range(t)] for row in SEGMENTS])
    opened = (position < 3) & (SEGMENTS != 0) & isinstance(sees, Prefix)
    given = Stream(SEGMENTS * 0, position, SEGMENTS, opened)
    q, k, v = (
        drawn(b, t, kv * group, m),
        drawn(b, t, kv, m) * (SEGMENTS != 0)[..., None, None],
        drawn(b, t, kv, d) - 0.5,
    )
    weights = np.einsum("btkgm,bskm->bkgts", q.reshape(b, t, kv, group, m), k)
    weights = weights * sees.mask(given, given)[:, None, None]
    with np.errstate(invalid="ignore"):
        want = np.einsum("bkgts,bskd->btkgd", weights / weights.sum(axis=-1, keepdims=True), v).reshape(b, t, -1, d)
    reads = Reads("target", "target", "own", sees, "none")
    found, after = features.attended(*map(jnp.asarray, (q, k, v)), Stream(*map(jnp.asarray, given)), reads, None)
    shown = SEGMENTS != 0
    np.testing.assert_allclose(np.asarray(found)[shown], want[shown], atol=1e-5)
    last = SEGMENTS.max(axis=1, keepdims=True) == SEGMENTS
    np.testing.assert_allclose(after.values, np.einsum("btkm,btkd,bt->bkmd", k, v, last), rtol=1e-5, atol=1e-5)


def test_many_features_are_the_softmaxs_kernel() -> None:
    w, away = features.directions(20_000, 4)
    q, k = np.random.default_rng(1).normal(size=(2, 6, 4)) * 0.5

    def phi(x: np.ndarray) -> np.ndarray:
        return np.exp(x @ w.T - (x**2).sum(axis=-1, keepdims=True) / 2) / len(w) ** 0.5

    assert away == 0
    np.testing.assert_allclose(phi(q) @ phi(k).T, np.exp(q @ k.T), rtol=0.1)
    lengths = np.linalg.norm(w, axis=1)
    cosines = w[:4] @ w[:4].T / np.outer(lengths[:4], lengths[:4])
    np.testing.assert_allclose(cosines, np.eye(4), atol=1e-6)


@pytest.mark.parametrize("d", [64, 256])
def test_no_key_is_too_large(d: int) -> None:
    w, away = features.directions(256, d)
    assert (w**2).sum(axis=1).max() / 2 - away <= features.STABLE


@pytest.mark.parametrize(
    ("arch", "changes", "message"),
    [
        ("enc_dec_shared", {}, r"model\.block = 'performer' is not accepted: 'standard', because enc_dec_shared reads"),
        ("causal_lm", {"position": "alibi"}, r"model\.position = 'alibi' is not accepted: one without biases"),
        ("causal_lm", {"sinks": True}, r"model\.sinks = True is not accepted: 0, because model\.block = 'performer'"),
        ("causal_lm", {"rope_share": 0.5}, r"model\.decoder\.head_dim = 3 is not accepted: an even number"),
    ],
)
def test_bad_input(arch: str, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        edges(model_config(arch, block="performer", **changes))
