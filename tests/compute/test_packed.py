"""What packed pairs cost: counted from the batches themselves, token by token and pair by pair, and by the ledger."""

from dataclasses import replace

import numpy as np
import pytest
from support import model_config

from encdec_jax.compute.ledger import count
from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.batches import Batches
from encdec_jax.data.cache import write_cache
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.model.declare import model
from encdec_jax.model.param import leaves
from encdec_jax.model.streams import Stream
from encdec_jax.sweep.cost import cost
from encdec_jax.train.config import TrainConfig

DATA = DataConfig("pairs", source_length=64, target_length=48)
every_arch = pytest.mark.parametrize("arch", ["causal_lm", "prefix_lm", "enc_dec", "coordinated"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cache of pairs of very different lengths, as texts have them."""
    folder, rng = tmp_path_factory.mktemp("cache"), np.random.default_rng(0)
    lengths = np.minimum(rng.gamma(2, 10, (3000, 1)) * rng.uniform(0.6, 1.4, (3000, 2)) + 1, 60).astype(int)
    pairs = [tuple(np.full(n, 100) for n in row) for row in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENCDEC_CACHE", str(folder))
        return folder, write_cache("pairs", ByteVocab(), ("inputs", "targets"), {"train": pairs})


@pytest.fixture(autouse=True)
def cache(folder, monkeypatch):
    monkeypatch.setenv("ENCDEC_CACHE", str(folder[0]))
    return folder[1]


def run_of(arch: str, data: DataConfig = DATA, batch: int = 4) -> RunConfig:
    return RunConfig(
        model_config(arch, vocab_size=259), data, ObjectiveConfig("seq2seq"), train=TrainConfig(batch_size=batch)
    )


def shown(query: Stream, key: Stream) -> int:
    """Pairs of one segment whose key is open, or not behind the query."""
    same = (query.segment[:, :, None] == key.segment[:, None, :]) & (query.segment[:, :, None] > 0)
    return int((same & (key.open[:, None, :] | (key.position[:, None, :] <= query.position[:, :, None]))).sum())


def measured(run: RunConfig, cache) -> tuple[float, float]:
    """Training FLOPs of an update, the mean over the batches of an epoch: on tokens, and what padding adds."""
    batches, config = Batches(cache, run), run.model
    tokens, padding, pairs = {"source": 0, "target": 0}, {"source": 0, "target": 0}, 0
    steps = batches.epoch // batches.rows
    for step in range(steps):
        batch = batches(step)
        given = {"source": batch.source, "target": batch.target}
        for name, stream in given.items():
            if stream is not None:
                tokens[name] += int((stream.segment > 0).sum())
                padding[name] += int((stream.segment == 0).sum())
        for query in given.values():
            for key in given.values():
                if query is not None and key is not None and (query is not batch.source or key is batch.source):
                    pairs += shown(query, key)
    layer = config.decoder
    declared = [p for path, p in leaves(model(config)) if p.matmul and path[0] != "head"]
    head = 2 * config.vocab_size * layer.d_model

    def weights(positions: dict[str, int]) -> float:
        each = sum(2 * p.size * positions[stream] for p in declared for stream in p.sees)
        return each + head * positions["target"]  # of pairs, every position of the target stream gets logits

    attention = 4 * layer.n_layers * layer.n_heads * layer.head_dim * pairs
    return 3 * (weights(tokens) + attention) / steps, 3 * weights(padding) / steps


@pytest.mark.parametrize("packing", ["apart", "joined"])
@every_arch
def test_the_ledger_counts_what_the_batches_hold(arch, packing, cache):
    if packing == "joined" and arch in ("enc_dec", "coordinated"):
        pytest.skip("rows with one room are for one stream")
    run = run_of(arch, replace(DATA, packing=packing))
    tokens, padding = measured(run, cache)
    ledger = count(run)
    assert ledger.train_flops.mask == pytest.approx(tokens, rel=5e-3)
    assert ledger.padding.mask == pytest.approx(padding, rel=5e-3, abs=5e-3 * tokens)
    full = count(run, segments=((64, 48, 1.0),))  # one pair a row
    assert full.train_flops.mask > 1.02 * tokens


@every_arch
def test_budgets_are_matched_in_what_the_batches_hold(arch, cache):
    (run,) = match([run_of(arch)], train_flops=1e10, min_updates=10)
    spent = cost(run)
    assert spent.updates * measured(run, cache)[0] == pytest.approx(1e10, rel=0.025)
    assert spent.train_flops_padded > spent.train_flops_dense > spent.train_flops


def test_long_pairs_are_counted_as_they_are_packed(cache):
    data = DataConfig("pairs", source_length=32, target_length=24)
    dropped, split = (run_of("enc_dec", replace(data, long=long)) for long in ("drop", "split"))
    for run in (dropped, split):
        assert count(run).train_flops.mask == pytest.approx(measured(run, cache)[0], rel=5e-3)
    assert count(dropped).train_flops != count(split).train_flops


def test_costs_are_those_of_the_tokens_that_are_there(tmp_path, monkeypatch):
    """Not of those that a process saw before."""
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path))
    found = []
    for length in (5, 20):
        pair = tuple(np.full(length, 100) for _ in range(2))
        write_cache("pairs", ByteVocab(), ("inputs", "targets"), {"train": [pair] * 40})
        found.append(cost(run_of("enc_dec")).train_flops)
    assert found[0] != found[1]


def test_pairs_whose_tokens_are_not_there_are_not_guessed():
    with pytest.raises(UserError, match="encdec prepare --task nothing"):
        cost(run_of("enc_dec", replace(DATA, task="nothing")))
