"""The wheel, installed where neither the repository nor the extras are."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from encdec_jax import __version__

ROOT = Path(__file__).parents[1]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "encdec_jax", "configs")


def needed(found: Distribution, extras: frozenset[str] = frozenset({""})) -> dict[str, Distribution]:
    """The distributions that one requires, and those that these require, as they are installed here."""
    every: dict[str, Distribution] = {}
    due = [(found, extras)]
    while due:
        one, extras = due.pop()
        for requirement in map(Requirement, one.requires or ()):
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
                continue
            if requirement.name not in every:
                every[requirement.name] = distribution(requirement.name)
                due.append((every[requirement.name], frozenset({"", *requirement.extras})))
    return every


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of a new environment's commands; it holds the wheel, and of what is installed here what it requires."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / "source" / name) if (folder / "source").exists() else None
    return folder
