"""Every run is done exactly once, bitwise as one undisturbed worker does it, whatever happens to the workers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import environment

CHAOS = Path(__file__).with_name("chaos.py")


def figures(folder: Path, *arguments: object) -> dict:
    command = [sys.executable, str(CHAOS), str(folder), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_kills_freezes_wrong_clocks_and_refused_writes(tmp_path):
    found = figures(tmp_path / "runs", "--workers", 8, "--runs", 16, "--steps", 12, "--kills", 12)
    assert found["wrong"] == []
    assert found["kills"] > 5


@pytest.mark.slow
def test_a_thousand_kills(tmp_path):
    """The figures of docs/reliability.md."""
    kills = seed = 0
    while kills < 1000:
        found = figures(tmp_path / f"runs-{seed}", "--workers", 8, "--runs", 200, "--kills", 1000, "--seed", seed)
        assert found["wrong"] == []
        kills, seed = kills + found["kills"], seed + 1


@pytest.mark.slow
def test_the_same_with_the_runs_in_a_bucket(tmp_path, s3):
    given = ("--workers", 8, "--runs", 24, "--steps", 12, "--kills", 30, "--bucket", s3)
    found = figures(tmp_path / "runs", *given)
    assert found["wrong"] == []
    assert found["kills"] > 10


def test_the_page_of_faults_names_tests_that_are_there():
    """And each line of its table names one."""
    root = Path(__file__).parents[2]
    text = (root / "docs/reliability.md").read_text()
    _, table, _ = re.split(r"^## (?:Faults|All of it at once)$", text, flags=re.MULTILINE)
    faults = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(faults) > 40
    for line in faults:
        assert re.search(r"\| (`test_\w+::test_\w+`(, )?)+ \|$", line), line
    for file, test in re.findall(r"`(test_\w+)(?:::(test_\w+))?`", text):
        (found,) = (root / "tests").rglob(f"{file}.py")
        assert not test or f"def {test}(" in found.read_text(), test
