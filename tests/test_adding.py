"""docs/adding-an-architecture.md, followed: its file is run, and its row goes through the identities."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from identities import test_values

from encdec_jax.cli.main import main
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.blocks import BLOCKS

PAGE = (Path(__file__).parents[1] / "docs/adding-an-architecture.md").read_text()
FILE, ROW = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
IDENTITIES = {
    name: function
    for name, function in vars(test_values).items()
    if name.startswith("test_") and "config" in inspect.signature(function).parameters
}
QUICK = ("test_the_declaration_is_the_model", "test_the_ledger_is_what_the_step_computes")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """The page's file, which has been run; what it put into tables is taken out behind the test."""
    path, before = tmp_path / "mine.py", [(table, dict(table)) for table in (BLOCKS, ARCHS)]
    path.write_text(FILE)
    exec(compile(FILE, path, "exec"), {"__name__": "mine"})
    yield path
    for table, held in before:
        table.clear()
        table.update(held)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in IDENTITIES]
)
def test_its_row_goes_through_the_identities(name: str, file: Path) -> None:
    (config,) = eval("{" + ROW + "}", vars(test_values)).values()
    more = {"scan": True} if "scan" in inspect.signature(IDENTITIES[name]).parameters else {}
    IDENTITIES[name](config=config, **more)


def test_its_run_is_counted(file: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["count", str(file)]) == 0
    assert "gates" in capsys.readouterr().out
