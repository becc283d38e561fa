from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from encdec_jax.errors import UserError
from encdec_jax.sweep import claim as claims
from encdec_jax.sweep.claim import TTL, claim, condition, last_holder
from encdec_jax.sweep.holder import Holder


def ignore() -> None: ...


def foreign(folder, number: int, age: float) -> None:
    """A lease of another machine, its last heartbeat `age` seconds ago."""
    path = folder / "leases" / f"{number}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(replace(Holder.this(), host="elsewhere"))))
    os.utime(path, (time.time() - age,) * 2)


def test_a_run_is_held_by_one(tmp_path):
    assert condition(tmp_path) == "free"
    with claim(tmp_path, ignore):
        assert condition(tmp_path) == "held"
        assert claim(tmp_path, ignore) is None
    assert condition(tmp_path) == "free"
    with claim(tmp_path, ignore):
        assert condition(tmp_path) == "held"


def test_it_is_released_whatever_ends_the_work(tmp_path):
    with pytest.raises(KeyboardInterrupt), claim(tmp_path, ignore):
        raise KeyboardInterrupt
    assert condition(tmp_path) == "free"


def test_a_dead_process_frees_its_run_at_once(tmp_path):
    code = (
        "import sys, os; from pathlib import Path; from encdec_jax.sweep.claim import claim\n"
        "claim(Path(sys.argv[1]), print).__enter__(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert condition(tmp_path) == "stale"
    assert last_holder(tmp_path).pid != os.getpid()
    with claim(tmp_path, ignore):
        assert condition(tmp_path) == "held"


def test_another_machine_is_believed_while_it_beats(tmp_path):
    foreign(tmp_path, 1, age=TTL - 20)
    assert condition(tmp_path) == "held"
    assert claim(tmp_path, ignore) is None
    foreign(tmp_path, 1, age=TTL + 20)
    assert condition(tmp_path) == "stale"
    assert claim(tmp_path, ignore) is not None


def test_who_lost_the_run_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.05)
    told = threading.Event()
    with claim(tmp_path, told.set):
        assert not told.wait(0.2)
        foreign(tmp_path, 2, age=0)
        assert told.wait(5)


def test_of_many_at_once_one_wins(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from encdec_jax.sweep.claim import claim\n"
        "while time.time() < float(sys.argv[2]): pass\n"
        "lease = claim(Path(sys.argv[1]), print)\n"
        "print(lease is not None, flush=True); time.sleep(2)"
    )
    at = str(time.time() + 2)
    racers = [subprocess.Popen([sys.executable, "-c", code, tmp_path, at], stdout=subprocess.PIPE) for _ in range(6)]
    won = [racer.communicate()[0].strip() == b"True" for racer in racers]
    assert won.count(True) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't claim a run in .*file"):
        claim(tmp_path / "file", ignore)
