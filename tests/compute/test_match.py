"""Matched runs spend their budget; what can't be met is refused in one line."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import SMALL, model_config

from encdec_jax.compute.ledger import count
from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import UserError
from encdec_jax.model.arch import ARCHS
from encdec_jax.train.config import MeshConfig, TrainConfig

HALVES, RANDOM = ObjectiveConfig("prefix_lm"), ObjectiveConfig("prefix_lm", prefix="random")


def run_of(arch: str, objective: ObjectiveConfig = HALVES, batch: int = 4, accumulate: int = 1) -> RunConfig:
    train = TrainConfig(batch_size=batch, accumulate=accumulate)
    return RunConfig(model_config(arch), DataConfig(length=32), objective, train=train)


def spent(run: RunConfig) -> tuple[int, float]:
    n = geometry(run).updates
    return n, n * count(run).train_flops.mask


@given(
    arch=st.sampled_from(list(ARCHS)),
    objective=st.sampled_from([HALVES, RANDOM, ObjectiveConfig("span_corruption")]),
    plenty=st.floats(1, 200),
    rows=st.integers(1, 40),
    accumulate=st.integers(1, 3),
    min_updates=st.integers(1, 400),
)
def test_every_run_spends_the_budget(
    arch: str, objective: ObjectiveConfig, plenty: float, rows: int, accumulate: int, min_updates: int
) -> None:
    run = run_of(arch, objective, rows * 2 * accumulate, accumulate)
    smallest = count(run_of(arch, objective, 2 * accumulate, accumulate)).train_flops.mask
    budget = plenty * max(min_updates, 25) * smallest
    (matched,) = match([run], train_flops=budget, min_updates=min_updates)
    n, flops = spent(matched)
    assert n >= min_updates
    assert abs(flops / budget - 1) <= 0.02
    assert matched.budget_flops == budget
    assert matched.train.batch_size <= run.train.batch_size
    assert matched.train.tokens == n * matched.train.batch_size * 32
    changed = replace(run.train, tokens=matched.train.tokens, batch_size=matched.train.batch_size)
    assert matched == replace(run, train=changed, budget_flops=budget)


def test_the_batch_is_halved_only_as_far_as_updates_need() -> None:
    runs = [run_of("enc_dec", batch=batch) for batch in (1, 2, 4, 12)]
    one = count(runs[0]).train_flops.mask
    assert [r.train.batch_size for r in match(runs, train_flops=500 * 12 * one)] == [1, 2, 4, 12]
    assert [r.train.batch_size for r in match(runs, train_flops=500 * 3.5 * one)] == [1, 2, 2, 3]
    assert [r.train.batch_size for r in match(runs, train_flops=500 * one)] == [1, 1, 1, 1]


def test_rows_stay_whole_on_every_device_and_in_every_microbatch() -> None:
    run = replace(run_of("enc_dec", RANDOM, batch=72, accumulate=2), mesh=MeshConfig(data=2, fsdp=3))
    one = count(replace(run, train=replace(run.train, batch_size=24))).train_flops.mask
    assert match([run], train_flops=500 * one)[0].train.batch_size == 24
    with pytest.raises(UserError, match=r"train\.batch_size = 32 is not accepted: a multiple of 24"):
        match([replace(run, train=replace(run.train, batch_size=32))], train_flops=500 * one)


def test_few_updates_are_made_more_until_the_budget_is_met() -> None:
    run = run_of("causal_lm", batch=64)
    budget = 1.4 * count(run).train_flops.mask
    (matched,) = match([run], train_flops=budget, min_updates=1)
    assert abs(spent(matched)[1] / budget - 1) <= 0.02
    assert matched.train.batch_size < 64


def test_a_budget_too_small_for_a_size_is_refused() -> None:
    big = replace(SMALL, d_model=512)
    runs = [run_of("causal_lm"), replace(run_of("causal_lm"), model=model_config("causal_lm", decoder=big))]
    budget = 500 * count(runs[0]).train_flops.mask
    with pytest.raises(UserError, match=r"^train_flops = .* at least .* causal_lm with d_model 512 and 2 layers$"):
        match(runs, train_flops=budget)
    with pytest.raises(UserError, match="train_flops = 1 is not accepted"):
        match(runs, train_flops=1)


def test_the_least_budget_that_is_named_is_enough() -> None:
    run = run_of("enc_dec", RANDOM)
    with pytest.raises(UserError) as refused:
        match([run], train_flops=1e3, min_updates=3)
    least = float(str(refused.value).split("at least ")[1].split(",")[0])
    for more in (1, 1.017, 1.9):
        assert match([run], train_flops=more * least, min_updates=3)


@pytest.mark.parametrize(
    ("field", "value"), [("train_flops", 0.0), ("train_flops", float("inf")), ("min_updates", 0), ("tolerance", 0.0)]
)
def test_impossible_wishes_are_refused(field: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{field} = {value!r} is not accepted"):
        match([run_of("enc_dec")], **{"train_flops": 1e12, field: value})


def test_random_cuts_are_never_left_half_a_pair() -> None:
    run = run_of("prefix_lm", RANDOM, batch=6)
    one = count(run_of("prefix_lm", RANDOM, batch=2)).train_flops.mask / 2
    assert [m.train.batch_size for m in match([run], train_flops=500 * 3.5 * one)] == [2]
    with pytest.raises(UserError, match=r"500 updates at batch size 2"):
        match([run], train_flops=500 * one)
