"""`encdec fetch`: get a named task's files, make its splits, and keep them as JSON lines for `prepare` to read.

<cache root>/fetched/packages/           the files, as they were pinned
<cache root>/fetched/<task>/             train.jsonl, validation.jsonl, test.jsonl, and made_of.json
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encdec_jax.data import splits
from encdec_jax.data.corpus import SPLITS
from encdec_jax.data.fetch import recipes
from encdec_jax.data.fetch.artifacts import fetched_root
from encdec_jax.data.fetch.catalogue import FETCHED, Fetched
from encdec_jax.data.splits import HashSplits, place
from encdec_jax.errors import UserError, require
from encdec_jax.files import read_json, sha256_file, write_json


def fetch(name: str) -> Path:
    """Fetch a task, unless that is done, and print what there is.

    Returns:
      its folder.

    Raises:
      UserError: there is no such task, its files can't be fetched or are not those that were pinned, or the disk is
        full. Files that were fetched before stay; nothing half-written does.
    """
    require(name in FETCHED, "name", name, "one of " + ", ".join(FETCHED))
    folder, task = fetched_root() / name, FETCHED[name]
    if is_fetched(name):
        print(f"already fetched: {folder}")
        return folder
    files = [artifact.get() for artifact in task.artifacts]
    found = list(task.make(*files))
    split_of = HashSplits((place(group) for group, _ in found), f"task {name!r}")
    rows: dict[str, list[tuple[str, ...]]] = {split: [] for split in SPLITS}
    for group, row in found:
        rows[split_of(place(group))].append(row)
    kept = _apart(rows, [task.features.index(feature) for feature in task.apart])
    _write(folder, task, kept)
    for split in SPLITS:
        print(f"{split}: {len(kept[split]):,} examples, {len(rows[split]) - len(kept[split]):,} left out as repeated")
    groups = len({group for group, _ in found})
    print(f"{groups:,} groups, {splits.SHARE:.0%} each in validation and test, by the hash of the group's name")
    print(f"fetched: {folder}; licence: {task.licence}; next: encdec prepare --task {name}")
    return folder


def is_fetched(name: str) -> bool:
    """Whether a task is there, as this code would make it."""
    path = fetched_root() / name / "made_of.json"
    return path.exists() and bool(read_json(path) == _made_of(FETCHED[name]))


def examples(name: str, split: str) -> Iterator[tuple[str, ...]]:
    """The examples of a split of a fetched task: the text of each feature.

    Raises:
      UserError: it has not been fetched, or by other code.
    """
    if not is_fetched(name):
        raise UserError(f"task = {name!r} is not there: first encdec fetch {name}")
    with (fetched_root() / name / f"{split}.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield tuple(row[feature] for feature in FETCHED[name].features)


def _apart(rows: dict[str, list[tuple[str, ...]]], places: list[int]) -> dict[str, list[tuple[str, ...]]]:
    """Each split's rows, each once, without those of which one text stands in a later split."""
    later: list[set[str]] = [set() for _ in places]
    kept = {}
    for split in reversed(SPLITS):
        unique = dict.fromkeys(rows[split])
        kept[split] = [r for r in unique if not any(r[at] in there for at, there in zip(places, later, strict=True))]
        for at, there in zip(places, later, strict=True):
            there.update(row[at] for row in kept[split])
    return kept


def _write(folder: Path, task: Fetched, rows: dict[str, list[tuple[str, ...]]]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as holder:
            made = Path(holder) / folder.name
            made.mkdir()
            for split, found in rows.items():
                with (made / f"{split}.jsonl").open("w", encoding="utf-8") as file:
                    for row in found:
                        file.write(json.dumps(dict(zip(task.features, row, strict=True)), ensure_ascii=False) + "\n")
            write_json(made / "made_of.json", _made_of(task))
            if folder.exists():
                shutil.move(folder, Path(holder) / "old")
            os.rename(made, folder)
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror or error}") from error


def _made_of(task: Fetched) -> dict[str, Any]:
    """What decides a fetched task: the files, and the code that makes examples and splits of them."""
    code = "".join(sha256_file(Path(str(module.__file__))) for module in (recipes, splits))
    return {
        "artifacts": {artifact.file: artifact.sha256 for artifact in task.artifacts},
        "code": hashlib.sha256(code.encode()).hexdigest(),
    }
