"""Mirrors of the metrics may fail, hang or be absent: no run waits for them, and none is lost by them."""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType, SimpleNamespace

import pytest
from event_files import events
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import SessionLog
from test_loop import data
from tiny import environment, tiny_run

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
        log = MetricsLog(folder, 0, None, lambda: None)
        for step in range(1, steps + 1):
            log.write(step=step, loss=1.0, lr=0.1)
        log.close()

    folder.mkdir(exist_ok=True)
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("room", [0, 1, 5])
def test_a_disk_that_is_full_under_tensorboard_ends_it_alone(tmp_path, monkeypatch, said, room):
    """SummaryWriter's thread died of it, its queue filled up, and both the run and then the interpreter hung."""
    left = iter(range(room))

    def full(*_: object) -> None:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventsWriter, "_write_serialized_event", full)
    assert written(tmp_path) == list(range(1, 101))
    assert "tensorboard failed, and the run goes on without it: OSError: [Errno 28]" in said.text


def test_two_attempts_within_a_second_keep_two_files(tmp_path, monkeypatch):
    """The second hides, from TensorBoard, what the first wrote behind the checkpoint that it goes on from."""
    for process, first in ((11, 0), (12, 2)):
        monkeypatch.setattr(mirrors.os, "getpid", lambda process=process: process)
        write, close = mirrors._OPEN["tensorboard"](tmp_path, first)
        write(first + 1, {"loss": 5.0 - first, "lr": 0.25})
        close()
    seen = {path.suffix: list(events(path)) for path in (tmp_path / "tensorboard").iterdir()}
    assert {name: [(one.step, one.session_log.status) for one in of[1:2]] for name, of in seen.items()} == {
        ".11": [(1, SessionLog.START)],
        ".12": [(3, SessionLog.START)],
    }
    scalars = [(one.step, value.tag, value.simple_value) for one in seen[".12"][2:] for value in one.summary.value]
    assert scalars == [(3, "loss", 3.0), (3, "lr", 0.25)]
    assert [one.file_version for one in seen[".12"][:1]] == ["brain.Event:2"]


def test_a_mirror_that_fails_is_said_once_and_left(tmp_path, monkeypatch, said):
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


BEGUN = {  # what W&B's program asks for until a run has begun, and what answers it
    "query Viewer": {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}},
    "query RunResumeStatus": {"model": None},
    "mutation UpsertBucket": {
        "upsertBucket": {
            "bucket": {"id": "x", "name": "abc", "project": {"id": "1", "name": "study", "entity": {"name": "me"}}},
            "inserted": True,
        }
    },
}
RUN = """
import logging
import sys
from pathlib import Path

from encdec_jax.train import mirrors
from encdec_jax.train.metrics import MetricsLog

logging.basicConfig()
mirrors.PATIENCE, mirrors._WANDB["finish_timeout"] = float(sys.argv[2]), 3.0
log = MetricsLog(Path(sys.argv[1]), 0, None, lambda: None)
for step in range(1, 51):
    log.write(step=step, loss=1 / step)
log.close()
"""


@pytest.fixture
def server() -> Iterator[Callable[[bool], str]]:
    """The address of a W&B that answers until a run has begun, or nothing at all."""
    never, found = threading.Event(), []

    def serve(answers: bool) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"])).decode(errors="replace")
                answer = next((BEGUN[name] for name in BEGUN if answers and name in asked), None)
                if answer is None:
                    never.wait()
                    return
                body = json.dumps({"data": answer}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        found.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        found[-1].daemon_threads = True
        threading.Thread(target=found[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{found[-1].server_port}"

    yield serve
    never.set()
    for one in found:
        one.shutdown()
        one.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["offline", "refuses", "silent", "silent once begun"])
def test_wandb_itself_holds_up_no_process(tmp_path, server, backend):
    """The library, with a server that is not there, never answers, or no longer does: the process comes to its end."""
    pytest.importorskip("wandb")
    folder = tmp_path / "study/abc"
    folder.mkdir(parents=True)
    address = "http://127.0.0.1:9" if backend == "refuses" else server(backend == "silent once begun")
    mode = "offline" if backend == "offline" else "online"
    env = environment(
        ENCDEC_MIRRORS="wandb",
        WANDB_MODE=mode,
        WANDB_BASE_URL=address,
        WANDB_API_KEY="0" * 40,
        WANDB_CONFIG_DIR=str(tmp_path),
    )
    opens = backend in ("offline", "silent once begun")
    command = [sys.executable, "-c", RUN, str(folder), "100" if opens else "6"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, 51))
    assert bool(list(folder.glob("wandb/*run-*/run-abc.wandb"))) == opens, ran.stderr
    assert ("wandb did not come to its end: it lacks" in ran.stderr) != opens, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "refuses", "silent"])
def test_trackio_itself_holds_up_no_process(tmp_path, server, backend):
    """The library, on a disk alone, and with a server that is not there or never answers."""
    pytest.importorskip("trackio")
    folder = tmp_path / "study/abc"
    folder.mkdir(parents=True)
    there = {"refuses": "http://127.0.0.1:9", "silent": server(False)}
    env = environment(ENCDEC_MIRRORS="trackio", TRACKIO_DIR=str(tmp_path / "tracked"), TRACKIO_WRITE_TOKEN="x")
    env |= {"TRACKIO_SERVER_URL": there[backend]} if backend in there else {}
    opens = backend != "silent"
    command = [sys.executable, "-c", RUN, str(folder), "100" if opens else "6"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, 51))
    if opens:  # else it may give up in time by itself, or be given up
        assert "trackio did not come to its end" not in ran.stderr, ran.stderr
        with closing(sqlite3.connect(tmp_path / "tracked/study.db")) as kept:
            found = kept.execute("select step, metrics from metrics where run_name = 'abc' order by step").fetchall()
        assert [(step, json.loads(values)["loss"]) for step, values in found] == [(n, 1 / n) for n in range(1, 51)]
