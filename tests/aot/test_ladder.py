"""The page of the ladder, without its compilations."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from encdec_jax.compute.ledger import count
from encdec_jax.compute.quantities import decode_flops

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ladder(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.spec_from_file_location("ladder_tool", ROOT / "tools/ladder.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ladder_tool", module)
    spec.loader.exec_module(module)
    return module


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_decoding_is_counted_by_the_token(ladder):
    run = ladder.rung("1m")["causal_lm"]
    names, _, first = (cells(line) for line in ladder.counts({("1m", "causal_lm"): run})[-3:])
    found = float(first[names.index("decode FLOPs a target token")])
    assert found == pytest.approx(decode_flops(run.model, *ladder.LENGTHS) / ladder.LENGTHS[1], rel=0.01)
    assert 2 < found / count(run).params.non_embedding < 6  # 2 a weight, and the attention to 1,024 to 2,048 keys


def test_rows_that_were_not_compiled_anew_are_marked(ladder):
    said = ladder.Said(
        (128, 1, 1, 2), "none", "splash", 128, 2**30, 2**31, 2**32, 3e9, 2**34, 0.0287, 2**20, 0.001, 0.002, (0.5, 0.4)
    )
    new, old = ((family, "v5e:16x16") for family in ("enc_dec-1/2", "causal_lm"))
    rows = {(("150m", family), place): ladder.cells(said) for family, place in (new, old)}
    page = "\n".join(ladder.devices_of(rows))
    kept = ladder.stale(page)
    assert set(kept) == set(rows)
    assert {tuple(row[-5:]) for row in kept.values()} == {(ladder.STALE,) * 5}
    assert {tuple(row[:-5]) for row in kept.values()} == {tuple(ladder.cells(said)[:-5])}
    assert ladder.stale("\n".join(ladder.devices_of(kept))) == kept
    assert any(ladder.STALE in line for line in ladder.head(True))
    assert not any(ladder.STALE in line for line in ladder.head(False))
