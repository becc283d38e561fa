"""A loss on the source (Zhang et al. 2022): whoever sees no more of it than what precedes can predict it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from support import SMALL, example, logits, model_config, parameters, tokens
from traced import abstract_batch, computed

from encdec_jax.compute.ledger import count
from encdec_jax.compute.witness import flops
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig, Part
from encdec_jax.data.geometry import geometry
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import Frame
from encdec_jax.data.packing import assemble
from encdec_jax.errors import UserError
from encdec_jax.evaluate.fair import row_nats
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.model import graph
from encdec_jax.train.config import TrainConfig
from encdec_jax.train.step import forward

S, T = 7, 5
APART = [name for name, arch in ARCHS.items() if arch.own_stream and not arch.source_open]
HALVES = ObjectiveConfig("prefix_lm", source_loss=True)
OBJECTIVES = {
    "halves": HALVES,
    "random cuts": replace(HALVES, prefix="random"),
    "middles": ObjectiveConfig("fill_in_the_middle", source_loss=True),
    "mixed": ObjectiveConfig("mixture", parts=(Part(1.0, HALVES), Part(1.0, ObjectiveConfig("span_corruption")))),
}


def test_a_source_of_its_own_is_predicted_as_one_stream_predicts_it() -> None:
    """`causal_lm_top` has the parameters of `causal_lm`, and its source's pass is that of `causal_lm`."""
    apart, joined = (model_config(arch) for arch in ("causal_lm_top", "causal_lm"))
    source, target = tokens(0, 2, S), tokens(1, 2, T)
    params = parameters(joined)
    both = logits(apart, params, *example("causal_lm_top", source, target), S + T)
    alone = logits(joined, params, *example("causal_lm", source, target), S + T)
    np.testing.assert_allclose(both[:, :S], alone[:, :S], atol=2e-5, rtol=1e-5)
    assert np.abs(both[:, S:] - alone[:, S:]).max() > 1e-3


@pytest.mark.parametrize("arch", APART)
def test_no_position_of_a_source_sees_what_it_predicts(arch: str) -> None:
    config = model_config(arch, tie="inputs")
    params = parameters(config)
    source, target = example(arch, np.arange(S)[None], S + np.arange(T)[None])

    @jax.jit
    @jax.jacrev
    def scores(table: jax.Array) -> jax.Array:
        changed = jax.tree.map(lambda leaf: leaf, params)
        changed["embed"]["table"][...] = table
        return logits(config, changed, source, target, S + T)[0] @ jax.random.normal(jax.random.key(3), (64,))

    seen = np.abs(scores(params["embed"]["table"][...])).max(axis=-1)[:, : S + T]
    assert (seen[np.tril_indices(S + T)] > 1e-8).all()
    assert (seen[np.triu_indices(S + T, 1)] == 0).all()


@pytest.mark.parametrize(("arch", "scan"), [(APART[0], True), (APART[1], False), (APART[2], True)])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_ledger_is_what_the_step_computes(arch: str, scan: bool, name: str) -> None:
    train = TrainConfig(batch_size=4, accumulate=2 if name == "halves" else 1)
    run = RunConfig(model_config(arch, scan=scan), DataConfig(length=12), OBJECTIVES[name], train=train)
    ledger, model, batch = count(run), graph(run.model), abstract_batch(run)
    params = jax.eval_shape(partial(parameters, run.model))
    padding = ledger.padding.dense
    passed = flops(lambda params, batch: forward(model, params, batch, row_nats)[0], params, batch)
    assert passed == pytest.approx(ledger.forward.dense + padding / 3, rel=1e-12)
    assert computed(run) == pytest.approx(ledger.train_flops.dense + padding, rel=1e-12)
    assert (padding > 0) == (name == "mixed")


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("arch", APART)
def test_two_streams_predict_what_one_does(arch: str, name: str) -> None:
    """At each position of each window: the same label, with the same weight."""
    data, objective = DataConfig(length=12), objective_of(OBJECTIVES[name])
    windows = np.random.default_rng(0).integers(3, 60, (4, 13)).astype(np.int32)
    frame = Frame(80, marks={"prefix": 70, "suffix": 71, "middle": 72, "end": 73}, ordinary=(3, 60), windows=4)
    segments = objective.view(windows, np.arange(4), 0, frame)
    found = []
    for kind in (ARCHS[arch], ARCHS["causal_lm"]):
        layout = objective.layout(kind, data)
        batch = assemble(kind, layout, np.arange(4) // layout.windows, 4 // layout.windows, segments)
        streams = [stream for stream in (batch.source, batch.target) if stream is not None]
        row, segment, position = (
            np.concatenate([part(stream) for stream in streams], axis=1)[:, -layout.scored :]
            for part in (lambda s: np.indices(s.segment.shape)[0], lambda s: s.segment, lambda s: s.position)
        )
        kept = batch.weights > 0
        window = row * layout.windows + segment - 1
        found.append(sorted(zip(window[kept], position[kept], batch.labels[kept], batch.weights[kept], strict=True)))
    assert found[0] == found[1]
    assert len(found[0]) > 12


def test_what_cannot_predict_its_source_is_refused() -> None:
    accepted = "objective.source_loss = True is not accepted: false, because the source sees all of itself"
    for arch in (name for name, one in ARCHS.items() if one.source_open):
        with pytest.raises(UserError, match=accepted):
            RunConfig(model_config(arch), DataConfig(length=12), HALVES)
    wide = model_config("enc_dec_causal", encoder=replace(SMALL, d_model=8), tie="decoder")
    with pytest.raises(UserError, match=r"model\.encoder\.d_model = 8 is not accepted: model\.decoder\.d_model = 16"):
        geometry(RunConfig(wide, DataConfig(length=12), HALVES))
