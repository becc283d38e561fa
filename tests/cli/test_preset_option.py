"""`encdec count --preset`: published models are counted by name, and what they lack here is said."""

from __future__ import annotations

import json

import pytest

from encdec_jax.cli.main import main
from encdec_jax.model import declare
from encdec_jax.model.param import leaves
from encdec_jax.model.zoo import named


@pytest.mark.parametrize("name", ["t5-base", "roe-330m", "ettin-17m", "t5-efficient-small-el16-dl8"])
def test_a_published_model_is_counted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--preset", name, "--json"]) == 0
    out, err = capsys.readouterr()
    found = named(name)
    assert json.loads(out)["params"]["total"] == sum(p.size for _, p in leaves(declare.model(found.config)))
    assert all(one in err for one in found.lacks)


def test_its_fields_may_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--preset", "ettin-17m", "--config.model.vocab_size=64", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["params"]["groups"]
    assert groups["target embedding"] == 64 * named("ettin-17m").config.decoder.d_model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t5-huge"], "preset = 't5-huge' is not accepted: one of t5-small, "),
        (["t5-base", "configs/base.py"], "CONFIG = 'configs/base.py' is not accepted: none beside --preset"),
    ],
)
def test_what_is_no_preset_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--preset", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
