from __future__ import annotations

import pytest

from encdec_jax.compute.devices import DEVICES, device
from encdec_jax.errors import UserError


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_possible(name):
    found = device(name)
    assert found.name == name
    assert 0.9 * found.nominal_bytes < found.memory_bytes <= found.nominal_bytes
    assert found.peak["bfloat16"] >= found.peak["float32"]
    assert 8 < found.peak["float32"] / found.bandwidth < 600  # FLOPs a byte at which memory and compute balance
    assert found.source


def test_unknown_devices_are_refused():
    with pytest.raises(UserError, match="device = 'v5' is not accepted: one of h100-80gb, a100-80gb, v4, v5e"):
        device("v5")
