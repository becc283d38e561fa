"""An experiment: a folder whose sweep.py states a question, what is expected, and the runs that answer it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from encdec_jax.compute.families import family_of
from encdec_jax.config import RunConfig
from encdec_jax.data.objectives.named import described
from encdec_jax.errors import UserError, require
from encdec_jax.files import place, runs_root
from encdec_jax.script import called, execute
from encdec_jax.sweep.identity import run_id, setting
from encdec_jax.sweep.replica import pull

# Module-level names of a sweep.py, their types, and what the line of a `UserError` says of them.
_NAMES = {
    "QUESTION": (str, "a text: the question the experiment asks"),
    "BASELINE": (str, "the label that the others are compared with"),
    "CONFOUNDERS": (dict, "a dict from each confounder to a sentence on how it is handled"),
    "PREDICTIONS": (
        list,
        "a list of Prediction(text, check) of encdec_jax.study.predictions, each text once, or []",
    ),
}
MOST = 100_000  # runs of one experiment; a runs() without end gives more
Settings = Literal["best", "mean"]
Order = Literal["longest", "listed"]
POOLABLE = ("cache_digest", "code", "scored")  # columns whose values may differ among pooled rows, if sweep.py says why


@dataclass(frozen=True)
class Experiment:
    """A loaded experiment.

    Attributes:
      name: of the experiment and of its runs' folder: sweep.py's NAME, else where its folder lies (`place`).
      folder: that holds sweep.py.
      question: that it asks.
      baseline: the label that the others are compared with.
      confounders: name of each -> how it is handled, in a sentence.
      predictions: registered before the runs; `encdec_jax.study.predictions` scores them.
      health: rules on runs fixed before they ran, an `encdec_jax.study.health.Health`; None if sweep.py has none.
      runs: every run by its id, in the order of sweep.py.
      settings: what stands for a size that was trained with several settings: 'best', or 'mean' of all of them.
      order: in which workers take runs: the longest first, so that all workers end at about one time, or as listed, so
        that the first stages of a long study are there first.
      labels: which line of a figure each run belongs to, by its id: what sweep.py's `label(run)` says, else the
        architecture and its split, and its objective where the architecture has several.
      pooled: column of `POOLABLE` -> why rows in which it differs may be pooled, in a sentence.
    """

    name: str
    folder: Path
    question: str
    baseline: str
    confounders: dict[str, str]
    predictions: list[Any]
    runs: dict[str, RunConfig]
    labels: dict[str, str]
    pooled: dict[str, str] = field(default_factory=dict)
    health: Any = None
    settings: Settings = "best"
    order: Order = "longest"

    @property
    def root(self) -> Path:
        """Folder of the experiment's runs, of its results and of its report; no other experiment's."""
        return runs_root() / self.name

    def run_folder(self, run_id: str) -> Path:
        """Folder of one run."""
        return self.root / run_id


def load(folder: Path) -> Experiment:
    """Read an experiment folder.

    Raises:
      UserError: there is no such folder or no sweep.py in it; sweep.py raises an exception, lacks a name, gives
        something other than distinct `RunConfig`s, or other runs or labels when it is run again.
    """
    require(folder.is_dir(), "experiment folder", str(folder), "a folder that holds a sweep.py")
    script = folder / "sweep.py"
    held = "a run, which encdec evaluate scores" if (folder / "config.json").exists() else "none"
    require(
        script.is_file(), "experiment folder", str(folder), f"a folder that holds a sweep.py; this one holds {held}"
    )
    module = execute(script)
    named = {name: _named(module, script, name) for name in _NAMES}
    runs = _runs(module, script)
    second = execute(script)
    again = _runs(second, script, dict(zip(map(repr, runs.values()), runs, strict=True)))
    if set(again) != set(runs):
        other = len(set(runs) - set(again))
        raise UserError(
            f"{script}: runs() gives other runs each time: {other} of {len(runs)} ids were others the second time;"
            " draw from generators with a seed, as random.Random(0)"
        )
    labels = _labels(module, script, runs)
    other_labels = _labels(second, script, again)
    for identity, label in labels.items():
        accepted = f"the same each time: the second time it was {other_labels[identity]!r}"
        require(label == other_labels[identity], f"{script}: label of run {identity}", label, accepted)
    accepted = "one of its runs' labels: " + ", ".join(sorted(set(labels.values())))
    require(named["BASELINE"] in labels.values(), f"{script}: BASELINE", named["BASELINE"], accepted)
    experiment = Experiment(
        name=_name(module, script),
        folder=folder,
        question=named["QUESTION"],
        baseline=named["BASELINE"],
        confounders=named["CONFOUNDERS"],
        predictions=named["PREDICTIONS"],
        runs=runs,
        labels=labels,
        pooled=_pooled(module, script),
        health=_health(module, script),
        settings=_settings(module, script),
        order=_order(module, script),
    )
    pull(experiment.root)
    return experiment


def _name(module: ModuleType, script: Path) -> str:
    """What tells an experiment from all others that keep their runs in one place: its NAME, or where it lies."""
    accepted = "names of folders, joined by /, of letters, digits, '.', '_' and '-', the first one not 'single'"
    if hasattr(module, "NAME"):
        name = module.NAME
        sound = isinstance(name, str) and re.fullmatch(r"(?!single(/|$))\w[\w.-]*(/\w[\w.-]*)*", name) is not None
        require(sound, f"{script}: NAME", name, accepted)
        return str(name)
    name = place(script.parent).lstrip("/")
    require(name.partition("/")[0] != "single", "experiment folder", name, f"one of another name: {accepted}")
    return name


def folders_named(name: str, within: Path) -> Iterator[Path]:
    """Folders in `within`, however deep, that hold an experiment of that NAME; none hidden or of an environment."""
    for at, inside, files in os.walk(within):
        inside[:] = sorted(one for one in inside if one[0] != "." and not (Path(at) / one / "pyvenv.cfg").exists())
        script = Path(at) / "sweep.py"
        words = set(re.findall(r"\w+", script.read_text(errors="replace"))) if script.name in files else set()
        if not words >= {"NAME", *_NAMES}:
            continue  # what is no experiment is not run
        with suppress(UserError):  # what another's file has wrong is for whom it is run
            if _name(execute(script), script) == name:
                yield script.parent


def _named(module: ModuleType, script: Path, name: str) -> Any:
    kind, accepted = _NAMES[name]
    if not hasattr(module, name):
        raise UserError(f"{script}: {name} is missing; accepted: {accepted}")
    value = getattr(module, name)
    require(isinstance(value, kind) and _SOUND[name](value), f"{script}: {name}", value, accepted)
    return value


def _said(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is(value: Any, name: str) -> bool:
    """Whether a value is of a class, by the class's name: to import it may take the libraries that fit."""
    return name in [f"{cls.__module__}.{cls.__qualname__}" for cls in type(value).__mro__]


def _prediction(value: Any) -> bool:
    return _is(value, "encdec_jax.study.predictions.Prediction") and _said(value.text) and callable(value.check)


_SOUND: dict[str, Callable[[Any], bool]] = {
    "QUESTION": _said,
    "BASELINE": _said,
    "CONFOUNDERS": lambda value: all(_said(name) and _said(how) for name, how in value.items()),
    "PREDICTIONS": lambda value: all(map(_prediction, value)) and len({one.text for one in value}) == len(value),
}


def _runs(module: ModuleType, script: Path, known: Mapping[str, str] | None = None) -> dict[str, RunConfig]:
    """The runs of a sweep.py by their ids; those whose text is `known` have the id that stands there."""
    function: Any = getattr(module, "runs", None)
    require(callable(function), f"{script}: runs", function, "a function without arguments that yields RunConfigs")
    found: dict[str, RunConfig] = {}
    for at, run in enumerate(called(lambda: list(islice(function(), MOST + 1)), script)):
        require(isinstance(run, RunConfig), f"{script}: runs()[{at}]", run, "a RunConfig")
        identity = (known or {}).get(repr(run)) or run_id(run)
        if identity in found:
            first = list(found).index(identity)
            raise UserError(f"{script}: runs()[{at}] is the same run as runs()[{first}] ({identity}); each counts once")
        found[identity] = run
        require(at < MOST, f"{script}: runs()", f"more than {MOST:,} runs", f"at most {MOST:,}")
    require(bool(found), f"{script}: runs()", [], "at least one run")
    return found


def _labels(module: ModuleType, script: Path, runs: dict[str, RunConfig]) -> dict[str, str]:
    function = getattr(module, "label", None)
    if function is None:
        return _told_apart(runs)
    require(callable(function), f"{script}: label", function, "a function that gives a run's label")
    labels: dict[str, str] = {}
    first: dict[str, str] = {}  # by setting: repetitions belong to one line
    for identity, run in runs.items():
        label = called(partial(function, run), script)
        what = f"{script}: label of run {identity}"
        sound = isinstance(label, str) and label.isprintable() and label == label.strip() != ""
        require(sound, what, label, "a text of printable characters")
        labels[identity] = label
        other = first.setdefault(setting(run), label)
        require(label == other, what, label, f"{other!r}, that of another seed")
    return labels


def _pooled(module: ModuleType, script: Path) -> dict[str, str]:
    pooled = getattr(module, "POOLED", {})
    accepted = f"a dict from {' or '.join(POOLABLE)} to a sentence that says why its values may differ"
    sound = isinstance(pooled, dict) and all(
        name in POOLABLE and isinstance(why, str) and why.strip() for name, why in pooled.items()
    )
    require(sound, f"{script}: POOLED", pooled, accepted)
    return dict(pooled)


def _health(module: ModuleType, script: Path) -> Any:
    health = getattr(module, "HEALTH", None)
    sound = health is None or _is(health, "encdec_jax.study.health.Health")
    require(sound, f"{script}: HEALTH", health, "a Health(...) of encdec_jax.study.health")
    return health


def _settings(module: ModuleType, script: Path) -> Settings:
    settings: Settings = getattr(module, "SETTINGS", "best")
    require(settings in get_args(Settings), f"{script}: SETTINGS", settings, "'best' or 'mean'")
    return settings


def _order(module: ModuleType, script: Path) -> Order:
    order: Order = getattr(module, "ORDER", "longest")
    require(order in get_args(Order), f"{script}: ORDER", order, "'longest' (first) or 'listed'")
    return order


def _told_apart(runs: dict[str, RunConfig]) -> dict[str, str]:
    """Each run's architecture and split, and its objective where others of them have another one."""
    families = {identity: family_of(run.model).label for identity, run in runs.items()}
    learnt = {identity: described(run.objective, whole=True) for identity, run in runs.items()}
    lines = Counter(family for family, _ in set(zip(families.values(), learnt.values(), strict=True)))
    return {i: f"{family}, {learnt[i]}" if lines[family] > 1 else family for i, family in families.items()}
