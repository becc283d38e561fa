"""Runs that begin at others' parameters: one identity for all paths of one, what waits for what, what can never be."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tiny import SUMMARY, SWEEP, encdec, tiny_run, write_experiment, write_noise

from encdec_jax.config import to_dict
from encdec_jax.errors import UserError
from encdec_jax.sweep.check import check_data
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.identity import run_id
from encdec_jax.sweep.waiting import states, told_of, waits
from encdec_jax.train.folder import finished

SECOND = """
from dataclasses import replace

from tiny import tiny_run

from encdec_jax.sweep.identity import run_id

QUESTION, BASELINE, CONFOUNDERS, PREDICTIONS = "Does tuning work?", "causal_lm", {}, []


def runs():
    for d_model in (8, 16):
        first = tiny_run(d_model=d_model)
        yield replace(first, train=replace(first.train, seed=1, init_from=BEGINNING))
"""


def second(folders, beginning: str):
    return load(write_experiment(folders / "second", SECOND.replace("BEGINNING", beginning)))


def end(folder, run, status: str = "done") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(to_dict(run)))
    (folder / "summary.json").write_text(json.dumps({**SUMMARY, "status": status, "suffix_bits_per_byte": 2.0}))


def keep(folder, update: int) -> None:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / f"checkpoints/manifest-{update}-0-of-1.json").write_text("{}")


def test_one_beginning_has_one_identity_however_it_is_written(folders, monkeypatch):
    def run(given):
        return replace(tiny_run(), train=replace(tiny_run().train, init_from=str(given)))

    absolute = folders / "runs/single/0123456789ab"
    absent = run_id(run("single/0123456789ab"))
    end(absolute, tiny_run())
    (folders / "link").symlink_to(folders / "runs")
    ways = (
        absolute,
        "runs/single/0123456789ab",
        "single/../single/0123456789ab/",
        folders / "link/single/0123456789ab",
    )
    assert {run_id(run(way)) for way in ways} == {absent} != {run_id(tiny_run())}
    at = {run_id(run(f"{way}/checkpoints/{name}")) for way in ways for name in ("20", "lease2_20")}
    assert len(at) == 1
    assert at != {absent}
    end(folders / "exported/first", tiny_run())
    outside = {run_id(run(way)) for way in ("exported/first", "./exported/first", folders / "exported/first")}
    end(folders / "runs/exported/first", tiny_run())
    assert len(outside) == 1
    assert run_id(run(folders / "runs/exported/first")) not in outside
    end(folders / "mine", run(absolute))
    assert finished(run("single/0123456789ab"), folders / "mine")["status"] == "done"
    with pytest.raises(UserError, match=r"holds another run: train\.init_from is 'single/0123456789ab' there"):
        finished(run("exported/first"), folders / "mine")
    monkeypatch.chdir(folders / "runs/single")
    assert run_id(run("0123456789ab")) == absent


def test_what_begins_at_a_planned_run_waits_for_it(folders):
    write_noise()
    write_experiment(folders / "first")
    study = second(folders, '"first/" + run_id(first)')
    found = states(study)
    check_data(study)
    assert {state.status for state in found.values()} == {"waiting"}
    assert all(state.left_alone and not state.ended for state in found.values())
    assert told_of(study, found) == "waiting: 2 runs begin at runs that are not done: 2 of first"
    small, large = study.runs
    folder = folders / "runs" / study.runs[small].train.init_from
    assert found[small].reason == f"for first/{folder.name}: pending"
    end(folder, tiny_run())
    assert [state.status for state in states(study).values()] == ["pending", "waiting"]
    assert (waits(study, small), waits(study, large)) == (None, folder.with_name(run_id(tiny_run(d_model=16))))
    end(folder, tiny_run(), "diverged")
    with pytest.raises(UserError, match=f"run {small}: train.init_from = '.*' is not accepted: a run that has not div"):
        check_data(study)
    end(study.run_folder(small), study.runs[small])  # what has ended needs its beginning no more
    with pytest.raises(UserError, match="digest"):
        check_data(study)


def test_what_begins_at_a_planned_run_finds_its_experiment_by_its_name(folders):
    write_noise()
    broken = "QUESTION = BASELINE = CONFOUNDERS = PREDICTIONS = NAME = 1 / 0"
    write_experiment(folders / "a", broken)
    write_experiment(folders / "b", "raise SystemExit('NAME: of no experiment')")
    write_experiment(folders / "studies/deep", 'NAME = "of/another"\n' + SWEEP)
    write_experiment(folders / "of/another", 'NAME = "elsewhere"\n' + SWEEP)
    study = second(folders, '"of/another/" + run_id(first)')
    check_data(study)
    assert {state.status for state in states(study).values()} == {"waiting"}
    assert told_of(study, states(study)) == "waiting: 2 runs begin at runs that are not done: 2 of of/another"
    (folders / "studies/deep/sweep.py").write_text('NAME = "renamed"\n' + SWEEP)
    with pytest.raises(UserError, match=r"train\.init_from = '.*' is not accepted: .*that an experiment here plans"):
        check_data(study)


def test_what_begins_at_a_checkpoint_waits_for_that_alone(folders):
    write_noise()
    write_experiment(folders / "first")
    study = second(folders, '"first/" + run_id(first) + "/checkpoints/20"')
    small, _ = study.runs
    folder = folders / "runs/first" / run_id(tiny_run())
    assert waits(study, small) == folder
    keep(folder, 40)
    assert waits(study, small) == folder
    keep(folder, 20)
    assert waits(study, small) is None
    (folder / "checkpoints/manifest-20-0-of-1.json").unlink()
    end(folder, tiny_run())
    with pytest.raises(UserError, match=r"train\.init_from = '.*' is not accepted: a checkpoint that is there: 40"):
        check_data(study)


def test_runs_wait_for_those_of_their_own_experiment(folders):
    write_noise()
    both = SECOND.replace("        yield replace", "        yield first\n        yield replace")
    study = load(write_experiment(folders / "both", both.replace("BEGINNING", '"both/" + run_id(first)')))
    check_data(study)
    first, then, *_ = study.runs
    assert {state.status for state in states(study).values()} == {"pending"}
    assert (waits(study, first), waits(study, then)) == (None, study.run_folder(first))
    (study.run_folder(first)).mkdir(parents=True)
    (study.run_folder(first) / "error.txt").write_text("no")
    assert waits(study, then) is None  # the run itself says what is wrong


@pytest.mark.parametrize(
    ("beginning", "said"),
    [
        ('"nowhere"', "the folder of a run, as it stands or below ENCDEC_RUNS, .*; or a run that an experiment here"),
        ('"first/0123456789ab"', "or a run that an experiment here plans"),
        ('"second/0123456789ab"', "or a run that an experiment here plans"),
        ('"first/" + run_id(tiny_run(d_model=24 - d_model))', r"the same architecture and shape: parameter .* is \("),
        ('"converted"', r"a run that is done; of one that is not, a checkpoint: converted/checkpoints/0"),
    ],
)
def test_what_can_never_begin_is_refused_before_anything_is_spent(folders, beginning, said):
    write_noise()
    write_experiment(folders / "first")
    keep(folders / "runs/converted", 0)
    (folders / "runs/converted/config.json").write_text(json.dumps(to_dict(tiny_run())))
    with pytest.raises(UserError, match=rf"sweep.py: run .*: train\.init_from = '.*' is not accepted: .*{said}"):
        check_data(second(folders, beginning))


@pytest.mark.slow
def test_a_study_goes_on_where_another_has_ended(folders):
    write_noise()
    write_experiment(folders / "first")
    second(folders, '"first/" + run_id(first)')
    line = "waiting: 2 runs begin at runs that are not done: 2 of first"
    planned, early = encdec("plan", "second"), encdec("run", "second", "-j", "1")
    assert planned.returncode == 0
    assert line in planned.stdout
    assert early.returncode == 1
    assert early.stderr.splitlines()[-1] == line
    assert encdec("run", "first", "-j", "1").returncode == 0
    late = encdec("run", "second", "-j", "1")
    assert late.returncode == 0
    assert "second: 2 runs: 2 done" in late.stdout
