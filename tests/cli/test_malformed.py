"""Malformed command lines, configurations, sweeps, run folders: a result, or one line and exit code 2."""

from __future__ import annotations

import io
import json
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_ranges import FIELDS
from tiny import SUMMARY, SWEEP, write_experiment, write_noise

from encdec_jax import script
from encdec_jax.cli.main import main
from encdec_jax.config import to_dict
from encdec_jax.sweep import results
from encdec_jax.sweep.experiment import load

CONFIG = f"{Path(__file__).parents[2] / 'configs/base.py'}:enc_dec"
QUICK = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # to shrink a failure takes minutes
)
ODD = [
    *("", " ", "0", "-1", "1", "2", "1e3", "nan", "inf", "-inf", "1e400", "1e-400", "99999999999", "9" * 40, "1.5"),
    *(
        "null",
        "None",
        "true",
        "[]",
        "{}",
        "x",
        "é",
        "\x00",
        "a\nb",
        "../../x",
        "/",
        "%s",
        "{0}",
        "=",
        ",",
        ":",
        "1,",
        "--",
    ),
    *("1/0", "1/2", "0x10", "1_000", "٣", "bytes", "spm0", "spm-1", "spm99999999999", "causal_lm", "1e18", "1e30"),
]
VALUE = st.one_of(st.sampled_from(ODD), st.text(max_size=5))


@pytest.fixture
def bible(folders):
    write_noise("bible_en")
    write_noise()
    write_experiment(folders / "study")
    return folders


def outcome(*arguments: str) -> int:
    """The exit code, checked to come with one line and no result if it is 2."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main(list(arguments))
    said = err.getvalue()
    assert code in (0, 1, 2), (arguments, code)
    assert "Traceback" not in said, arguments
    if code == 2:
        lines = [line for line in said.splitlines() if line.startswith("encdec: ")]
        assert len(lines) == 1, (arguments, said)
        assert said.endswith(f"{lines[0]}\n"), (arguments, said)
        assert len(said) < 3000, (arguments, len(said))
    return code


@QUICK
@given(field=st.sampled_from([path for path, *_ in FIELDS]), value=VALUE, verb=st.sampled_from(["count", "memory"]))
def test_any_number_of_a_configuration(bible, field, value, verb):
    assert outcome(verb, CONFIG, f"--config.{field}={value}", "--json") in (0, 2)


@settings(QUICK, max_examples=20)
@given(path=st.text(max_size=12), value=VALUE)
def test_any_field_of_a_configuration(bible, path, value):
    assert outcome("count", CONFIG, f"--config.{path}={value}") in (0, 2)


MATCH = "--budget --families --equal --split --lengths --sizes --widths --aspect --multiple --vocab --task --batch"
MATCH += " --batch-tokens --min-updates --rule --recipe --seeds"


@QUICK
@given(given_=st.dictionaries(st.sampled_from(MATCH.split()), VALUE, min_size=1, max_size=2))
def test_any_grid_to_match(bible, given_):
    arguments = {"--budget": "1e15", "--sizes": "2", **given_}
    assert outcome("match", *(f"{name}={value}" for name, value in arguments.items()), "--json") in (0, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        *[f"match --budget={value}" for value in ("nan", "inf", "-1", "0", "1e300", "1e18,1e18", "")],
        *[f"match --budget=1e18 --aspect={value}" for value in ("inf", "nan", "-3", "0", "1e-9")],
        *[f"match --budget=1e18 --{name}={n}" for name in ("batch", "batch-tokens") for n in (-1, 0, 99999999999)],
        *[f"match --budget=1e18 --lengths={value}" for value in ("0/0", "-1/5", "99999999999/5", "5", "/")],
        *[f"match --budget=1e18 --{name}=99999999999" for name in ("sizes", "widths", "multiple", "vocab", "seeds")],
        *[f"preview {CONFIG} --rows={value}" for value in (0, -1, 99999999999)],
        *[f"memory {CONFIG} --config.model.{name}={10**12}" for name in ("vocab_size", "decoder.d_model")],
        f"train {CONFIG} --config.model.decoder.d_ff={2**24} --config.model.decoder.n_layers=10000",
        f"train {CONFIG} --config.model.vocab_size={2**26} --config.train.batch_size={2**24}",
    ],
)
def test_numbers_that_make_no_sense_are_refused(bible, arguments):
    assert outcome(*arguments.split(" ")) == 2


OTHERS = [
    ("preview", CONFIG, "--rows"),
    ("count", CONFIG, "--as"),
    ("memory", CONFIG, "--device"),
    ("memory", CONFIG, "--dtype"),
    ("plan",),
    ("status",),
    ("run", "-j"),
    ("collect",),
    ("report", "--labels"),
    ("predict", "--law"),
    ("predict", "--from"),
    ("count",),
    ("train",),
    ("preview",),
    ("fit", "absent.csv", "--law"),
    ("fit", "absent.csv", "--law=kaplan_n", "--loss=loss", "--resamples"),
    ("fit", "absent.csv", "--law=kaplan_n", "--loss=loss", "--delta"),
    ("compare",),
    ("prepare", "--task"),
    ("prepare", "--task=bible_en", "--vocab-size"),
    ("compile", CONFIG, "--topology"),
    ("compile", CONFIG, "--topology=v5e:2x2", "--mesh"),
    ("compile", CONFIG, "--topology=v5e:2x2", "--limit"),
    ("preview", "--task=bible_en", "--objective"),
    ("preview", "--task=bible_en", "--objective=ul2", "--arch"),
    ("count", "--preset"),
    ("count", CONFIG, "--device"),
    ("fit", "absent.csv", "--law=kaplan_n", "--loss=loss", "--trunk"),
    ("fit", "absent.csv", "--law=kaplan_n", "--loss=loss", "--where"),
    ("compare", "absent.csv"),
    ("prepare", "--task=mine", "--text"),
    ("prepare", "--task=mine", "--text=absent.txt", "--field"),
    ("prepare", "--task=both", "--mix"),
    ("prepare", "--task=both", "--mix=bible_en,absent", "--rates"),
    ("fetch",),
    ("evaluate",),
    ("evaluate", "absent", "--task"),
    *(
        ("evaluate", "absent", "--task=bible_en", option)
        for option in ("--split", "--lengths", "--prefixes", "--examples")
    ),
    ("convert", "--from"),
    ("convert", "--to=out", "--from"),
    ("convert", "--to=out", "--from", "hf"),
    *((verb,) for verb in ("submit", "cancel", "retry", "logs", "doctor")),
    *((verb, "study") for verb in ("cancel", "retry")),
    ("submit", "study", "--to"),
    *(
        ("submit", "study", "--to=print", f"--{option}")
        for option in ("gpus", "nodes", "time", "memory", "cpus", "array-limit", "workers", "setup", "partition")
    ),
    *(
        ("submit", "study", "--to=k8s", "--image=x", "--claim=y", f"--{option}")
        for option in ("gpus", "tpu", "memory", "cpus", "workers", "namespace", "secret", "queue")
    ),
    ("submit", "study", "--to=k8s", "--image"),
    ("doctor", "--devices"),
    ("doctor", "--to"),
    ("doctor", "--to=print", "--devices"),
    *(("status", "study", option) for option in ("--watch", "--json")),
    ("plan", "study"),
    ("collect", "study"),
    ("report", "study", "--labels"),
    (),
]


@settings(QUICK, max_examples=80)
@given(verb=st.sampled_from(OTHERS), value=st.sampled_from([one for one in ODD if one not in ("1", "2", "true")]))
def test_any_argument_of_any_verb(bible, verb, value):
    if verb[:1] == ("prepare",) and value == "bytes":
        return  # makes tokens
    outcome(*verb, value)


OTHER = "from dataclasses import replace\nold = runs\nruns = lambda: "
STATEMENTS = [
    "QUESTION = ''",
    "QUESTION = None",
    "BASELINE = 3",
    "BASELINE = 'x' * 100000",
    "CONFOUNDERS = {'a': 3}",
    "CONFOUNDERS = []",
    "PREDICTIONS = ['enc_dec wins']",
    "PREDICTIONS = [None]",
    "PREDICTIONS = None",
    "HEALTH = True",
    "SETTINGS = ['best']",
    "ORDER = ['listed']",
    "POOLED = {'code': ''}",
    "NAME = '../x'",
    "NAME = 'a/../../x'",
    "NAME = None",
    "runs = None",
    "runs = 3",
    "runs = lambda: 3",
    "runs = lambda: [None]",
    "runs = lambda: [tiny_run(), 3]",
    "runs = lambda x: []",
    "runs = lambda: []",
    "def runs():\n    while True: yield tiny_run()",
    "def runs():\n    n = 0\n    while True:\n        n += 1\n        yield n",
    "def runs():\n    while True: pass",
    "def runs():\n    try:\n        while True: pass\n    except Exception: yield tiny_run()",
    "def runs():\n    import sys\n    sys.exit(0)",
    "import sys; sys.exit(0)",
    "import sys; sys.exit('done')",
    "raise BaseException('odd')",
    "raise GeneratorExit",
    "raise KeyError('a\\nb')",
    "while True: pass",
    "def f(): f()\nf()",
    "1 +",
    "label = 3",
    "label = lambda run: None",
    "label = lambda run: run.absent",
    "label = lambda run: 'a\\nb'",
    "label = lambda: 'a'",
    "class Odd:\n    def __repr__(self): raise ValueError\nHEALTH = Odd()",
    OTHER + "[replace(run, mesh=replace(run.mesh, tensor=7)) for run in old()]",
    OTHER + "[replace(run, mesh=replace(run.mesh, data=3)) for run in old()]",
    OTHER + "[replace(run, train=replace(run.train, seed=-1)) for run in old()]",
    OTHER + "[replace(run, data=replace(run.data, length=10**7)) for run in old()]",
    OTHER + "[replace(run, data=replace(run.data, task='../../x')) for run in old()]",
    OTHER + "[replace(run, evaluate=replace(run.evaluate, windows=10**6)) for run in old()]",
    "runs = lambda: [tiny_run(d_model=2**20, updates=10**9)]",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_sweep_is_checked_whole_before_anything_is_spent(folders, monkeypatch, statement):
    monkeypatch.setattr(script, "LIMIT", 0.5)
    write_noise()
    study = write_experiment(folders / "study", f"{SWEEP}\n\n{statement}\n")
    for verb in ("plan", "run"):
        assert outcome(verb, str(study)) == 2
    assert not [path for path in (folders / "runs").rglob("*") if path.name not in ("study",)]
    assert not (folders.parent / "x").exists()


@settings(QUICK, max_examples=8)
@given(data=st.data())
def test_no_row_is_lost_whatever_lies_in_the_folders_of_runs(tmp_path_factory, data):
    """Any of a run's files, cut, emptied, of another kind, or in another's place."""
    here = tmp_path_factory.mktemp("study")
    (here / "pyproject.toml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENCDEC_RUNS", str(here / "runs"))
        patch.setenv("ENCDEC_CACHE", str(here / "cache"))
        patch.chdir(here)
        write_noise()
        study = load(write_experiment(here / "study"))
        for place, (identity, run) in enumerate(study.runs.items()):
            folder = study.run_folder(identity)
            files = {
                "config.json": json.dumps(to_dict(run)),
                "summary.json": json.dumps(
                    {**SUMMARY, "status": "done", "suffix_bits_per_byte": 3.0 + place, "tokens_seen": run.train.tokens}
                ),
                "metrics.jsonl": '{"step": 5, "tokens": 640, "loss": 3.0}\n',
                "error.txt": "no luck",
                "leases/1.json": "{}",
                "suffix_bits.npy": "\x93NUMPY",
            }
            for name, text in files.items():
                change = data.draw(st.sampled_from(["whole", "absent", "cut", "other", "folder", "text", "swapped"]))
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if change == "folder":
                    path.mkdir()
                elif change != "absent":
                    content = {
                        "whole": text,
                        "cut": text[: len(text) // 2],
                        "other": data.draw(st.sampled_from(["", "[]", "null", "3", "{}", '{"status": "done"}'])),
                        "text": data.draw(st.text(max_size=20)),
                        "swapped": next(iter(files.values())),
                    }[change]
                    path.write_text(content, encoding="utf-8", errors="surrogateescape")
        patch.setattr("encdec_jax.sweep.check._check_ended", lambda *_: None)  # these digests are of no tokens
        assert outcome("status", str(study.folder)) == 0
        assert outcome("plan", str(study.folder)) == 0
        assert outcome("report", str(study.folder)) in (0, 2)
        assert outcome("collect", str(study.folder)) in (0, 2)
        table = results.collect(study)
        ended = {identity for identity in study.runs if results.run_state(study.run_folder(identity)).ended}
        assert set(table["run_id"]) == ended
        assert {"done", "failed", "damaged", "diverged"} >= set(table["status"])
