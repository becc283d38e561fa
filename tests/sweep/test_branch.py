"""Branches: several points of a curve by one trajectory, bitwise what they would be without it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from tiny import encdec, tiny_run, write_experiment, write_noise

from encdec_jax.config import RunConfig
from encdec_jax.data.config import ObjectiveConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import UserError
from encdec_jax.sweep import launch
from encdec_jax.sweep.branch import branches, graft, paid, taken
from encdec_jax.sweep.check import check_costs
from encdec_jax.sweep.cost import cost
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.identity import run_id
from encdec_jax.sweep.results import load as load_table
from encdec_jax.sweep.speed import elapsed
from encdec_jax.sweep.store import RunState
from encdec_jax.train.config import OptimConfig
from encdec_jax.train.schedule import hyper, learning_rate

SWEEP = """
from dataclasses import replace

from tiny import tiny_run

from encdec_jax.sweep.branch import branches
from encdec_jax.sweep.cost import cost
from encdec_jax.train.config import OptimConfig

QUESTION, BASELINE, CONFOUNDERS, PREDICTIONS = "Do branches work?", "causal_lm", {}, []


def runs():
    for d_model in (8, 16):
        run = replace(tiny_run(d_model=d_model), optim=OptimConfig(lr=1e-2, schedule="wsd"))
        update = cost(run).train_flops / 60
        yield from branches(run, [30 * update, 60 * update])
"""

ALONE = """
studied = runs


def runs():
    branch = next(run for run in studied() if run.train.trunk)
    yield replace(branch, train=replace(branch.train, trunk=""))
"""


def wsd(**train: object) -> RunConfig:
    return replace(tiny_run(**train), optim=OptimConfig(lr=1e-2, schedule="wsd"))


def made(run: RunConfig | None = None, updates: tuple[int, ...] = (20, 35, 60)) -> list[RunConfig]:
    run = run or wsd()
    update = cost(run).train_flops / geometry(run).updates
    return branches(run, [n * update for n in updates])


def rates(run: RunConfig) -> np.ndarray:
    updates = geometry(run).updates
    numbers = hyper(run.optim, updates, 0)
    return np.array([learning_rate("wsd", numbers, step) for step in range(updates)])


def test_a_branch_is_its_trunk_until_its_rate_falls():
    trunk, *others = made()
    assert [geometry(one).updates for one in (trunk, *others)] == [60, 20, 35]
    assert [taken(one, trunk) for one in others] == [15, 25]  # 16 and 28, by whole calls of 5 updates
    for one in others:
        n = taken(one, trunk)
        assert np.array_equal(rates(one)[:n], rates(trunk)[:n])
        assert rates(one)[-1] < rates(trunk)[geometry(one).updates - 1]
        alone = replace(one, train=replace(one.train, trunk=""))
        assert run_id(alone) == run_id(one) != run_id(trunk)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: replace(run, optim=replace(run.optim, lr=2e-2)), "a run that differs in"),
        (lambda run: replace(run, train=replace(run.train, seed=1)), "a run that differs in"),
        (
            lambda run: replace(run, optim=replace(run.optim, warmup=0.5)),
            "as many updates of warm-up: 6 there, 10 here",
        ),
        (
            lambda run: replace(run, optim=replace(run.optim, warmup=0.5), train=replace(run.train, tokens=12 * 128)),
            "keeps a checkpoint at or before 1,280 tokens",
        ),
    ],
)
def test_what_is_no_branch_is_refused(change, said):
    trunk, branch, _ = made()
    with pytest.raises(UserError, match=rf"train\.trunk = '{run_id(trunk)}' is not accepted: .*{said}"):
        taken(change(branch), trunk)


def test_what_can_have_no_branches_is_refused():
    with pytest.raises(UserError, match=r"optim\.schedule = 'wsd'"):
        made(tiny_run())
    with pytest.raises(UserError, match="phases of the objective are shares of the whole run"):
        made(replace(wsd(), objective=ObjectiveConfig("causal_lm", tuning=0.5)))
    with pytest.raises(UserError, match="more than the longest's 6 updates of warm-up"):
        made(updates=(4, 60))
    with pytest.raises(UserError, match="behind the first call"):
        made(wsd(steps_per_call=20))
    with pytest.raises(UserError, match="two or more"):
        made(updates=(60,))


def test_a_trunk_that_is_no_run_of_the_experiment_is_refused_before_anything_is_spent(folders):
    lone = "yield replace(run, train=replace(run.train, trunk='0123456789ab'))"
    text = SWEEP.replace("yield from branches(run, [30 * update, 60 * update])", lone)
    experiment = load(write_experiment(folders / "study", text))
    with pytest.raises(UserError, match=r"train\.trunk = '0123456789ab' is not accepted: the id of a run of study"):
        check_costs(experiment)


def test_a_bar_and_an_estimate_count_a_trunk_once(folders):
    """A branch that had taken its trunk's checkpoint moved the bar by what the trunk had already moved it."""
    experiment = load(write_experiment(folders / "study", SWEEP))
    console = Console(file=io.StringIO())
    tell = launch._SweepProgress(experiment, console)
    (bar,) = tell._bar.tasks
    flops = {i: cost(run).train_flops for i, run in experiment.runs.items()}
    trunks = [i for i, run in experiment.runs.items() if not run.train.trunk]
    assert bar.total == pytest.approx(sum(flops.values()) - sum(paid(experiment, i) for i in flops))
    begun = RunState("running", 20 * 128)  # where branches begin
    ended = {i: RunState("done", run.train.tokens, {"wall_s": 1.0}) for i, run in experiment.runs.items()}
    tell({i: ended[i] if i in trunks else begun for i in flops})
    assert bar.completed == pytest.approx(sum(flops[i] for i in trunks))
    tell(ended)
    assert bar.completed == pytest.approx(bar.total)
    tell(dict.fromkeys(flops, RunState("waiting", 0, error="for another experiment")))
    assert bar.completed == 0


def test_branches_begin_when_their_trunk_has_ended():
    seconds = {"trunk": 60.0, "branch": 10.0, "other": 20.0}
    assert elapsed(seconds, 3, {"branch": "trunk"}) == 70
    assert elapsed(seconds, 1, {"branch": "trunk"}) == 90
    assert elapsed({"branch": 10.0}, 2, {"branch": "trunk"}) == 10  # which is done


@pytest.mark.slow
def test_a_study_of_branches_is_planned_run_collected_and_reported(folders):
    study = write_experiment(folders / "study", SWEEP)
    write_noise()
    experiment = load(study)
    flops = {identity: cost(run).train_flops for identity, run in experiment.runs.items()}
    shared = {one: flops[one] * 20 / 30 for one, run in experiment.runs.items() if run.train.trunk}  # of 24, by calls
    planned = encdec("plan", study)
    assert planned.returncode == 0, planned.stderr
    assert f"4 runs, {sum(flops.values()) - sum(shared.values()):.3e} training FLOPs" in planned.stdout
    assert f"{sum(shared.values()):.3e} more are of trunks, trained once" in planned.stdout

    ran = encdec("run", study, "-j", "2")
    assert ran.returncode == 0, ran.stderr
    table = load_table(experiment)
    assert set(table["status"]) == {"done"}
    units = table.group_by("trunk").agg(pl.col("run_id").sort(), pl.col("trunk_flops").sort())
    assert sorted(len(ids) for ids in units["run_id"]) == [2, 2]
    assert all(trunk in ids for trunk, ids in units.select("trunk", "run_id").iter_rows())
    for one in table.iter_rows(named=True):
        assert one["trunk_flops"] == pytest.approx(shared.get(one["run_id"], 0.0))

    identity = next(iter(shared))
    branch = experiment.runs[identity]
    alone = load(write_experiment(folders / "alone", SWEEP + ALONE))
    assert list(alone.runs) == [identity]
    ran = encdec("run", alone.folder, "-j", "2")
    assert ran.returncode == 0, ran.stderr
    for name in ("metrics.jsonl", "suffix_bits.npy"):
        assert (alone.run_folder(identity) / name).read_bytes() == (experiment.run_folder(identity) / name).read_bytes()

    for verb in (["report", study], ["collect", study], ["status", study]):
        done = encdec(*verb)
        assert done.returncode == 0, done.stderr

    class Taken(Exception):
        pass

    for before in range(3):  # who finds that the run is another's: before the checkpoint, made_of.json, metrics.jsonl
        answers, lost = iter([None] * before), folders / f"lost-{before}"

        def check(answers=answers):
            for _ in answers:
                return
            raise Taken

        with pytest.raises(Taken):
            graft(experiment, identity, lost, check)
        found = sorted(path.name for path in lost.glob("*"))
        assert found == ["checkpoints", "made_of.json"][:before]

    trunk = experiment.run_folder(branch.train.trunk)
    for seal in (trunk / "checkpoints").glob("manifest-*"):
        seal.unlink()
    with pytest.raises(UserError, match=r"train\.trunk = .* a run with a checkpoint of update 20"):
        graft(experiment, identity, folders / "anew")
