from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encdec_jax.errors import UserError
from encdec_jax.train.config import OptimConfig
from encdec_jax.train.optimizer import optimizer
from encdec_jax.train.schedule import hyper, learning_rate


def curve(updates: int = 100, **optim) -> np.ndarray:
    made = OptimConfig(lr=2.0, **optim)
    return np.array([learning_rate(made.schedule, hyper(made, updates, 0), jnp.int32(step)) for step in range(updates)])


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "rsqrt", "constant"])
def test_all_rise_linearly_to_the_peak(schedule):
    seen = curve(schedule=schedule, warmup=0.1)
    np.testing.assert_allclose(seen[:10], 2.0 * np.arange(1, 11) / 10, rtol=1e-6)
    assert seen.max() == seen[9]


def test_cosine_ends_at_the_final_share():
    seen = curve(schedule="cosine", warmup=0.1, final=0.05)
    assert seen[-1] == pytest.approx(0.1)
    assert seen[54] == pytest.approx(2 * (0.05 + 0.95 / 2), rel=1e-5)  # half-way behind the warm-up
    assert (np.diff(seen[9:]) < 0).all()


def test_wsd_is_stable_then_decays():
    seen = curve(schedule="wsd", warmup=0.1, decay=0.2, final=0.0)
    assert (seen[9:80] == 2).all()
    np.testing.assert_allclose(np.diff(seen[80:]), -0.1, rtol=1e-4)
    assert seen[-1] == 0


def test_rsqrt_falls_with_the_root_of_the_updates():
    seen = curve(schedule="rsqrt", warmup=0.1)
    assert seen[39] == pytest.approx(1.0)  # four times the warm-up


def test_updates_are_counted_beyond_what_float32_can_count():
    """2^24 is the last whole number before its successor is lost: a long run's last updates come one by one."""
    made = OptimConfig(lr=1.0, schedule="wsd", warmup=0.0, decay=100 / 18_000_003, final=0.0)
    numbers = hyper(made, 18_000_003, 0)
    rates = np.array([learning_rate("wsd", numbers, jnp.int32(18_000_003 - left)) for left in range(101, 0, -1)])
    np.testing.assert_allclose(rates, np.arange(100, -1, -1) / 100, rtol=1e-6)


@pytest.mark.parametrize("warmup", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("updates", [1, 2, 3, 5, 11, 100])
def test_wsd_reaches_its_rate(warmup, updates):
    assert curve(updates, schedule="wsd", warmup=warmup, decay=1 - warmup).max() == 2


def test_a_decay_that_begins_in_the_warm_up_is_refused():
    with pytest.raises(UserError, match=r"optim.decay = 0.5 is not accepted: at most 1 - optim.warmup = 0.1"):
        OptimConfig(schedule="wsd", warmup=0.9, decay=0.5)


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "rsqrt", "constant"])
@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_each_field_changes_the_update_or_is_refused(name, schedule):
    """Else runs that are one computation would have two ids."""

    def computed(optim: OptimConfig) -> object:
        made, params = optimizer(optim, {"w": True}), {"w": jnp.ones((2, 3))}
        update = jax.make_jaxpr(made.update)(params, made.init(params), params)
        numbers = hyper(optim, 20, 0)
        return str(update), [float(learning_rate(schedule, numbers, jnp.int32(step))) for step in (0, 3, 12, 19)]

    base, refused = OptimConfig(name, schedule=schedule), {}
    others = {"lr": 0.1, "warmup": 0.3, "decay": 0.4, "final": 0.3, "b1": 0.5, "b2": 0.5, "eps": 0.1}
    for field, value in {**others, "weight_decay": 0.1, "clip_norm": 0.0}.items():
        try:
            other = replace(base, **{field: value})
        except UserError as error:
            refused[field] = str(error)
        else:
            assert computed(other) != computed(base), field
    for field, message in refused.items():
        assert f"optim.{field} = " in message
        assert f"is not accepted: {getattr(base, field)}, because" in message


def test_numbers_are_arguments():
    """Runs that differ in them share one trace, and so one compilation."""
    import jax

    traces = []

    @jax.jit
    def rate(numbers, step):
        traces.append(None)
        return learning_rate("cosine", numbers, step)

    for lr, updates in ((1.0, 10), (2.0, 50)):
        rate(hyper(OptimConfig(lr=lr), updates, 0), jnp.int32(3))
    assert len(traces) == 1
