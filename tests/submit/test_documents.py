"""What docs/clusters.md shows is accepted as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from encdec_jax.cli.main import _parser
from encdec_jax.submit.dispatch import defaults
from encdec_jax.submit.site import site_file

TEXT = (Path(__file__).parents[2] / "docs/clusters.md").read_text()
COMMANDS = re.findall(r"^    (encdec .*)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_accepted(command):
    _, rest = _parser().parse_known_args(shlex.split(command, comments=True)[1:])
    assert rest == []


def test_the_defaults_are_accepted(folders, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folders / "config"))
    (toml,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    site_file().parent.mkdir(parents=True)
    site_file().write_text(toml)
    assert defaults("slurm", {}).gpus == 8
    assert defaults("k8s", {}).tpu == "v5e"
