"""Tokens are known by what they were made from: a change of it is noticed at the next use, without TensorFlow."""

from __future__ import annotations

import importlib
import os

import pytest
from tiny import write_noise

from encdec_jax.data import corpus
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.origin import changed, load, module_file, opened, origin, with_read
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.files import sha256_file
from encdec_jax.sweep.check import check_data
from encdec_jax.sweep.experiment import load as load_experiment


@pytest.fixture
def here(folders, monkeypatch):
    """A working directory with a user's module, its helper and its data."""
    monkeypatch.chdir(folders)
    name = f"tasks_{os.path.basename(folders)}"
    (folders / f"helper_{name}.py").write_text("LENGTH = 3\n")
    (folders / f"{name}.py").write_text(f"import json\nfrom helper_{name} import LENGTH\n")
    for part in "ab":
        (folders / f"text-{part}.txt").write_text(part)
    return folders, name


def made(here):
    folder, name = here
    found = origin(name, load(name), ["text-*.txt"])
    write_cache("mine", ByteVocab(), ("targets",), {"train": [([70],)]}, lambda: found)
    assert TokenCache.open("mine", "bytes").manifest["source"] == found
    assert changed(found, whole=True) is None
    return folder, name, found


def test_its_sources_are_the_modules_own(here):
    folder, name, found = made(here)
    assert list(found["sources"]) == [str(folder / f"helper_{name}.py"), str(folder / f"{name}.py")]
    assert found["module"] == str(folder / f"{name}.py")
    assert sorted(found["data"]) == [str(folder / "text-a.txt"), str(folder / "text-b.txt")]


@pytest.mark.parametrize("change", ["module", "helper", "data", "more data"])
def test_a_change_is_refused_at_the_next_use(here, change):
    folder, name, _ = made(here)
    path = {
        "module": folder / f"{name}.py",
        "helper": folder / f"helper_{name}.py",
        "data": folder / "text-a.txt",
        "more data": folder / "text-c.txt",
    }[change]
    path.write_text("# changed\n")
    what = "text-*.txt matches other files" if change == "more data" else f"{path} has changed"
    with pytest.raises(UserError) as caught:
        TokenCache.open("mine", "bytes")
    assert f"{what} since its tokens were made: first encdec prepare --task mine --module {folder}" in str(caught.value)
    if change in ("module", "helper"):
        with pytest.raises(UserError, match=r"this process imported it before .* changed"):
            load(name)


def test_where_its_sources_are_not_the_tokens_are_enough(here):
    _, _, found = made(here)
    for path in (*found["sources"], *found["data"]):
        os.remove(path)
    TokenCache.open("mine", "bytes")
    assert changed(found, whole=True) is not None


def test_files_that_python_opens_are_data(here):
    folder, _ = here
    with opened() as files:
        (folder / "text-a.txt").read_text()
        (folder / "written").write_text("not read")
        with open("text-b.txt", "rb") as file:
            file.read()
    (folder / "written").read_text()
    assert sorted(files) == [str(folder / "text-a.txt"), str(folder / "text-b.txt")]


@pytest.mark.parametrize("module", ["nowhere", "nowhere.tasks", "nowhere.py"])
def test_a_module_that_is_not_there_is_refused(here, module):
    with pytest.raises(UserError, match=f"module = '{module}' is not accepted"):
        module_file(module)


def test_shipped_text_of_another_release_is_made_again(folders, monkeypatch):
    write_noise("bible_en")
    TokenCache.open("bible_en", "bytes")
    monkeypatch.setattr(corpus, "digest", lambda: "of another release")
    with pytest.raises(UserError, match="the shipped text, or how it is split, has changed"):
        TokenCache.open("bible_en", "bytes")
    (folders / "study").mkdir()
    sweep = 'from tiny import tiny_run\nfrom dataclasses import replace\nQUESTION, BASELINE = "?", "causal_lm"\n'
    sweep += "CONFOUNDERS, PREDICTIONS = {}, []\ndef runs():\n    run = tiny_run()\n"
    sweep += '    yield replace(run, data=replace(run.data, task="bible_en"))\n'
    (folders / "study/sweep.py").write_text(sweep)
    assert check_data(load_experiment(folders / "study")) == [("bible_en", "bytes")]


def test_what_is_imported_while_the_data_is_read_is_of_the_task(here, monkeypatch):
    """A module that the dataset's function imported was edited, and the tokens of before passed for prepared."""
    folder, name = here
    monkeypatch.syspath_prepend(folder)
    late = folder / f"late_{name}.py"
    late.write_text("LENGTH = 4\n")
    found = origin(name, load(name), [])
    assert str(late) not in found["sources"]
    importlib.import_module(late.stem)
    (folder / f"__autograph_generated_file{name}.py").touch()
    importlib.import_module(f"__autograph_generated_file{name}")
    read = with_read(found, {})
    assert read["sources"] == {**found["sources"], str(late): sha256_file(late)}
    late.write_text("LENGTH = 5\n")
    assert changed(read, whole=True) == f"{late} has changed"
    with pytest.raises(UserError, match=f"this process imported it before {late} changed"):
        load(name)


def test_a_module_whose_file_is_gone_keeps_no_task_from_being_made(here, monkeypatch):
    """As of generated code: it was said that the cache can't be written, for there was no such file."""
    folder, _ = here
    monkeypatch.syspath_prepend(folder)
    _, _, found = made(here)
    (folder / "passing.py").write_text("")
    importlib.invalidate_caches()
    importlib.import_module("passing")
    os.remove(folder / "passing.py")
    assert with_read(found, {})["sources"] == found["sources"]
