from __future__ import annotations

import pytest
from tiny import SWEEP, write_experiment

from encdec_jax.errors import UserError
from encdec_jax.sweep.experiment import load


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
