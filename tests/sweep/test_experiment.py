from __future__ import annotations

from pathlib import Path

import pytest
from tiny import SWEEP, encdec, write_experiment, write_noise

from encdec_jax.errors import UserError
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.speed import ordered


def test_it_is_what_its_script_says(folders):
    experiment = load(write_experiment(folders / "study"))
    assert (experiment.name, experiment.question, experiment.baseline) == ("study", "Does it work?", "causal_lm")
    assert [run.model.arch for run in experiment.runs.values()] == ["causal_lm", "enc_dec"] * 2
    assert experiment.run_folder("x") == folders / "runs/study/x"
    assert not (folders / "study/__pycache__").exists()


def test_the_folder_must_hold_a_script(folders):
    with pytest.raises(
        UserError, match=r"experiment folder = .*absent.* is not accepted: a folder that holds a sweep.py"
    ):
        load(folders / "absent")
    (folders / "empty").mkdir()
    with pytest.raises(UserError, match=r"this one holds none"):
        load(folders / "empty")
    (folders / "empty/config.json").touch()
    with pytest.raises(UserError, match=r"this one holds a run, which encdec evaluate scores"):
        load(folders / "empty")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("QUESTION = ", "ANSWER = "), r"sweep.py: QUESTION is missing; accepted: a text"),
        (('BASELINE = "causal_lm"', 'BASELINE = "rnn"'), r"BASELINE = 'rnn' is not accepted: one of its runs'"),
        (("yield tiny_run(arch, d_model)", "yield tiny_run(arch)"), r"runs\(\)\[2\] is the same run as runs\(\)\[0\]"),
        (("yield tiny_run(arch, d_model)", "yield 3"), r"runs\(\)\[0\] = 3 is not accepted: a RunConfig"),
        (("yield tiny_run(arch, d_model)", "1 / 0; yield"), r"sweep.py:13: ZeroDivisionError: division by zero"),
        (("def runs():", "def runs("), r"sweep.py:\d+: SyntaxError"),
        (("def runs", "def other"), r"runs = None is not accepted: a function"),
        (("for arch in", "return\n        for arch in"), r"runs\(\) = \[\] is not accepted: at least one run"),
        (("from tiny", "from absent"), r"sweep.py:2: ModuleNotFoundError"),
    ],
)
def test_one_line_says_what_is_wrong_with_the_script(folders, change, message):
    assert change[0] in SWEEP
    with pytest.raises(UserError, match=message) as caught:
        load(write_experiment(folders / "study", SWEEP.replace(*change)))
    assert "\n" not in str(caught.value)


def test_its_name_is_its_path_in_the_project_or_one_it_states(folders, monkeypatch):
    """Two folders of one name shared runs, report and figure."""
    write_experiment(folders / "one/study")
    (folders / "two").mkdir()
    (folders / "two/pyproject.toml").touch()
    assert load(folders / "one/study").name == "one/study"
    assert load(write_experiment(folders / "two/deep/study")).name == "deep/study"
    monkeypatch.chdir(folders / "one")
    assert load(Path("study")).name == load(Path("../one/study")).name == "one/study"
    (folders / "pyproject.toml").unlink()  # in no project, it is the whole path, from wherever it is asked
    assert load(Path("study")).name == (folders / "one/study").relative_to("/").as_posix()
    monkeypatch.chdir(folders / "two")
    assert load(folders / "one/study").name == (folders / "one/study").relative_to("/").as_posix()
    named = load(write_experiment(folders / "one/study", 'NAME = "lr/second"\n' + SWEEP))
    assert named.root == folders / "runs/lr/second"


@pytest.mark.parametrize("name", ["''", "'/tmp'", "'../a'", "'a/../b'", "'a//b'", "'single'", "'single/a'", "3"])
def test_a_name_is_one_of_folders(folders, name):
    with pytest.raises(UserError, match=r"NAME = .* is not accepted: names of folders"):
        load(write_experiment(folders / "study", f"NAME = {name}\n{SWEEP}"))


def test_runs_that_change_are_refused(folders):
    """Each worker drew other runs, which nobody collects."""
    drawn = SWEEP.replace("tiny_run(arch, d_model)", "tiny_run(arch, d_model, lr=random.uniform(1e-3, 1e-2))")
    with pytest.raises(UserError, match=r"runs\(\) gives other runs each time: 4 of 4 ids were others the second time"):
        load(write_experiment(folders / "study", f"import random\n{drawn}"))
    seeded = drawn.replace("def runs():", "def runs():\n    random.seed(0)")
    assert len(load(write_experiment(folders / "study", f"import random\n{seeded}")).runs) == 4


def test_runs_that_differ_between_processes_are_refused_by_the_workers(folders):
    """A set of texts has another order in each process, which no second look within one shows."""
    write_noise()
    drawn = SWEEP.replace("tiny_run(arch, d_model)", "tiny_run(arch, d_model, lr=1e-3 * (1 + os.getpid() % 100_000))")
    done = encdec("run", write_experiment(folders / "study", f"import os\n{drawn}"), "-j", 1)
    assert done.returncode == 1
    assert "runs() gives other runs in every process" in done.stderr
    assert not list((folders / "runs").rglob("config.json"))


def test_a_run_s_label_is_its_architecture_and_split_or_what_the_script_says(folders):
    assert list(load(write_experiment(folders / "a")).labels.values()) == ["causal_lm", "enc_dec 1/2"] * 2
    said = (
        SWEEP.replace('"causal_lm"\n', '"width 8"\n', 1)
        + "\n\ndef label(run):\n    return f'width {run.model.decoder.d_model}'\n"
    )
    experiment = load(write_experiment(folders / "b", said))
    assert (experiment.baseline, list(experiment.labels.values())) == ("width 8", ["width 8"] * 2 + ["width 16"] * 2)
    rules = "from encdec_jax.study.health import Health\n\nHEALTH, SETTINGS = Health(spike=1.0), 'mean'\n"
    ruled = load(write_experiment(folders / "d", SWEEP + rules))
    assert (ruled.health.spike, ruled.settings) == (1.0, "mean")
    why = load(write_experiment(folders / "c", SWEEP + 'POOLED = {"code": "only comments changed"}\n'))
    assert (why.pooled, experiment.pooled) == ({"code": "only comments changed"}, {})


def test_workers_take_the_longest_run_first_or_the_first_that_is_listed(folders):
    """A study in stages began with its dearest runs."""
    dear_last = load(write_experiment(folders / "a"))
    assert [dear_last.runs[identity].model.decoder.d_model for identity in ordered(dear_last)] == [16, 16, 8, 8]
    listed = load(write_experiment(folders / "b", SWEEP + "ORDER = 'listed'\n"))
    assert ordered(listed) == list(listed.runs)


TWICE = """
from dataclasses import replace
one = runs
def runs():
    return (replace(run, train=replace(run.train, seed=seed)) for run in one() for seed in (0, 1))
"""


def test_seeds_of_a_setting_are_not_taken_side_by_side(folders):
    """Two workers compiled the same program at the same time, which the second could have read."""
    experiment = load(write_experiment(folders / "a", SWEEP + TWICE))
    taken = [experiment.runs[identity] for identity in ordered(experiment)]
    assert [(run.model.decoder.d_model, run.train.seed) for run in taken] == [
        (d_model, seed) for seed in (0, 1) for d_model in (16, 16, 8, 8)
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("def label(run):\n    return 3\n", r"label of run \w+ = 3 is not accepted: a text"),
        ("def label(run):\n    return ' a'\n", r"label of run \w+ = ' a' is not accepted: a text"),
        ("def label(run):\n    return 1 / 0\n", r"sweep.py:\d+: ZeroDivisionError"),
        ("label = 'a'\n", r"label = 'a' is not accepted: a function"),
        (
            "once = runs\n\n\ndef runs():\n    yield from once()\n    yield tiny_run(seed=1)\n\n\n"
            "def label(run):\n    return 'causal_lm' if run.train.seed == 0 else 'lucky'\n",
            r"label of run \w+ = 'lucky' is not accepted: 'causal_lm', that of another seed",
        ),
        ("POOLED = {'lr': 'why'}\n", r"POOLED = .* is not accepted: a dict from cache_digest or code"),
        ("POOLED = {'code': ''}\n", r"POOLED = .* is not accepted"),
        ("SETTINGS = 'median'\n", r"sweep.py: SETTINGS = 'median' is not accepted: 'best' or 'mean'"),
        ("ORDER = 'random'\n", r"sweep.py: ORDER = 'random' is not accepted: 'longest' \(first\) or 'listed'"),
        ("HEALTH = {'spike': 1}\n", r"sweep.py: HEALTH = .* is not accepted: a Health"),
        (
            "import random\n\n\ndef label(run):\n    return str(random.random())\n",
            r"label of run \w+ = '0.\d+' is not accepted: the same each time: the second time it was '0.\d+'",
        ),
    ],
)
def test_labels_and_reasons_are_checked(folders, more, message):
    with pytest.raises(UserError, match=message):
        load(write_experiment(folders / "study", f"{SWEEP}\n\n{more}"))


def test_objectives_of_one_architecture_are_lines_of_their_own(tmp_path):
    sweep = SWEEP.replace(
        "yield tiny_run(arch, d_model)",
        """yield tiny_run(arch, d_model)
            if arch == "enc_dec":
                yield replace(tiny_run(arch, d_model), objective=ObjectiveConfig("prefix_lm", "random"))""",
    )
    imports = "from dataclasses import replace\nfrom encdec_jax.data.config import ObjectiveConfig\n"
    folder = write_experiment(tmp_path / "objectives", imports + sweep)
    labels = set(load(folder).labels.values())
    assert labels == {"causal_lm", "enc_dec 1/2, prefix_lm", "enc_dec 1/2, prefix_lm (prefix random)"}
