"""docs/architectures.md is what its command writes, and its drawings are what models do."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import model_config

from encdec_jax.model.arch import ARCHS, SOURCES
from encdec_jax.tables.architectures import drawing, page, summary


def test_the_page_is_what_its_command_writes() -> None:
    written = (Path(__file__).parents[2] / "docs/architectures.md").read_text()
    assert written == page(), "python tools/architectures.py writes it"


def test_the_table_of_the_readme_is_complete() -> None:
    """`python -c "from encdec_jax.tables.architectures import summary; print(summary())"` gives it."""
    assert f"\n\n{summary()}\n\n" in (Path(__file__).parents[2] / "README.md").read_text()


def test_every_architecture_has_a_source() -> None:
    assert list(SOURCES) == list(ARCHS)


BOTH = ["# # # # . . . . ."] * 4
ONE = [" ".join(["#"] * (i + 1) + ["."] * (8 - i)) for i in range(9)]


@pytest.mark.parametrize(
    ("arch", "rows"),
    [
        ("causal_lm", ONE),
        ("prefix_lm", [*BOTH, *ONE[4:]]),
        ("enc_dec", [*BOTH, *(row.replace("# # # #", "F F F F", 1) for row in ONE[4:])]),
        ("enc_dec_causal", [*ONE[:4], *(row.replace("# # # #", "F F F F", 1) for row in ONE[4:])]),
        ("enc_dec_merged", [*BOTH, *(row.replace("# # # #", "F F F F", 1) for row in ONE[4:])]),
        ("coordinated", [*BOTH, *(row.replace("# # # #", "L L L L", 1) for row in ONE[4:])]),
    ],
)
def test_a_drawing_shows_who_sees_whom(arch: str, rows: list[str]) -> None:
    found = drawing(model_config(arch)).splitlines()
    assert [line.split("  ")[1] for line in found] == rows
    assert [line.split("  ")[0] for line in found] == ["source"] * 4 + ["target"] * 5
