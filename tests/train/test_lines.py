"""Learning curves are not lost, shortened or changed without a word."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
from test_loop import assert_same, data, outcome
from tiny import tiny_run

from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write
from encdec_jax.report.learning import histories
from encdec_jax.study.health import curve
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.results import ended
from encdec_jax.train.lines import Lines, read_lines
from encdec_jax.train.loop import train

from tiny import write_experiment  # isort: skip

__all__ = ["data"]

DAMAGES = {
    "missing": lambda raw: None,
    "empty": lambda raw: b"",
    "without a line": lambda raw: b"".join(raw.splitlines(keepends=True)[:1] + raw.splitlines(keepends=True)[2:]),
    "a digit": lambda raw: raw.replace(b'"loss": 5', b'"loss": 4', 1),
    "two lines changed places": lambda raw: b"".join(sorted(raw.splitlines(keepends=True), reverse=True)),
    "short": lambda raw: b"".join(raw.splitlines(keepends=True)[:2]),
    "no text": lambda raw: b"\xff\xfe" + raw,
}


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("encdec_jax"), "propagate", True)
    return caplog


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A run stopped at update 20 of 30, and the same never stopped."""
    from tiny import write_noise

    folder = tmp_path_factory.mktemp("lines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENCDEC_CACHE", str(folder / "cache"))
        write_noise()
        train(tiny_run(updates=30), folder / "whole")
        calls = iter(range(100))
        assert train(tiny_run(updates=30), folder / "part", stop=lambda: next(calls) == 4) is None
        yield folder


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_lines_are_mended_from_a_copy_and_said(parts, tmp_path, said, damage):
    """They were cut back to what was whole, and the curve had a hole that nobody was told of."""
    raw = (parts / "part/metrics.jsonl").read_bytes()
    path, changed = tmp_path / "metrics.jsonl", damage(raw)
    assert changed != raw
    if changed is not None:
        path.write_bytes(changed)
    Lines(path, 20, raw.decode()).close()
    assert path.read_bytes() == raw
    assert "mended up to update 20 from the checkpoint's copy" in said.text


def test_a_run_mends_its_metrics(parts, tmp_path):
    shutil.copytree(parts / "part", tmp_path / "run")
    (tmp_path / "run/metrics.jsonl").unlink()
    train(tiny_run(updates=30), tmp_path / "run")
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (parts / "whole/metrics.jsonl").read_bytes()


def test_what_a_killed_process_wrote_beyond_its_checkpoint_is_no_damage(parts, tmp_path, said):
    shutil.copytree(parts / "part", tmp_path / "run")
    beyond = (parts / "whole/metrics.jsonl").read_bytes().splitlines(keepends=True)[4]
    with (tmp_path / "run/metrics.jsonl").open("ab") as file:
        file.write(beyond + b'{"step": 30, "lo')
    train(tiny_run(updates=30), tmp_path / "run")
    assert_same(outcome(parts / "whole", tiny_run(updates=30)), outcome(tmp_path / "run", tiny_run(updates=30)))
    assert "mended" not in said.text


def test_timing_that_is_lost_is_said(parts, tmp_path, said):
    shutil.copytree(parts / "part", tmp_path / "run")
    (tmp_path / "run/timing.jsonl").unlink()
    train(tiny_run(updates=30), tmp_path / "run")
    assert "timing.jsonl is damaged or missing: what it said of updates up to 20 is lost" in said.text


@pytest.mark.parametrize("damage", [kind for kind in DAMAGES if kind != "missing"])
def test_readers_refuse_damaged_lines(parts, tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    raw = (parts / "whole/metrics.jsonl").read_bytes()
    path.write_bytes(raw)
    assert [line["step"] for line in read_lines(path, 30)] == [5, 10, 15, 20, 25, 30]
    path.write_bytes(DAMAGES[damage](raw))
    with pytest.raises(UserError, match="is damaged"):
        read_lines(path, 30)
    with pytest.raises(UserError, match=r"can't read loss curve .*damaged"):
        curve(path, 30)


def test_a_report_refuses_the_curve_of_a_done_run_that_lacks_its_end(data):
    study = load(write_experiment(data / "study"))
    identity, run = next(iter(study.runs.items()))
    train(run, study.run_folder(identity))
    (found,) = histories(study, ended(study))
    assert found.run_id == identity
    path = study.run_folder(identity) / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"it ends with update 55, and the run with update 60"):
        histories(study, ended(study))


def test_lines_from_before_they_had_hashes_are_read(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"step": 5, "loss": 1.0}\n')
    assert read_lines(path, 10) == [{"step": 5, "loss": 1.0}]


@pytest.mark.parametrize("at", ["a line", "the end"])
def test_a_thawed_holder_that_puts_its_file_there_takes_no_line_away(tmp_path, at):
    """It asked whose the run is, then stood still; its successor has written since, and writes that again."""
    path = tmp_path / "lines.jsonl"
    lines = Lines(path, 0)
    lines.write({"step": 1})
    atomic_write(path, "")
    if at == "a line":
        lines.write({"step": 2})
    lines.close()
    assert path.read_text() == lines.text
    assert [line["step"] for line in read_lines(path)] == [1, 2][: len(lines.text.splitlines())]


def test_who_has_lost_the_run_puts_no_file_there(tmp_path):
    """Asked when the new file is on the disk, for that may take long."""
    path = tmp_path / "lines.jsonl"
    lines = Lines(path, 0)
    lines.write({"step": 1})

    class Taken(Exception):
        pass

    def lost():
        assert len(list(tmp_path.iterdir())) == 2
        raise Taken

    with pytest.raises(Taken):
        Lines(path, 0, None, lost)
    assert path.read_text() == lines.text
    assert list(tmp_path.iterdir()) == [path]


def test_each_line_is_json_with_its_values(tmp_path):
    lines = Lines(tmp_path / "lines.jsonl", 0)
    lines.write({"step": 1, "loss": None})
    lines.close()
    (values,) = map(json.loads, (tmp_path / "lines.jsonl").read_text().splitlines())
    assert (values["step"], values["loss"], len(values["hash"])) == (1, None, 16)
