"""Mirrors of the metrics may fail, hang or be absent: no run waits for them, and none is lost by them."""

from __future__ import annotations

import json
import logging
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest
from tensorboardX.event_file_writer import EventsWriter
from test_loop import data
from tiny import tiny_run

from encdec_jax.errors import UserError
from encdec_jax.train import mirrors
from encdec_jax.train.loop import train
from encdec_jax.train.metrics import MetricsLog
from encdec_jax.train.mirrors import asked

__all__ = ["data"]


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("encdec_jax"), "propagate", True)
    return caplog


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(mirrors, "ROOM", 20)
    monkeypatch.setattr(mirrors, "PATIENCE", 0.2)


def written(folder, steps: int = 100) -> list[int]:
    """The steps in metrics.jsonl after writing them, in a thread that is given up on when it hangs."""

    def write() -> None:
        log = MetricsLog(folder, 0, None)
        for step in range(1, steps + 1):
            log.write(step=step, loss=1.0, lr=0.1)
        log.close()

    folder.mkdir(exist_ok=True)
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_of_tensorboard_that_died_of_a_full_disk_hangs_nothing(tmp_path, monkeypatch, hasty, said):
    """Its queue of ten filled up, and the run waited for ever while its lease went on beating."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventsWriter, "_write_serialized_event", full)
    assert written(tmp_path) == list(range(1, 101))
    assert "tensorboard lags 20 entries behind" in said.text
    assert "tensorboard did not come to its end" in said.text


def test_a_mirror_that_fails_is_said_once_and_left(tmp_path, monkeypatch, hasty, said):
    def refused(folder, first_step):
        raise ConnectionError("no network\nhere")

    monkeypatch.setitem(mirrors._OPEN, "tensorboard", refused)
    assert written(tmp_path) == list(range(1, 101))
    assert [record.getMessage() for record in said.records] == [
        "tensorboard failed, and the run goes on without it: ConnectionError: no network"
    ]


def test_a_mirror_that_hangs_as_it_opens_is_given_up_on(tmp_path, monkeypatch, hasty, said):
    never = threading.Event()
    monkeypatch.setitem(mirrors._OPEN, "tensorboard", lambda folder, first_step: never.wait())
    assert written(tmp_path, 5) == [1, 2, 3, 4, 5]
    assert "tensorboard did not come to its end: it lacks 6 entries" in said.text or "it lacks 5" in said.text


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_gets_what_the_files_get(data, monkeypatch, name):
    """Loaded only when asked for, and told which run it is, so that a restart goes on with it."""
    seen, begun = [], {}
    fake = ModuleType(name)
    fake.__spec__ = SimpleNamespace(name=name)
    handle = SimpleNamespace(log=lambda values, step: seen.append((step, values)), finish=lambda: seen.append("end"))
    fake.init = lambda **told: begun.update(told) or handle
    monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setenv("ENCDEC_MIRRORS", f"{name}, tensorboard")
    train(tiny_run(updates=12), data / "study/abc")
    lines = [json.loads(line) for line in (data / "study/abc/metrics.jsonl").read_text().splitlines()]
    assert seen[-1] == "end"
    assert [(step, values["loss"]) for step, values in seen[:-1]] == [(line["step"], line["loss"]) for line in lines]
    assert (begun["project"], begun["name"], begun["resume"]) == ("study", "abc", "allow")
    assert list((data / "study/abc/tensorboard").glob("events*"))


def test_a_mirror_that_is_not_there_is_refused_before_anything_is_spent(data, monkeypatch):
    monkeypatch.setenv("ENCDEC_MIRRORS", "tensorbord")
    with pytest.raises(UserError, match=r"ENCDEC_MIRRORS = 'tensorbord' is not accepted: .*tensorboard, wandb"):
        train(tiny_run(), data / "run")
    monkeypatch.setenv("ENCDEC_MIRRORS", "wandb")
    monkeypatch.setattr(mirrors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is not installed here"):
        train(tiny_run(), data / "run")
    assert not (data / "run").exists()
    monkeypatch.setenv("ENCDEC_MIRRORS", "")
    monkeypatch.setattr(mirrors.importlib.util, "find_spec", lambda name: name)
    assert asked() == ("tensorboard",)
