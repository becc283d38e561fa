"""What README shows is run: its Python as it stands, its commands as far as their arguments."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import tiny_run, write_noise

from encdec_jax.cli.main import _parser
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.model.blocks import BLOCKS as BLOCKS_OF_LAYERS
from encdec_jax.model.blocks import standard
from encdec_jax.train.loop import train

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"^    (encdec .*?)(?:\s+#.*)?$", TEXT, re.MULTILINE)


def test_the_python_of_the_readme_runs(folders, monkeypatch, capsys):
    """One block after the other, each in under 20 lines."""
    write_noise()
    monkeypatch.chdir(folders)
    (folders / "experiments").symlink_to(ROOT / "experiments")
    (place,) = re.findall(r'restore\("(.*?)"\)', TEXT)
    train(tiny_run("enc_dec"), folders / place)
    monkeypatch.setitem(BLOCKS_OF_LAYERS, "gained", standard)  # README's own, which is taken out behind the test
    names: dict[str, object] = {}
    for block in BLOCKS:
        assert len(block.splitlines()) < 20
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    for bits in printed[-3:-1]:  # of models that have learnt nothing, the second one with a sublayer of its own
        assert abs(float(bits) - np.log2(ByteVocab.size)) < 2
    assert printed[-3] != printed[-2]
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(names["gradient"]))
    assert 0 < len(printed[-1]) <= 40


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_are_accepted(command, folders, monkeypatch):
    write_noise("bible_en")  # which a preview without a configuration asks for its vocabulary
    monkeypatch.chdir(ROOT)
    whole = re.sub(r"[\[\]]", "", command)  # with what is optional
    options, rest = _parser().parse_known_args(shlex.split(whole)[1:])
    if options.takes_config:
        options.given(options, rest)
    else:
        assert rest == []
