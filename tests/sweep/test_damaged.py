"""One damaged run is one row, with its file's name and what to do; every verb goes on with the others."""

from __future__ import annotations

import io
import json
import os
import time

import pytest
from rich.console import Console
from tiny import SUMMARY, write_experiment, write_noise

from encdec_jax.cli.main import main
from encdec_jax.errors import UserError
from encdec_jax.submit import gang
from encdec_jax.sweep import lease as leases
from encdec_jax.sweep import results, worker
from encdec_jax.sweep.claim import claim
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.launch import _say_waits
from encdec_jax.sweep.lease import TTL, create
from encdec_jax.sweep.store import run_state
from encdec_jax.sweep.worker import work
from encdec_jax.train.summary import read_summary

DONE = {**SUMMARY, "status": "done", "suffix_bits_per_byte": 3.0}
DAMAGED = [
    "",
    '{"status": "done"',
    "[]",
    "null",
    "3",
    "{}",
    '"done"',
    "\x00\xff",
    json.dumps({**DONE, "status": "finished"}),
    json.dumps({**DONE, "status": ["done"]}),
    json.dumps({**DONE, "tokens_seen": "many"}),
    json.dumps({**DONE, "tokens_seen": -1}),
    json.dumps({**DONE, "updates": 2**70}),
    json.dumps({**DONE, "suffix_bits_per_byte": None}),
    json.dumps({**DONE, "suffix_bits_per_byte": float("nan")}),
    json.dumps({**DONE, "wall_s": float("inf")}),
    json.dumps({**DONE, "versions": []}),
    json.dumps({**DONE, "train_loss": "low"}),
    json.dumps({**DONE, "execution": [3]}),
    json.dumps({**DONE, "wall_s": 10**400}),
    "[" * 100_000,
    json.dumps({**DONE, "execution": [{"mesh.data": {}}]}),
]


@pytest.fixture
def study(folders):
    """Of four runs: two done, and two whose folders a test damages."""
    write_noise()
    experiment = load(write_experiment(folders / "study"))
    for identity in list(experiment.runs)[:2]:
        folder = experiment.run_folder(identity)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({**DONE, "cache_digest": "d"}))
    return experiment


@pytest.mark.parametrize("text", DAMAGED)
def test_a_summary_is_believed_whole_or_not_at_all(tmp_path, text):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(DONE))
    assert read_summary(path) == DONE
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"summary\.json is damaged: remove it, and the run goes on \(.+\)$") as caught:
        read_summary(path)
    assert "\n" not in str(caught.value)
    state = run_state(tmp_path)
    assert (state.status, state.ended, state.reason) == ("damaged", True, str(caught.value))


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "error.txt"])
def test_a_folder_in_the_place_of_a_file_is_damage(tmp_path, name):
    (tmp_path / name).mkdir()
    state = run_state(tmp_path)
    assert state.status == "damaged"
    assert f"{tmp_path / name} is damaged: remove it" in state.reason or f"{name}: Is a directory" in state.reason


def test_a_file_in_the_place_of_a_run_keeps_no_worker_from_the_others(study, monkeypatch):
    first, second, third, fourth = map(study.run_folder, study.runs)
    third.write_text("")
    fourth.mkdir()
    (fourth / "leases").write_text("")
    begun = []

    def train(run, folder, **_):
        begun.append(folder)
        (folder / "summary.json").write_text(json.dumps(DONE))
        return DONE

    work(study, train, stop=lambda: False)
    assert begun == []
    assert {run_state(folder).status for folder in (first, second)} == {"done"}
    assert run_state(third).status == "damaged"
    assert run_state(fourth).status == "failed"
    assert "can't claim a run in" in run_state(fourth).reason
    (fourth / "leases").unlink()
    (fourth / "error.txt").unlink()
    work(study, train, stop=lambda: False)
    assert begun == [fourth]


def test_a_run_whose_folder_takes_nothing_keeps_nobody_from_the_others(study, monkeypatch):
    """Another user's: it can't be claimed, nor is there room to say so."""
    *_, third, fourth = map(study.run_folder, study.runs)
    begun = []

    def refused(folder, lost):
        if folder == third:
            raise UserError(f"can't claim a run in {folder}: Permission denied")
        return claim(folder, lost)

    def refuse(folder, error, check=None):
        raise UserError(f"can't write {folder}/error.txt: Permission denied")

    def train(run, folder, **_):
        begun.append(folder)
        (folder / "summary.json").write_text(json.dumps(DONE))
        return DONE

    for room in (worker, gang):
        monkeypatch.setattr(room, "claim", refused)
        monkeypatch.setattr(room, "write_error", refuse)
    place, lease = gang._next(study, list(study.runs))
    assert place == 3
    with lease:
        pass
    with pytest.raises(UserError, match=f"can't claim a run in {third}: Permission denied"):
        work(study, train, stop=lambda: False)
    assert begun == [fourth]
    with pytest.raises(UserError, match=f"can't claim a run in {third}: Permission denied"):
        gang._next(study, list(study.runs))


def test_who_loses_a_run_while_it_writes_its_error_leaves_its_successors(study, monkeypatch):
    frozen = []

    def train(run, folder, **_):
        monkeypatch.setattr("encdec_jax.files.os.fsync", freeze)
        frozen.append(folder)
        raise RuntimeError("too late")

    def freeze(handle):  # and meanwhile another comes, and fails
        create(frozen[0] / "leases" / "2.json")
        (frozen[0] / "error.txt").write_text("its own error")

    def vanish():
        raise Vanished

    monkeypatch.setattr(worker, "_vanish", vanish)
    monkeypatch.setattr(leases, "BEAT", 1e6)
    monkeypatch.setattr(leases, "LOOK", 1e6)  # its heart has not looked yet
    with pytest.raises(Vanished):
        work(study, train, stop=lambda: False)
    assert (frozen[0] / "error.txt").read_text() == "its own error"


class Vanished(BaseException):
    pass


@pytest.mark.parametrize("text", ["", "[]", "null", json.dumps({**DONE, "status": "finished"})])
def test_every_verb_shows_a_damaged_run_and_goes_on(study, capsys, monkeypatch, text):
    monkeypatch.setattr("encdec_jax.sweep.check._check_ended", lambda *_: None)  # the tests' digests are no tokens'
    third, fourth = list(study.runs)[2:]
    for identity in (third, fourth):
        study.run_folder(identity).mkdir()
    (study.run_folder(third) / "summary.json").write_text(text)
    (study.run_folder(fourth) / "error.txt").write_text("no luck")
    damaged = f"{study.run_folder(third) / 'summary.json'} is damaged: remove it, and the run goes on"

    def said(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, str(study.folder)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, " ".join(out.split()), err

    code, out, _ = said("status")
    assert code == 0
    assert sorted(out.rpartition("study: 4 runs: ")[2].split(", ")) == ["1 damaged", "1 failed", "2 done"]
    assert "is damaged" in out
    assert said("plan")[0] == 0
    code, _, err = said("collect")
    assert (code, err.count("\n")) == (2, 1)
    assert "is not finished: 1 failed, 1 damaged of 4 runs" in err
    code, out, err = said("report")
    assert code == 0, err
    table = results.collect(study)
    assert dict(table.select("run_id", "status").iter_rows())[third] == "damaged"
    assert len(table) == 4
    assert table.filter(run_id=third)["error"][0].startswith(damaged)


def test_status_names_who_holds_a_stale_run(study, capsys):
    folder = study.run_folder(list(study.runs)[2])
    with claim(folder, lambda: None) as lease:
        stale = time.time() - TTL - 60
        os.utime(folder / f"leases/{lease.number}.json", (stale, stale))
        state = run_state(folder)
    assert state.status == "stale"
    assert state.reason.startswith(f"held by process {os.getpid()} on ")
    assert state.reason.endswith("s ago")


def test_whoever_waits_says_for_whom_and_how_long_at_most(study):
    third, fourth = list(study.runs)[2:]
    folder = study.run_folder(third)
    with claim(folder, lambda: None) as lease:
        lease_file = folder / f"leases/{lease.number}.json"
        lease_file.write_text(json.dumps({**json.loads(lease_file.read_text()), "host": "far", "pid": 7}))
        os.utime(lease_file, (time.time() + 7200,) * 2)
        states = {identity: run_state(study.run_folder(identity)) for identity in study.runs}
        told: set[str] = set()
        printed = io.StringIO()
        for _ in range(2):
            _say_waits(study, states, [], Console(file=printed, width=200), told)
    (line,) = printed.getvalue().splitlines()
    assert line.startswith(f"{third} waits for process 7 on far, whose clock is 7")
    assert line.endswith("ahead of this one's; it is taken over 180 s after its heart's last beat")
    assert fourth not in told
