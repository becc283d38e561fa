"""Two runs by document: what the pairing takes away, and files that do not pair."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from encdec_jax.errors import UserError
from encdec_jax.study.documents import beside, by_document


def write(path, bits, nbytes, first=0, text="t{}"):
    rows = [
        {"number": first + i, "bits": float(b), "bytes": int(n), "text": text.format(first + i)}
        for i, (b, n) in enumerate(zip(bits, nbytes, strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path):
    random = np.random.default_rng(0)
    nbytes = random.integers(100, 4000, 200)
    hard = random.normal(2, 0.3, 200)
    rates = hard, hard + 0.1 + 0.05 * random.standard_normal(200)
    return [write(tmp_path / name, rate * nbytes, nbytes) for name, rate in zip("ab", rates, strict=True)]


def test_documents_in_common_make_the_difference_surer(files):
    found = beside(*files)
    rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in files]
    rates = [sum(row["bits"] for row in one) / sum(row["bytes"] for row in one) for one in rows]
    assert found.rates == pytest.approx(tuple(rates))
    assert found.difference.value == pytest.approx(rates[1] - rates[0])
    assert found.difference.low < 0.1 < found.difference.high
    # A ratio of sums: its error is that of the residuals, weighted by bytes.
    nbytes = np.array([row["bytes"] for row in rows[0]])
    bits = np.array([b["bits"] - a["bits"] for a, b in zip(*rows, strict=True)])
    error = np.sqrt(((bits - found.difference.value * nbytes) ** 2).sum()) / nbytes.sum()
    assert found.difference.high - found.difference.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found.apart.high - found.apart.low > 4 * (found.difference.high - found.difference.low)
    assert found.correlation > 0.9
    assert found.better < 0.1
    assert (found.documents, found.only) == (200, (0, 0))


def test_runs_of_a_pair_are_set_beside_each_other_on_every_set_that_both_have(files, tmp_path):
    for identity, sets in (("own", {"bible-test": 1, "other-test": 1, "alone-test": 1}), ("base", {"bible-test": 0})):
        for name, which in sets.items():
            folder = tmp_path / identity / "evaluations" / name
            folder.mkdir(parents=True)
            (folder / "documents.jsonl").write_text(files[which].read_text())
    odd = tmp_path / "base/evaluations/other-test"
    odd.mkdir()
    write(odd / "documents.jsonl", np.full(200, 9.0), np.full(200, 3))
    pair = SimpleNamespace(label="enc_dec", budget=1e12, runs=(("own", "base"), ("own", "absent")))
    sound, wrong = by_document([pair], tmp_path)
    assert (sound.runs, sound.task, sound.found) == (("own", "base"), "bible-test", beside(*files))
    assert (wrong.task, wrong.found) == ("other-test", None)
    assert "are of other text: what was scored of document 0 differs" in wrong.wrong


def test_documents_of_one_file_alone_are_left_out(files, tmp_path):
    more = write(tmp_path / "c", np.full(30, 9.0), np.full(30, 3), first=190)
    with pytest.raises(UserError, match="what was scored of document 190 differs"):
        beside(files[0], more)
    few = tmp_path / "few"
    few.write_text("".join(files[1].read_text().splitlines(keepends=True)[20:]))
    assert beside(files[0], few).documents == 180
    assert beside(files[0], few).only == (20, 0)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"number": 0, "bits": 3}', "line 1 of"),
        ('{"number": 0, "bits": NaN, "bytes": 3, "text": "t"}', "line 1 of"),
        ("no json", "can't read losses by document"),
        ("", "documents in both"),
    ],
)
def test_files_of_anything_else_are_one_line(files, tmp_path, line, text):
    (tmp_path / "other").write_text(line)
    with pytest.raises(UserError, match=text):
        beside(files[0], tmp_path / "other")


def test_other_text_under_the_same_numbers_is_refused(files, tmp_path):
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    other = write(tmp_path / "c", [r["bits"] for r in rows], [r["bytes"] for r in rows], text="u{}")
    with pytest.raises(UserError, match=r"one vocabulary and one evaluate\.prefix"):
        beside(files[0], other)
