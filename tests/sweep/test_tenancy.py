"""Leases of runs in a bucket: one of many has a run, and who lost it finds out. By moto's S3 server."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny import environment

from encdec_jax.bucket import Bucket
from encdec_jax.files import runs_root
from encdec_jax.sweep import holder
from encdec_jax.sweep import lease as leases
from encdec_jax.sweep.claim import claim, condition, held_by, holders, last_holder
from encdec_jax.sweep.replica import pull_run
from encdec_jax.train.objects import Refused

RUN = "0123456789ab"


class Lost(Exception):
    pass


def lost():
    raise Lost


@pytest.fixture
def folder(s3, monkeypatch):
    monkeypatch.setenv("ENCDEC_RUNS", s3)
    monkeypatch.setattr(leases, "_watched", {})
    return runs_root() / "study" / RUN


@pytest.fixture
def hours(monkeypatch):
    """Lets seconds pass by the clocks that claims ask."""
    ahead = {"awake": 0.0, "watch": 0.0}
    monkeypatch.setattr(leases, "awake", lambda: time.monotonic() + ahead["awake"])
    monkeypatch.setattr(leases, "monotonic", lambda: time.monotonic() + ahead["watch"])
    return ahead


@pytest.fixture
def stranger(monkeypatch):
    """Nobody sees whether a holder has ended: as from another machine."""
    monkeypatch.setattr(holder.Holder, "dead", property(lambda self: False))


def watched_by_another(folder, hours):
    """Another machine asks twice, more than `TTL` apart; gives its lease."""
    assert claim(folder, lost) is None
    hours["watch"] += leases.TTL + 1
    return claim(folder, lost)


def test_of_many_at_once_one_wins(folder):
    with ThreadPoolExecutor(16) as threads:
        won = [lease for lease in threads.map(lambda _: claim(folder, lost), range(16)) if lease]
    assert [lease.number for lease in won] == [1]


def test_what_is_released_is_free_and_the_next_claim_has_the_next_number(folder):
    for number in (1, 2, 3):
        with claim(folder, lost) as lease:
            assert lease.number == number
            pull_run(folder)
            assert condition(folder) == "held"
            assert "whose heart beat" in held_by(folder)
            assert claim(folder, lost) is None
        pull_run(folder)
        assert condition(folder) == "free"
    assert len(holders(folder)) == 3
    assert last_holder(folder) == holder.Holder.this()


def test_who_beats_is_left_alone_and_who_does_not_is_taken_over_by_one(folder, hours, stranger):
    mine = claim(folder, lost)
    assert claim(folder, lost) is None
    hours["watch"] += leases.TTL + 1
    mine.confirm()
    assert claim(folder, lost) is None
    hours["watch"] += leases.TTL + 1
    with ThreadPoolExecutor(16) as threads:
        won = [lease for lease in threads.map(lambda _: claim(folder, lost), range(16)) if lease]
    assert [lease.number for lease in won] == [2]
    with pytest.raises(Lost):
        mine.confirm()


def test_who_slept_goes_on_if_nobody_came_and_else_has_lost(folder, hours, stranger):
    mine = claim(folder, lost)
    hours["awake"] += leases.LIFE + 1
    mine.check()
    theirs = watched_by_another(folder, hours)
    assert theirs.number == 2
    mine.check()  # it beat a moment ago, by its own clock, so nobody can have come
    hours["awake"] += leases.LIFE + 1
    with pytest.raises(Lost):
        mine.check()
    theirs.check()


def test_a_release_that_comes_late_frees_nobody_elses_run(folder, hours, stranger):
    mine = claim(folder, lost)
    mine.__enter__()
    theirs = watched_by_another(folder, hours)
    mine.__exit__(None, None, None)
    pull_run(folder)
    assert condition(folder) == "held"
    theirs.confirm()


def test_a_dead_process_frees_its_run_at_once(folder, s3):
    code = f"""
import os, sys
from encdec_jax.files import runs_root
from encdec_jax.sweep.claim import claim
lease = claim(runs_root() / "study" / "{RUN}", lambda: None).__enter__()
print(lease.number, flush=True)
sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=environment(), text=True, **pipes) as process:
        assert process.stdout.readline() == "1\n"
        assert claim(folder, lost) is None
        process.send_signal(signal.SIGKILL)
    assert claim(folder, lost).number == 2


def test_a_bucket_that_refuses_is_waited_for(folder, hours, monkeypatch):
    monkeypatch.setattr(leases, "LOOK", 0.01)
    mine = claim(folder, lost)
    replace, refusals = Bucket.replace, iter([True] * 3)

    def refuses(self, key, data, tag):
        if next(refusals, False):
            raise OSError("the bucket refuses")
        return replace(self, key, data, tag)

    monkeypatch.setattr(Bucket, "replace", refuses)
    hours["awake"] += leases.LIFE + 1
    mine.check()
    assert next(refusals, False) is False
    monkeypatch.setattr(leases, "IDLE", 0.0)
    refusals = iter([True] * 3)
    with pytest.raises(Refused, match="the bucket refuses"):
        mine.confirm()


def test_a_run_without_progress_has_no_heart(folder, hours, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.01)
    monkeypatch.setattr(leases, "LOOK", 0.01)
    with claim(folder, lost) as lease:
        while lease._content["beat"] < 2:
            time.sleep(0.01)
        hours["awake"] += leases.IDLE + 1
        time.sleep(0.1)
        beats = lease._content["beat"]
        time.sleep(0.2)
        assert lease._content["beat"] == beats
        lease.progressed()
        while lease._content["beat"] == beats:
            time.sleep(0.01)
