"""The architectures train as they did when `golden.json` was written."""

from __future__ import annotations

import json

import pytest
from golden import ARCHS, FILE, record

RECORDED = json.loads(FILE.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("arch", ARCHS)
def test_three_updates_give_what_they_gave(arch: str, scan: bool) -> None:
    """To what another CPU, or the tests' quick compilation, rounds; `golden.py` compares bit by bit."""
    wanted, found = RECORDED[f"{arch} {'scanned' if scan else 'unrolled'}"], record(arch, scan)
    assert found["losses"] == pytest.approx(wanted["losses"], rel=1e-5)
    assert found["norms"] == pytest.approx(wanted["norms"], rel=1e-4)
