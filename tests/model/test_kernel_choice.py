"""The kernel of a model's attention: the fastest that the platform has and the model allows."""

from __future__ import annotations

import logging
from dataclasses import replace

import jax
import pytest
from support import model_config
from tiny import tiny_run

from encdec_jax.errors import UserError
from encdec_jax.model.choice import choose, resolve
from encdec_jax.train.trainer import Trainer


@pytest.mark.parametrize(
    ("platform", "dtype", "kernel"),
    [
        ("cpu", "float32", "plain"),
        ("tpu", "float32", "splash"),
        ("gpu", "bfloat16", "cudnn"),
        ("gpu", "float32", "plain"),
        ("cuda", "bfloat16", "cudnn"),
    ],
)
def test_auto_is_the_fastest_that_can(platform, dtype, kernel):
    wide = replace(model_config("enc_dec").decoder, head_dim=64)
    config = model_config("enc_dec", decoder=wide, encoder=wide, dtype=dtype)
    assert resolve(config, platform) == replace(config, attention=kernel)


def test_a_fallback_has_a_reason():
    reason = choose(model_config("causal_lm", dtype="bfloat16"), "gpu").reason
    assert reason is not None
    assert "a head_dim of at most 128, a multiple of 8, and this model has 6" in reason
    assert choose(model_config("causal_lm"), "cpu").reason is None


def test_training_says_which_it_is(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("encdec_jax"), "propagate", True)  # the command line takes it away
    with caplog.at_level("INFO"):
        Trainer(tiny_run(), jax.devices()[:1])
    assert "attention: plain, on cpu" in caplog.text


@pytest.mark.parametrize("kernel", ["splash", "cudnn"])
def test_a_named_kernel_that_cannot_is_refused(kernel):
    with pytest.raises(UserError, match=f"model.attention = '{kernel}' is not accepted: .* the device is a cpu"):
        resolve(model_config("causal_lm", attention=kernel), "cpu")
    assert resolve(model_config("causal_lm", attention="plain"), "tpu").attention == "plain"
