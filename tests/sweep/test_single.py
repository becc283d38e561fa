"""`encdec train` says what it does: begins, goes on, has nothing to do; how fast, and with which loss."""

from __future__ import annotations

import re

import pytest
from tiny import tiny_run, write_noise

from encdec_jax.sweep import single
from encdec_jax.sweep.single import train_one
from encdec_jax.train.loop import train


@pytest.fixture(autouse=True)
def often(folders, monkeypatch):
    """Lines at every call, and no environment left behind."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setattr(single, "PERIOD", 0.0)
    write_noise()


def test_off_a_terminal_lines_tell_loss_and_speed(folders, capsys):
    assert train_one(tiny_run(), folders / "one") == 0
    out, err = capsys.readouterr()
    assert err.startswith("begins, of 60 updates")
    assert [int(n) for n in re.findall(r"^update (\d+) of 60", err, re.MULTILINE)] == list(range(0, 61, 5))
    first, last = (float(re.findall(r"loss ([\d.]+), [\d.]+k? tokens/s", err)[place]) for place in (0, -1))
    assert last < first
    assert out.startswith("done: 7,680 tokens in 60 updates, ")


def test_a_run_goes_on_and_then_has_nothing_to_do(folders, capsys):
    run, folder = tiny_run(), folders / "one"
    seen = []
    train(run, folder, stop=lambda: len(seen) > 4, progress=seen.append)
    train_one(run, folder)
    assert capsys.readouterr().err.startswith(f"goes on behind update {seen[-1].updates}, of 60 updates")
    assert seen[-1].updates == 20
    train_one(run, folder)
    out, err = capsys.readouterr()
    assert err == "this run had ended already; nothing was done\n"
    assert out.startswith("done: ")
