"""Parameters and FLOPs against the real model's leaves, the real mask, and sums done by hand."""

import math

import jax
import numpy as np
import pytest
from support import SMALL, TWO_STREAMS, concat, example, model_config

from encdec_jax.compute.ledger import count
from encdec_jax.compute.products import SCORES
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.objectives.objective import Means
from encdec_jax.errors import UserError
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.model import initial
from encdec_jax.model.streams import mask, opened
from encdec_jax.train.config import TrainConfig

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
    stacks = 2 if ARCHS[arch].context else 1  # in one block, either sees what the mask shows
    assert shown == 4 * stacks * SMALL.n_layers * SMALL.n_heads * SMALL.head_dim * pairs


@every_arch
def test_random_prefixes_cost_the_mean_over_their_cuts(arch: str) -> None:
    def shown(source: int, target: int) -> int:
        first, second = example(arch, np.ones((1, source), int), np.ones((1, target), int))
        own = int(mask(second, second).sum())
        return own if first is None else own + int(mask(first, first).sum()) + source * target

    flops = count(run_of(model_config(arch), RANDOM, length=6, batch=2)).forward.by("group")
    pairs = sum(part.mask for group, part in flops.items() if group.endswith(SCORES))
    per_pair = 4 * (2 if ARCHS[arch].context else 1) * SMALL.n_layers * SMALL.n_heads * SMALL.head_dim
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


def shorter(segments: Means, share: float) -> Means:
    return tuple((share * source, share * target, number) for source, target, number in segments)


@every_arch
def test_padding_is_counted_apart(arch: str) -> None:
    """Tokens and padding are all that a plain implementation computes; the mask shows padding nothing."""
    run = run_of(model_config(arch, remat="full"))
    full = count(run)
    part = count(run, segments=shorter(full.row.segments, 0.8))
    scored = part.row.held[2]
    assert full.padding.entries == ()
    assert part.train_flops.dense + part.padding.dense == pytest.approx(full.train_flops.dense)
    assert part.recompute.dense == pytest.approx(full.recompute.dense)
    padding, tokens = part.padding.by("group"), full.train_flops.by("group")
    for group, flops in padding.items():
        attends = group.endswith(SCORES)
        left = 1 - scored if group == "output head" else 0.2
        assert flops.mask == pytest.approx(0 if attends else left * tokens[group].mask)
        assert flops.dense == pytest.approx((1 - 0.8**2 if attends else left) * tokens[group].dense)


@pytest.mark.parametrize("arch", ["enc_dec", "prefix_lm"])
def test_packed_and_padded_pairs_are_those_of_the_real_mask(arch: str) -> None:
    """Two pairs of 4 + 3 tokens in a row with room for 16 + 12."""
    pair = [example(arch, np.ones((1, 4), int), np.ones((1, 3), int), segment) for segment in (1, 2)]
    sources, targets = ([two[i] for two in pair] for i in (0, 1))
    target = concat(*targets)
    shown = int(mask(target, target).sum())
    if sources[0] is not None:
        source = concat(*sources)
        shown += int(mask(source, source).sum()) + int(mask(target, opened(source)).sum())
    data = DataConfig(source_length=16, target_length=12)
    run = RunConfig(model_config(arch), data, ObjectiveConfig("seq2seq"), train=TrainConfig(batch_size=1))
    flops = count(run, segments=((4, 3, 2.0),)).forward.by("group")
    found = sum(part.mask for group, part in flops.items() if group.endswith(SCORES))
    assert found == 4 * SMALL.n_layers * SMALL.n_heads * SMALL.head_dim * shown


def test_every_parameter_is_active_where_no_layer_chooses() -> None:
    params = count(run_of(model_config("enc_dec"))).params
    assert params.active == params.total


@every_arch
@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("remat", ["none", "full", "dots"])
def test_no_mask_requires_more_than_all_pairs(arch: str, scan: bool, remat: str) -> None:
    run = run_of(model_config(arch, scan=scan, remat=remat))
    ledger = count(run, segments=shorter(count(run).row.segments, 0.9))
    for flops in (ledger.forward, ledger.train_flops, ledger.recompute, ledger.padding):
        assert all(0 <= entry.mask <= entry.dense for entry in flops.entries)
