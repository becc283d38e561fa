"""Every architecture learns from the shipped text."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data.fake import FakeCache
from support import parameters

from encdec_jax.config import RunConfig
from encdec_jax.data.batches import Batches
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.corpus import documents
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.blocks import BLOCK_SOURCES
from encdec_jax.model.config import ExpertConfig
from encdec_jax.model.model import graph
from encdec_jax.model.presets import preset
from encdec_jax.train.axes import decay_mask
from encdec_jax.train.config import OptimConfig, TrainConfig
from encdec_jax.train.optimizer import optimizer
from encdec_jax.train.schedule import hyper
from encdec_jax.train.step import State, make_update, several

UPDATES = 60
pytestmark = pytest.mark.slow


@cache
def shipped() -> FakeCache:
    texts = [doc["targets"] for doc in documents("bible_en", "train")[:2]]
    return FakeCache({"train": {"targets": [[*ByteVocab().encode(text), 1] for text in texts]}})


PARTS: dict[str, dict[str, Any]] = {
    "switch": {"experts": ExpertConfig(4, every=2, capacity=1.25)},
    "dropless": {"experts": ExpertConfig(4, chosen=2, z_loss=1e-3)},
    "softmaxes": {"softmaxes": 3},
    "dropout": {"attention_dropout": 0.1, "residual_dropout": 0.1, "embedding_dropout": 0.1},
    "sinks": {"sinks": True, "tied_kv": True, "rope_share": 0.5},
    "biases": {"attention_bias": "all", "mlp_bias": True, "logit_bias": True, "norm_kind": "layer"},
}
STACK = preset("enc_dec", d_model=32, dec_layers=2, vocab_size=259).decoder
BLOCKS: dict[str, dict[str, Any]] = {  # of Tay et al. 2022
    "stepped": dict.fromkeys(("encoder", "decoder"), replace(STACK, distinct=1)),
    "lightweight": {"position": "none"},
    "dynamic": {"position": "none"},
    "evolved": {},
    "performer": {"random_features": 32},
    "mixer": {"position": "none", "position_rows": 32},
    "funnel": {"encoder": replace(STACK, n_layers=3)},
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{arch: (arch, {}) for arch in ARCHS},
    **{block: (arch, {"block": block}) for block, (arch, _) in BLOCK_SOURCES.items()},
    **{f"{arch}, {name}": (arch, parts) for arch in ("enc_dec", "causal_lm") for name, parts in PARTS.items()},
    **{block: ("enc_dec", {"block": block, **changes}) for block, changes in BLOCKS.items()},
}


@pytest.mark.parametrize(("arch", "changes"), KINDS.values(), ids=KINDS)
def test_its_loss_falls(arch: str, changes: dict[str, Any]) -> None:
    """Below that of the best guess that reads nothing: the frequencies of the bytes."""
    run = RunConfig(
        replace(preset(arch, d_model=32, dec_layers=2, vocab_size=259), **changes),
        DataConfig(length=32),
        ObjectiveConfig("prefix_lm"),
        OptimConfig(lr=1e-2),
        TrainConfig(batch_size=32, tokens=UPDATES * 32 * 32),
    )
    params = parameters(run.model)
    optim = optimizer(run.optim, decay_mask(params))
    state = State(jnp.int32(0), params, optim.init(params))
    batches = Batches(shipped(), run).chunk(0, UPDATES)
    update = jax.jit(several(make_update(run, graph(run.model), optim), UPDATES))
    _, metrics = update(state, batches, hyper(run.optim, UPDATES, run.train.seed), UPDATES)
    counts = np.bincount(np.asarray(batches.labels).reshape(-1), minlength=259)
    shares = counts[counts > 0] / counts.sum()
    guess = -(shares * np.log(shares)).sum()
    assert metrics.loss[0] > guess
    assert metrics.loss[-10:].mean() < guess
