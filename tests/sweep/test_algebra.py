from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny import tiny_run

from encdec_jax.config import to_dict
from encdec_jax.errors import UserError
from encdec_jax.sweep.algebra import axis, chain, grid, override, zipped
from encdec_jax.sweep.cost import cost
from encdec_jax.sweep.identity import run_id


def test_the_last_factor_turns_fastest():
    assert grid(axis("a", 1, 2), axis("b", 3, 4)) == [
        {"a": 1, "b": 3},
        {"a": 1, "b": 4},
        {"a": 2, "b": 3},
        {"a": 2, "b": 4},
    ]


def test_they_compose():
    both = zipped(axis("a", 1, 2), axis("b", 3, 4))
    assert both == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    assert chain(both, axis("a", 9)) == [*both, {"a": 9}]
    assert len(grid(both, axis("c", 0, 1), chain(axis("d", 1), axis("d", 2)))) == 8


def test_mistakes_are_named():
    with pytest.raises(UserError, match="sweep field = 'a' is not accepted"):
        grid(axis("a", 1), axis("a", 2))
    with pytest.raises(UserError, match=r"zipped lengths = \[2, 1\] is not accepted"):
        zipped(axis("a", 1, 2), axis("b", 3))


def test_override_replaces_fields_all_at_once():
    run = override(tiny_run(), {"optim.lr": 1, "model.decoder.n_heads": 4, "model.decoder.n_kv_heads": 2})
    assert (run.optim.lr, run.model.decoder.n_heads, run.model.decoder.n_kv_heads) == (1.0, 4, 2)
    assert isinstance(run.optim.lr, float)
    assert tiny_run().optim.lr == 1e-2


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optim.rate", 1.0, "config field 'optim.rate' is unknown; accepted here: name, lr"),
        ("optimizer.lr", 1.0, "config field 'optimizer.lr' is unknown: accepted for 'optimizer' are model, data"),
        ("optim.lr.peak", 1.0, "config field 'optim.lr.peak' can't be set: optim.lr = 0.01 has no fields"),
        ("optim.lr", -1.0, "optim.lr = -1.0 is not accepted: above 0"),
        ("optim.lr", "fast", "optim.lr = 'fast' is not accepted: a value of type float"),
        ("model.decoder.n_kv_heads", 3, "n_kv_heads = 3 is not accepted: a divisor of n_heads"),
    ],
)
def test_override_refuses(path, value, message):
    with pytest.raises(UserError) as caught:
        override(tiny_run(), {path: value})
    assert message in str(caught.value)


def test_numpys_numbers_are_numbers():
    """In every type of field, overridden or given to the classes; they overflow, so none may reach the ledger."""
    changes = {
        "optim.lr": np.float32(0.5),
        "train.seed": np.int64(3),
        "train.tokens": np.float64(1e6),
        "model.qk_norm": np.bool_(True),
        "data.task": np.str_("noise"),
        "budget_flops": np.int32(7),
    }
    plain = {path: value.item() for path, value in changes.items()}
    run = override(tiny_run(), changes)
    given = replace(
        tiny_run(),
        optim=replace(tiny_run().optim, lr=changes["optim.lr"]),
        train=replace(tiny_run().train, seed=changes["train.seed"]),
        budget_flops=changes["budget_flops"],
    )
    assert run == override(tiny_run(), plain)
    assert run_id(run) == run_id(override(tiny_run(), plain))
    json.dumps([to_dict(run), to_dict(given)])
    wide = replace(tiny_run().model.decoder, d_model=np.int32(2**16), d_ff=np.int32(2**16))
    model = replace(tiny_run().model, decoder=wide)
    assert cost(replace(tiny_run(), model=model)).n_params > 2**33
