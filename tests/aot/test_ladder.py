"""The page of the ladder, without its compilations."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from encdec_jax.aot.bounds import held
from encdec_jax.aot.topology import topology
from encdec_jax.compute.ledger import count
from encdec_jax.compute.quantities import decode_flops
from encdec_jax.data.geometry import geometry
from encdec_jax.model.choice import resolve
from encdec_jax.train.config import MeshConfig

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


def test_the_page_is_of_todays_ledger(ladder):
    """Its counts, a rung's here, and what the ledger estimates of each compiled row; and no other rows are compiled."""
    page = (ROOT / "docs/ladder.md").read_text().splitlines()
    runs = {(name, family): run for name in ("1m", "150m", "1b", "8b") for family, run in ladder.rung(name).items()}
    assert set(ladder.counts(runs)) <= set(page)
    found = set()
    for place in ladder.COMPILED:
        start = next(i for i, line in enumerate(page) if line.startswith(f"## One update on {place}"))
        rows = [cells(line) for line in page[start : page.index("", start + 2 + page[start + 2 :].index("") + 1)]]
        names, _, *rows = [row for row in rows if len(row) > 2]
        for said in (dict(zip(names, row, strict=True)) for row in rows):
            key = said["rung"], said["family"]
            found.add((key, place))
            run = runs[key]
            mesh = MeshConfig(*map(int, said["mesh (data, fsdp, tensor, sequence)"].split(", ")))
            model = replace(resolve(run.model, topology(place).platform), remat=said["remat"])
            run = replace(run, mesh=mesh, model=model)
            assert said["ledger's estimate"] == ladder.gigabytes(held(run, "train", geometry(run).sequence))
    assert found == {(key, place) for place, keys in ladder.COMPILED.items() for key in keys}
