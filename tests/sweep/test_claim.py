from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from encdec_jax.errors import UserError
from encdec_jax.sweep import lease as leases
from encdec_jax.sweep.claim import claim, condition, held_by, last_holder
from encdec_jax.sweep.holder import Holder
from encdec_jax.sweep.lease import IDLE, LIFE, TTL

DIES = (
    "import sys, os; from pathlib import Path; from encdec_jax.sweep.claim import claim\n"
    "claim(Path(sys.argv[1]), print).__enter__(); os._exit(9)"
)


class Lost(Exception): ...


def lost() -> None:
    raise Lost


def ignore() -> None: ...


@pytest.fixture
def clocks(monkeypatch):
    """What `monotonic` and the clock that goes on in sleep have moved ahead by."""
    ahead = {"monotonic": 0.0, "awake": 0.0}
    monkeypatch.setattr(leases, "monotonic", lambda: time.monotonic() + ahead["monotonic"])
    monkeypatch.setattr(leases, "awake", lambda: time.monotonic() + ahead["awake"])
    return ahead


def foreign(folder, number: int, age: float, **changes: object) -> None:
    """A lease of another machine that shares this one's name, its last heartbeat `age` seconds ago."""
    path = folder / "leases" / f"{number}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(replace(Holder.this(), witness="encdec-witness-elsewhere", **changes))))
    os.utime(path, (time.time() - age,) * 2)


def test_a_run_is_held_by_one(tmp_path):
    assert condition(tmp_path) == "free"
    with claim(tmp_path, ignore):
        assert condition(tmp_path) == "held"
        assert claim(tmp_path, ignore) is None
    assert condition(tmp_path) == "free"
    with claim(tmp_path, ignore):
        assert condition(tmp_path) == "held"


@pytest.mark.parametrize("copy", [shutil.copy, shutil.copy2])
def test_a_copy_of_a_run_is_free_if_the_run_was(tmp_path, copy):
    """Its release was a time of its file, which `cp -r` and stores give anew: three minutes went by for each run."""
    with claim(tmp_path / "run", ignore):
        shutil.copytree(tmp_path / "run", tmp_path / "early", copy_function=copy)
    shutil.copytree(tmp_path / "run", tmp_path / "late", copy_function=copy)
    assert (condition(tmp_path / "early"), condition(tmp_path / "late")) == ("held", "free")
    assert last_holder(tmp_path / "late") == last_holder(tmp_path / "run") is not None
    with claim(tmp_path / "late", ignore) as lease:
        assert lease.number == 2


def test_it_is_released_whatever_ends_the_work(tmp_path):
    with pytest.raises(KeyboardInterrupt), claim(tmp_path, ignore):
        raise KeyboardInterrupt
    assert condition(tmp_path) == "free"


def test_a_dead_process_frees_its_run_at_once_and_leaves_nothing(tmp_path):
    subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False)
    assert condition(tmp_path) == "stale"
    gone = last_holder(tmp_path)
    assert gone.pid != os.getpid()
    assert held_by(tmp_path) == f"process {gone.pid} on {gone.host}, which has ended"
    with claim(tmp_path, ignore):
        assert condition(tmp_path) == "held"
    assert not os.path.exists(f"/tmp/{gone.witness}")


def test_another_users_dead_process_frees_its_run_too(tmp_path, monkeypatch):
    """Its file in /tmp, where nobody removes what is another's, ended the worker with a traceback."""

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False)
    gone = Path("/tmp", last_holder(tmp_path).witness)
    assert gone.stat().st_mode & 0o777 == 0o644
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        with claim(tmp_path, ignore):
            assert condition(tmp_path) == "held"
    gone.unlink()


def test_another_machine_of_one_name_and_pid_is_no_dead_process(tmp_path):
    """Containers share hostnames and pids; that no process here has a pid says nothing of theirs."""
    foreign(tmp_path, 1, age=0, pid=2**22 + 1)
    assert condition(tmp_path) == "held"
    assert claim(tmp_path, ignore) is None


@pytest.mark.parametrize("age", [0, TTL + 20, 7200, -7200])
def test_another_machine_is_believed_while_it_beats_whatever_its_clock(tmp_path, clocks, age):
    """Only a lease that was watched without a change is stale; what hour it shows does not matter."""
    foreign(tmp_path, 1, age)
    assert claim(tmp_path, ignore) is None
    for beat in range(1, 4):
        clocks["monotonic"] += TTL - 20
        foreign(tmp_path, 1, age - beat)
        assert claim(tmp_path, ignore) is None
    clocks["monotonic"] += TTL + 1
    assert claim(tmp_path, ignore) is not None


def test_a_look_says_who_holds_a_run_and_since_when(tmp_path):
    for age, state, words in ((30, "held", "heart beat 30 s ago"), (7200, "stale", "heart beat 7200 s ago")):
        foreign(tmp_path, 1, age, host="far", pid=7)
        assert condition(tmp_path) == state
        assert held_by(tmp_path) == f"process 7 on far, whose {words}"
    foreign(tmp_path, 1, -7200, host="far", pid=7)
    assert condition(tmp_path) == "stale"
    assert held_by(tmp_path) == "process 7 on far, whose clock is 7200 s ahead of this one's"
    assert held_by(tmp_path / "other") == "nobody"


def test_who_lost_the_run_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.05)
    told = threading.Event()
    with claim(tmp_path, told.set) as lease:
        assert not told.wait(0.2)
        foreign(tmp_path, 2, age=0)
        assert told.wait(5)
        told.clear()
        lease.check()  # and whoever wants to write, each time
        assert told.is_set()


def test_who_slept_may_not_write_before_it_knows_that_nobody_came(tmp_path, clocks):
    lease = claim(tmp_path, lost)
    lease.check()
    clocks["awake"] += LIFE + 1
    lease.check()  # nobody came: it goes on, under the next number
    assert sorted(os.listdir(tmp_path / "leases")) == ["1.json", "2.json"]
    clocks["awake"] += LIFE + 1
    foreign(tmp_path, 3, age=0)
    with pytest.raises(Lost):
        lease.check()
    assert lease.number == 1


def test_of_a_sleeper_and_a_thief_one_wins(tmp_path, clocks):
    """Whoever makes the next lease first: the thief finds that there is one, or the sleeper does."""
    sleeper = claim(tmp_path, lost)
    assert claim(tmp_path, lost) is None
    clocks["awake"] += 2 * TTL
    clocks["monotonic"] += 2 * TTL
    sleeper.check()
    assert claim(tmp_path, lost) is None
    clocks["monotonic"] += 2 * TTL
    thief = claim(tmp_path, lost)
    thief.check()
    with pytest.raises(Lost):
        sleeper.check()


def test_a_run_without_progress_has_no_heart(tmp_path, clocks, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.02)

    def beats() -> bool:
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and path.stat().st_mtime == 1:
            time.sleep(0.01)
        return path.stat().st_mtime != 1

    with claim(tmp_path, lost) as lease:
        path = tmp_path / "leases/1.json"
        assert beats()
        clocks["awake"] += IDLE - LIFE
        lease.progressed()
        clocks["awake"] += IDLE
        assert not beats()
        assert os.listdir(tmp_path / "leases") == ["1.json"]  # nor does it renew its claim
        lease.progressed()
        lease.check()  # but it may go on where nobody came
        assert len(os.listdir(tmp_path / "leases")) == 2


def test_a_frozen_process_that_lost_its_run_ends_when_it_thaws(tmp_path):
    """SIGSTOP beyond the lease's life, then SIGCONT: it writes no more, by any thread."""
    code = """
import os, sys, threading, time
from pathlib import Path
from encdec_jax.sweep import lease as leases
from encdec_jax.sweep.claim import claim
leases.BEAT, leases.LIFE = 0.1, 0.5
folder = Path(sys.argv[1])
lease = claim(folder, lambda: os._exit(7)).__enter__()
while True:
    lease.check()
    with (folder / "written").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.001)
"""
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path])
    while not (tmp_path / "written").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    foreign(tmp_path, 2, age=0)
    before = (tmp_path / "written").read_text().count("\n")
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 7
    assert (tmp_path / "written").read_text().count("\n") <= before + 1  # what it was in the middle of


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
