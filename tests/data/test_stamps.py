"""Files are hashed once, and again when they were changed."""

import os
import time

import pytest

from encdec_jax.data import stamps
from encdec_jax.files import sha256_file

LONG_AGO = 10**18


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name * 100)
        os.utime(tmp_path / name, ns=(LONG_AGO, LONG_AGO))
    return tmp_path


@pytest.fixture
def files(folder):
    return {n: {"bytes": 300, "sha256": sha256_file(folder / n)} for n in ("one", "two")}


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed."""
    seen = []
    monkeypatch.setattr(stamps, "sha256_file", lambda path: seen.append(path.name) or sha256_file(path))
    return seen


def test_files_are_hashed_once(folder, files, hashed):
    assert stamps.damage(folder, files) is None
    assert sorted(hashed) == ["one", "two"]
    assert stamps.damage(folder, files) is None
    assert len(hashed) == 2


def test_what_was_just_written_is_known_and_any_change_of_it_is_seen(folder, files, hashed):
    """Even one within the same tick of the clock: the files' times lie behind."""
    for name in files:
        os.utime(folder / name)
    stamps.stamp(folder, files)
    assert stamps.damage(folder, files) is None
    assert hashed == []
    (folder / "one").write_text("eno" * 100)
    assert stamps.damage(folder, files) == "one has another SHA-256 than its manifest"
    assert hashed == ["one"]


@pytest.mark.parametrize("how", ["content", "inode", "manifest"])
def test_each_change_is_looked_into(folder, files, hashed, how):
    stamps.damage(folder, files)
    if how == "manifest":
        files["two"] = files["two"] | {"sha256": "0" * 64}
    else:
        copy = folder / "copy"
        copy.write_text("owt" * 100)
        os.utime(copy, ns=(LONG_AGO, LONG_AGO if how == "inode" else LONG_AGO + 1))
        copy.replace(folder / "two") if how == "inode" else (folder / "two").write_text("owt" * 100)
    assert stamps.damage(folder, files) == "two has another SHA-256 than its manifest"
    assert hashed[2:] == ["two"]


def test_files_that_may_still_change_are_hashed_again(folder, files, hashed):
    os.utime(folder / "one", ns=(time.time_ns(), time.time_ns()))
    stamps.damage(folder, files)
    stamps.damage(folder, files)
    assert hashed.count("one") == 2
    assert hashed.count("two") == 1


def test_what_is_gone_or_of_another_size_is_said_without_hashing(folder, files, hashed):
    (folder / "one").write_text("one")
    assert stamps.damage(folder, files) == "one has 3 bytes, not 300"
    (folder / "one").unlink()
    assert stamps.damage(folder, files) == "one is missing"
    assert hashed == []


def test_damaged_stamps_are_none(folder, files, hashed):
    stamps.damage(folder, files)
    (folder / stamps.NAME).write_text("{")
    assert stamps.damage(folder, files) is None
    assert len(hashed) == 4
