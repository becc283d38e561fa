"""Scripts, sizes, the site's file, and what is submitted again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import SUMMARY, SWEEP, environment, write_experiment, write_noise

from encdec_jax.cli.main import main
from encdec_jax.data.cache import manifest_of
from encdec_jax.errors import UserError
from encdec_jax.files import write_json
from encdec_jax.submit import slurm, supervise
from encdec_jax.submit.dispatch import cancel, logs, retry, submit
from encdec_jax.submit.footprint import Footprint, footprint
from encdec_jax.submit.site import Site, SlurmSite, site, site_file
from encdec_jax.submit.supervise import DEATHS
from encdec_jax.submit.watch import watched
from encdec_jax.sweep.claim import claim
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.store import run_state, write_error
from encdec_jax.train.config import MeshConfig


@pytest.fixture
def experiment(folders, monkeypatch) -> Experiment:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folders / "config"))
    write_noise()
    return load(write_experiment(folders / "study"))


@pytest.fixture
def sbatch(monkeypatch) -> list[list[str]]:
    """A Slurm that keeps what it was given: [array, tasks in the queue] each; and all calls."""
    arrays: list[list[str]] = []

    def called(command, text=None):
        if command[0] == "sbatch":
            tasks = int(next(line for line in text.splitlines() if "--array=" in line).split("=0-")[1].split("%")[0])
            arrays.append([f"{len(arrays) + 1}_{task}" for task in range(tasks + 1)])
            return f"{len(arrays)};cluster\n"
        if command[0] == "scancel":
            for array in arrays:
                array[:] = [task for task in array if task not in command]
        return "".join(f"{task.replace('_', '|')}|PENDING|Priority\n" for array in arrays for task in array)

    monkeypatch.setattr(slurm, "called", called)
    return arrays


@pytest.mark.parametrize(
    ("devices", "gpus", "nodes", "found"),
    [
        (1, 0, None, Footprint(1, 1, 1, 0)),
        (4, 0, 2, Footprint(4, 2, 4, 0)),
        (4, 8, None, Footprint(4, 1, 1, 4)),
        (16, 8, None, Footprint(16, 2, 2, 8)),
        (8, 8, 4, Footprint(8, 4, 4, 2)),
        (12, 8, None, Footprint(12, 2, 2, 6)),
    ],
)
def test_a_footprint_follows_the_mesh(devices, gpus, nodes, found):
    assert footprint(devices, gpus, nodes) == found


def test_a_mesh_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="nodes = 3 is not accepted: a divisor of the mesh's 16 devices"):
        footprint(16, 8, 3)
    with pytest.raises(UserError, match="nodes = 1 is not accepted: at least 2: a node has 8 GPUs"):
        footprint(16, 8, 1)


def test_runs_of_two_sizes_are_two_arrays(experiment):
    runs = {
        identity: replace(run, mesh=MeshConfig(fsdp=16 if i else 1))
        for i, (identity, run) in enumerate(experiment.runs.items())
    }
    sized = replace(experiment, runs=runs)
    asked = SlurmSite(
        partition="p", account="a", time="1:00:00", gpus=8, cpus=4, memory="9G", array_limit=2, setup="module load x"
    )
    large, small = slurm.arrays(sized, list(runs), asked, None)
    assert (large.footprint, small.footprint) == (Footprint(16, 2, 2, 8), Footprint(1, 1, 1, 1))
    lines = large.script.splitlines()
    for option in (
        "array=0-2%2",
        "nodes=2",
        "ntasks=2",
        "gpus-per-node=8",
        "partition=p",
        "account=a",
        "time=1:00:00",
        "mem=9G",
    ):
        assert f"#SBATCH --{option}" in lines
    assert lines.index("module load x") == len(lines) - 3
    assert lines[-1].endswith(
        '--runs "${runs[SLURM_ARRAY_TASK_ID]}" --kill-on-bad-exit=1 --nodes=2 --ntasks=2 --cpus-per-task=4'
    )
    subprocess.run(["bash", "-n"], input=large.script, text=True, check=True)
    (loop, _) = slurm.arrays(sized, list(runs), asked, 2)
    assert loop.tasks == [list(runs)[1:]] * 2


def test_more_runs_than_an_array_has_room_for(experiment, monkeypatch, sbatch):
    monkeypatch.setattr(slurm, "ARRAY", 3)
    done = submit(experiment.folder, "slurm", array_limit=1)
    assert [len(one.tasks) for one in done.submitted] == [3, 1]


def test_submitted_again_only_what_is_missing_is(experiment, sbatch):
    done, failed, *others = experiment.runs
    write_json(
        experiment.run_folder(done) / "summary.json",
        {**SUMMARY, "cache_digest": manifest_of("noise", "bytes")["digest"]},
    )
    write_error(experiment.run_folder(failed), UserError("no"))
    first = submit(experiment.folder, "slurm")
    assert sorted(first.missing) == sorted(others)
    assert first.states == {"diverged": 1, "failed": 1}
    again = submit(experiment.folder, "slurm")
    assert (again.missing, again.submitted, set(again.queued)) == ([], [], set(others))
    assert [one.row()["status"] for one in watched(experiment)] == ["diverged", "failed", "queued", "queued"]
    cancel(experiment.folder, [others[0]])
    assert submit(experiment.folder, "print").missing == [others[0]]
    assert retry(experiment.folder) == [failed]
    assert sorted(submit(experiment.folder, "print").missing) == sorted([failed, others[0]])
    with pytest.raises(UserError, match="run = 'x' is not accepted: one of the 4 of study"):
        cancel(experiment.folder, ["x"])


def test_nothing_of_the_environment_is_written_into_a_script(experiment, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hush")
    assert "hush" not in submit(experiment.folder, "print").text


def test_a_site_says_what_is_asked_for(experiment):
    assert site() == Site()
    path = site_file()
    path.parent.mkdir(parents=True)
    path.write_text('[slurm]\npartition = "gpu"\ngpus = 8\n')
    text = submit(experiment.folder, "print", account="me").text
    for option in ("partition=gpu", "gpus-per-node=1", "account=me"):
        assert f"#SBATCH --{option}\n" in text
    assert "partition=other" in submit(experiment.folder, "print", partition="other").text
    for bad, message in (
        ('[slurm]\npartitoin = "x"', "'slurm.partitoin' is unknown; accepted here: partition"),
        ("[slurm]\ngpus = -1", "gpus = -1 is not accepted: at least 0"),
        ('[slurm]\nsetup = "a\\nb"', "setup = 'a.*b' is not accepted: one line of text"),
        ("slurm", "can't read"),
    ):
        path.write_text(bad)
        with pytest.raises(UserError, match=message):
            submit(experiment.folder, "print")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "slurm", "--image", "x"], "--image = 'x' is not accepted: only with --to k8s"),
        (["--to", "k8s", "--time", "1"], "--time = '1' is not accepted: only with --to slurm or print"),
        (["--to", "print", "--time", "soon"], "time = 'soon' is not accepted: minutes"),
        (["--to", "print", "--memory", "64Gi"], "memory = '64Gi' is not accepted: as 64G"),
        (["--to", "k8s", "--image", "x", "--memory", "64GB"], "memory = '64GB' is not accepted: as 64Gi"),
        (["--to", "local", "--time", "1"], "--time = '1' is not accepted: nothing"),
        (["--to", "slurm", "--workers", "0"], "workers = '0' is not accepted: a whole number"),
        (["--to", "slurm", "--cpus", "x"], "cpus = 'x' is not accepted: "),
        (["--to", "print", "--apply"], "with --to k8s"),
        (["--to", "print", "--partition", "a\nb"], "one line of text"),
        (["--to", "slurm"], "sbatch is not installed here"),
    ],
)
def test_what_is_wrong_with_a_submission_is_one_line(experiment, capsys, monkeypatch, options, message):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["submit", str(experiment.folder), *options]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


GANG = """
from dataclasses import replace

from encdec_jax.train.config import MeshConfig

alone = runs


def runs():
    return (replace(run, mesh=MeshConfig(data=2)) for run in alone())
"""


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ({"to": "print"}, False),
        ({"to": "print", "gpus": 2}, True),
        ({"to": "k8s"}, False),
        ({"to": "k8s", "gpus": 2}, True),
    ],
)
def test_a_gang_is_not_submitted_to_a_bucket(s3, folders, monkeypatch, options, accepted):
    """It was, and each of its runs then failed in its job."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folders / "config"))
    monkeypatch.setenv("ENCDEC_RUNS", f"{s3}/runs")
    monkeypatch.setenv("ENCDEC_CACHE", f"{s3}/cache")
    write_noise()
    study = write_experiment(folders / "study", SWEEP + GANG)
    more = {"image": "x"} if options["to"] == "k8s" else {}
    if accepted:
        assert len(submit(study, **options, **more).missing) == 4
        return
    with pytest.raises(UserError, match=r"ENCDEC_RUNS = 's3://.*' is not accepted: a folder, for a run of several"):
        submit(study, **options, **more)


def test_the_verbs_print_what_is_and_what_is_not(experiment, sbatch, capsys):
    assert main(["submit", str(experiment.folder), "--to", "slurm"]) == 0
    said = capsys.readouterr()
    assert said.out == "submitted: slurm 1: 4 jobs for 4 runs\n"
    assert main(["submit", str(experiment.folder), "--to", "slurm"]) == 0
    assert "4 are in the queue already: 1, PENDING" in capsys.readouterr().err
    assert main(["status", str(experiment.folder)]) == 0
    assert "1_0 PENDING Priority" in capsys.readouterr().out
    assert main(["status", str(experiment.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"queued": 4}
    assert main(["cancel", str(experiment.folder)]) == 0
    assert main(["retry", str(experiment.folder)]) == 2
    capsys.readouterr()
    assert main(["retry", str(experiment.folder), "--failed"]) == 0
    assert capsys.readouterr().out == "nothing failed, nothing is retried\n"


def test_a_run_at_work_shows_its_speed(experiment):
    identity, *_ = experiment.runs
    folder = experiment.run_folder(identity)
    with claim(folder, lambda: None):
        timing = [{"step": 5 * n, "wall_s": 9.0, "step_s": 0.5 * n} for n in range(1, 200)]
        folder.joinpath("timing.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in timing[:6]) + '{"st')
        write_json(folder / "made_of.json", {"device": "NVIDIA H100 80GB HBM3"})
        one = watched(experiment)[0]
        assert (one.step, one.steps) == (30, 60)
        assert one.tokens_per_s == pytest.approx(10 * 128)  # 10 updates a second of 4 windows of 32
        assert one.eta_s == pytest.approx(3.0)
        assert 0 < one.mfu < 1e-3
        assert one.heartbeat_s == pytest.approx(0, abs=60)
        assert one.row()["status"] == "running"
    assert watched(experiment)[0].step is None


def gang(tmp_path: Path, monkeypatch, body: str) -> list[str]:
    """How srun is called: by a script, with what a gang would be given."""
    script = tmp_path / "srun"
    script.write_text(
        f"#!{sys.executable}\nimport sys, os\nfrom pathlib import Path\nruns = sys.argv[-1].split(',')\n{body}\n"
    )
    script.chmod(0o755)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return [str(script)]


def test_what_was_saved_is_requeued_and_what_is_wrong_is_not(experiment, folders, monkeypatch):
    runs = list(experiment.runs)
    assert supervise.supervise(experiment, runs, gang(folders, monkeypatch, "sys.exit(75)")) is None
    assert supervise.supervise(experiment, runs, gang(folders, monkeypatch, "sys.exit(2)")) == 2
    assert supervise.supervise(experiment, runs, gang(folders, monkeypatch, "sys.exit(0)")) == 0


def test_a_failed_run_keeps_nobody_from_the_others(experiment, folders, monkeypatch):
    body = f"""
folder = Path({str(experiment.root)!r}) / runs[0]
folder.mkdir(parents=True)
(folder / "error.txt").write_text("no")
sys.exit(2 if len(runs) == 1 else 3)
"""
    assert supervise.supervise(experiment, list(experiment.runs), gang(folders, monkeypatch, body)) == 2
    assert {run_state(experiment.run_folder(i)).status for i in experiment.runs} == {"failed"}


def test_a_run_that_is_killed_where_it_was_fails_in_the_end(experiment, folders, monkeypatch):
    """Not one that gets on between two deaths."""
    identity, *_ = experiment.runs
    folder = experiment.run_folder(identity)
    folder.mkdir(parents=True)
    start = gang(folders, monkeypatch, "os.kill(os.getpid(), 9)")
    for n in range(2 * DEATHS):
        (folder / "metrics.jsonl").write_text(json.dumps({"step": n, "tokens": n}) + "\n")
        assert supervise.supervise(experiment, [identity], start) is None
    for _ in range(DEATHS - 2):
        assert supervise.supervise(experiment, [identity], start) is None
    assert supervise.supervise(experiment, [identity], start) == 2
    state = run_state(folder)
    assert state.status == "failed"
    assert state.reason.startswith(f"killed {DEATHS} times at {n} tokens")


def test_logs_are_found_by_the_id_alone(experiment, sbatch, capsys):
    (one,) = submit(experiment.folder, "slurm").submitted
    identity = one.tasks[1][0]
    log = experiment.root / "logs" / f"slurm-{one.job}_1.log"
    log.write_text("it said so\n")
    experiment.run_folder(identity).mkdir(parents=True)
    assert logs(identity) == logs(str(experiment.run_folder(identity))) == [log]
    write_error(experiment.run_folder(identity), UserError("why"))
    assert main(["logs", identity]) == 0
    said = capsys.readouterr().out
    assert "it said so" in said
    assert "why" in said
    with claim(experiment.run_folder(next(iter(experiment.runs))), lambda: None):
        worker = experiment.root / "logs" / f"{os.uname().nodename}-1-worker-0-{os.getpid()}.log"
        worker.write_text("")
        assert logs(next(iter(experiment.runs)))[-1] == worker
        assert main(["logs", next(iter(experiment.runs))]) == 0
        assert "(nothing was said)" in capsys.readouterr().out
    with pytest.raises(UserError, match="run = 'nothing' is not accepted: the id of a run"):
        logs("nothing")


def test_a_long_error_is_folded_not_cut(experiment, capsys):
    identity, *_ = experiment.runs
    words = [f"word{n}" for n in range(60)]
    write_error(experiment.run_folder(identity), UserError(" ".join(words)))
    assert main(["status", str(experiment.folder)]) == 0
    said = capsys.readouterr().out
    assert said.split("4 runs")[0].count("word") == len(words)
    assert max(map(len, said.splitlines())) <= 200
    (place,) = {line.index("word") for line in said.splitlines() if "word" in line}
    assert place == said.splitlines()[0].index("error")
