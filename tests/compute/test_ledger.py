"""Parameters and FLOPs against the real model's leaves, the real mask, and sums done by hand."""

import json
import math
from dataclasses import replace
from io import StringIO

import jax
import numpy as np
import pytest
from rich.console import Console
from support import SMALL, TWO_STREAMS, example, model_config

from encdec_jax.compute.ledger import CONVENTION, SCORES, count
from encdec_jax.compute.table import count_json, print_count
from encdec_jax.config import DataConfig, ModelConfig, ObjectiveConfig, RunConfig, StackConfig, TrainConfig
from encdec_jax.errors import UserError
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.model import initial
from encdec_jax.model.streams import mask, opened

HALVES, RANDOM = ObjectiveConfig("prefix_lm"), ObjectiveConfig("prefix_lm", prefix="random")
CAUSAL = ObjectiveConfig("causal_lm")
every_arch = pytest.mark.parametrize("arch", ARCHS)


def run_of(config: ModelConfig, objective: ObjectiveConfig = HALVES, length: int = 10, batch: int = 6) -> RunConfig:
    return RunConfig(config, DataConfig(length=length), objective, train=TrainConfig(batch_size=batch))


@pytest.mark.parametrize("tie", ["all", "inputs", "decoder", "none"])
@every_arch
def test_groups_add_up_to_the_leaves_of_the_model(arch: str, tie: str) -> None:
    config = model_config(arch, tie=tie)
    shapes = jax.eval_shape(lambda key: initial(config, key), jax.random.key(0))
    params = count(run_of(config)).params
    assert params.total == sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    tables = [shapes[name]["table"] for name in ("source_embed", "embed", "head") if name in shapes]
    assert params.total - params.non_embedding == sum(math.prod(table.shape) for table in tables)


def test_a_decoder_by_hand() -> None:
    """2 layers of d 8, 2 heads of 4 with 1 key head, SwiGLU 16, vocabulary 32; 3 rows of 10 tokens, causal."""
    stack = StackConfig(n_layers=2, d_model=8, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=16)
    ledger = count(run_of(ModelConfig("causal_lm", 32, stack), CAUSAL, batch=3))
    attention = 8 * 8 + 2 * 8 * 4 + 8 * 8
    assert ledger.params.groups == {
        "target embedding": 32 * 8,
        "norms": 2 * 2 * 8 + 8,
        "decoder self-attention": 2 * attention,
        "MLPs": 2 * 3 * 8 * 16,
    }
    weights = 2 * 3 * 10 * 2 * (attention + 3 * 8 * 16)
    head = 2 * 3 * 10 * 32 * 8
    assert ledger.forward.dense == weights + head + 3 * 2 * 4 * 8 * 100
    assert ledger.forward.mask == weights + head + 3 * 2 * 4 * 8 * 55
    assert ledger.train_flops.mask == 3 * ledger.forward.mask
    assert ledger.recompute.dense == 0


def test_an_encoder_decoder_by_hand() -> None:
    """A source of 5 through 1 layer of d 6, a target of 5 through 1 layer of d 8; the head at 5 positions."""
    encoder = StackConfig(n_layers=1, d_model=6, n_heads=1, n_kv_heads=1, head_dim=2, d_ff=10)
    decoder = StackConfig(n_layers=1, d_model=8, n_heads=2, n_kv_heads=2, head_dim=4, d_ff=16)
    ledger = count(run_of(ModelConfig("enc_dec", 32, decoder, encoder, mlp="gelu", tie="decoder"), batch=1))
    flops = {name: (part.mask, part.dense) for name, part in ledger.forward.by("group").items()}
    assert flops["encoder self-attention"] == (2 * 5 * 4 * 6 * 2,) * 2
    assert flops["encoder self-attention" + SCORES] == (4 * 2 * 25,) * 2
    assert flops["decoder self-attention" + SCORES] == (4 * 8 * 15, 4 * 8 * 25)
    assert flops["cross-attention"] == (2 * 5 * (2 * 8 * 8 + 2 * 6 * 8),) * 2
    assert flops["cross-attention" + SCORES] == (4 * 8 * 25,) * 2
    assert flops["MLPs"] == (2 * 5 * (2 * 6 * 10 + 2 * 8 * 16),) * 2
    assert flops["output head"] == (2 * 5 * 32 * 8,) * 2
    source = ledger.forward.by("stream")["source"].dense
    assert source == 2 * 5 * (4 * 6 * 2 + 2 * 6 * 10 + 2 * 6 * 8) + 4 * 2 * 25
    assert ledger.forward.dense == sum(dense for _, dense in flops.values())


@every_arch
def test_mask_flops_are_the_pairs_of_the_real_mask(arch: str) -> None:
    source, target = example(arch, np.ones((1, 5), int), np.ones((1, 5), int))
    pairs = int(mask(target, target).sum())
    if source is not None:
        pairs += int(mask(source, source).sum()) + int(mask(target, opened(source)).sum())
    flops = count(run_of(model_config(arch), batch=1)).forward.by("group")
    shown = sum(part.mask for group, part in flops.items() if group.endswith(SCORES))
    assert shown == 4 * SMALL.n_layers * SMALL.n_heads * SMALL.head_dim * pairs


@every_arch
def test_random_prefixes_cost_the_mean_over_their_cuts(arch: str) -> None:
    def shown(source: int, target: int) -> int:
        first, second = example(arch, np.ones((1, source), int), np.ones((1, target), int))
        own = int(mask(second, second).sum())
        return own if first is None else own + int(mask(first, first).sum()) + source * target

    flops = count(run_of(model_config(arch), RANDOM, length=6, batch=2)).forward.by("group")
    pairs = sum(part.mask for group, part in flops.items() if group.endswith(SCORES))
    per_pair = 4 * SMALL.n_layers * SMALL.n_heads * SMALL.head_dim
    assert pairs / per_pair == pytest.approx(2 * np.mean([shown(k, 6 - k) for k in range(1, 6)]))


def test_equal_functions_cost_the_same_but_for_keys_projected_twice() -> None:
    """prefix_lm(source ++ target) = coordinated(source, target)."""
    prefix, coordinated = (count(run_of(model_config(arch))) for arch in ("prefix_lm", "coordinated"))
    keys = 2 * SMALL.n_layers * 2 * SMALL.d_model * SMALL.n_kv_heads * SMALL.head_dim * 5 * prefix.rows
    assert coordinated.forward.mask - prefix.forward.mask == keys
    assert coordinated.params == prefix.params


@every_arch
def test_flops_grow_with_the_batch_and_split_without_remainder(arch: str) -> None:
    one, three = (count(run_of(model_config(arch), RANDOM, batch=batch)) for batch in (2, 6))
    assert three.train_flops.mask == pytest.approx(3 * one.train_flops.mask)
    assert three.train_flops.dense == 3 * one.train_flops.dense
    for key in ("group", "stream"):
        parts = three.train_flops.by(key).values()
        assert sum(part.dense for part in parts) == three.train_flops.dense
    assert three.train_flops.mask <= three.train_flops.dense


def test_remat_is_counted_apart() -> None:
    none, dots, full = (count(run_of(model_config("enc_dec", remat=remat))) for remat in ("none", "dots", "full"))
    assert none.train_flops == dots.train_flops == full.train_flops
    assert 0 == none.recompute.dense < dots.recompute.dense < full.recompute.dense < full.forward.dense
    assert all(group.endswith(SCORES) for group in dots.recompute.by("group"))


@pytest.mark.parametrize("arch", TWO_STREAMS)
def test_a_batch_that_fills_no_whole_rows_is_refused(arch: str) -> None:
    with pytest.raises(UserError, match=r"train\.batch_size = 3 is not accepted: a multiple of 2"):
        count(run_of(model_config(arch), RANDOM, batch=3))


def test_json_is_of_one_row_and_adds_up() -> None:
    run = replace(run_of(model_config("enc_dec")), train=TrainConfig(tokens=1000, batch_size=6))
    ledger, data = count(run), json.loads(json.dumps(count_json(run)))
    assert data["params"] == {
        "total": ledger.params.total,
        "non_embedding": ledger.params.non_embedding,
        "groups": ledger.params.groups,
    }
    step = data["flops"]["train_step"]
    assert (step["mask"] * 6, step["dense"] * 6) == (ledger.train_flops.mask, ledger.train_flops.dense)
    assert sum(part["mask"] for part in step["groups"].values()) == pytest.approx(step["mask"])
    assert set(step["streams"]) == {"source", "target"}
    assert data["lengths"] == {"windows": 1, "source": 5, "target": 5, "scored": 5}
    assert data["run"]["updates"] == 17
    assert data["run"]["train_flops"]["mask"] == 17 * ledger.train_flops.mask
    assert data["convention"] == CONVENTION


@every_arch
def test_the_table_prints_every_group_and_the_totals(arch: str) -> None:
    console = Console(width=140, record=True, file=StringIO())
    run = replace(run_of(model_config(arch, remat="full")), budget_flops=1e9)
    print_count(run, console)
    text, ledger = console.export_text(), count(run)
    for expected in (*ledger.params.groups, *ledger.train_flops.by("group"), "distance from the budget", "recomputed"):
        assert expected in text
    assert f"{ledger.params.total:,}" in text
    assert f"{ledger.train_flops.mask:.4g}" in text
