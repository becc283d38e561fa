from __future__ import annotations

import importlib.util

import pytest

from encdec_jax.aot import topology as module
from encdec_jax.aot.topology import topology
from encdec_jax.compute.devices import device
from encdec_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "size", "platform"),
    [
        ("v5e:16x16", 256, "tpu"),
        ("v5p:8x8x8", 512, "tpu"),
        ("v6e:1x1", 1, "tpu"),
        ("v4:2x2x2", 16, "tpu"),
        ("h100:8", 8, "gpu"),
        ("a100:16", 16, "gpu"),
        ("h100:2", 2, "gpu"),
    ],
)
def test_sizes(name, size, platform):
    found = topology(name)
    assert (found.size, found.platform) == (size, platform)


def test_a_v4_chip_is_two_devices_of_half_of_everything():
    whole, half = device("v4"), topology("v4:2x2x1").device
    assert half.memory_bytes == whole.memory_bytes / 2
    assert half.peak["bfloat16"] == whole.peak["bfloat16"] / 2


@pytest.mark.parametrize("name", ["v7:2x2", "v5e", "v5e:3x4", "v5e:4x4x4", "v5e:0x4", "v5e:32x32", "h100:12", "h100:0"])
def test_what_does_not_exist_is_refused(name):
    with pytest.raises(UserError, match=f"topology = '{name}' is not accepted"):
        topology(name)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, extra in (("v5e:2x2", "tpu"), ("h100:8", "gpu")):
        with pytest.raises(UserError, match=rf"needs the extra \[{extra}\]: in a checkout, pip install '.\[{extra}\]'"):
            module.devices(topology(name))
