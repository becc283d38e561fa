"""How a configuration is given on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from encdec_jax.cli.fields import described
from encdec_jax.config import RunConfig, from_dict, to_dict
from encdec_jax.errors import UserError, require
from encdec_jax.files import expanded, read_json
from encdec_jax.ranges import Range, number
from encdec_jax.resolve import parsed
from encdec_jax.script import called, execute
from encdec_jax.sweep.algebra import assigned


def ranged(name: str, accepted: Range, kind: type[int] | type[float] = float) -> Callable[[str], Any]:
    """The `type` of an argument that is a number in a range."""
    return lambda text: number(name, text, accepted, kind)


def ranged_list(name: str, accepted: Range) -> Callable[[str], list[int]]:
    """The `type` of an argument that is whole numbers in a range, between commas."""
    return lambda text: [int(number(name, part, accepted, int)) for part in text.split(",")]


def add_verb(
    verbs: Any, name: str, text: str, epilog: str | None = None, usage: str | None = None
) -> argparse.ArgumentParser:
    """A verb that takes no configuration; `epilog` is printed as it stands."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text,
        usage=usage,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(takes_config=False)
    return parser


def add_config_verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A verb that takes a configuration: its function finds the `RunConfig` in `options.run`.

    Its default `given` makes that of the options and of the other arguments.
    """
    parser = add_verb(verbs, name, text, described(), f"encdec {name} CONFIG [--config.FIELD=VALUE ...] [options]")
    parser.set_defaults(takes_config=True, given=lambda options, rest: given_config(rest))
    return parser


def given_config(arguments: list[str], start: RunConfig | None = None) -> RunConfig:
    """The configuration that arguments name: CONFIG or --config=CONFIG, and --config.FIELD=VALUE.

    Args:
      arguments: of the command line.
      start: the configuration that fields are changed of where no CONFIG is given; None where one must be.

    Raises:
      UserError: an argument, the file, a field or a value is not accepted.
    """
    given = [a.removeprefix("--config=") for a in arguments if not a.startswith("--config.") and a != "--config"]
    if not given and start is None:
        raise UserError("CONFIG is missing: give a file with get_config, as in configs/base.py:enc_dec")
    require(len(given) <= 1, "arguments", " ".join(given), "one CONFIG, and --config.FIELD=VALUE")
    data = to_dict(start) if start is not None and not given else _data(*_file(given[0]))
    changes = {}
    for change in (a.removeprefix("--config.") for a in arguments if a.startswith("--config.")):
        path, equals, value = change.partition("=")
        require(bool(equals), "argument", f"--config.{change}", "--config.FIELD=VALUE, in one piece")
        changes[path] = parsed(RunConfig, path, value)
    return from_dict(assigned(data, changes))


def _file(given: str) -> tuple[Path, str | None]:
    """The file of CONFIG and its argument, if any: of the places that a colon leaves open, the longest path wins."""
    parts = given.split(":")
    for n in range(len(parts), 0, -1):
        path = ":".join(parts[:n])
        for file in (expanded(path), *_shipped(path)):
            if file.is_file():
                return file, ":".join(parts[n:]) if n < len(parts) else None
    name = given.rpartition(".py:")[0] + ".py" if ".py:" in given else given
    what = "" if Path(name).exists() else "there is no such file; "
    accepted = f"{what}a Python file with a function get_config, or a run's config.json"
    raise UserError(f"CONFIG = {name!r} is not accepted: {accepted}")


def _shipped(path: str) -> Iterator[Path]:
    """What the installed package has under the name `configs/FILE`, which need not stand where the user is."""
    folder, _, name = path.rpartition("/")
    if folder == "configs" and (found := find_spec("encdec_jax.configs")) is not None:
        yield from (Path(place) / name for place in found.submodule_search_locations or ())


def _data(file: Path, argument: str | None) -> dict[str, Any]:
    """The configuration that a file holds, as nested data."""
    if file.suffix == ".json":
        require(argument is None, "CONFIG", f"{file}:{argument}", "no argument behind a JSON file")
        found = read_json(file)
        require(isinstance(found, dict), "CONFIG", str(file), "a JSON object, as a run's config.json is")
        return dict(found)
    get_config = getattr(execute(file), "get_config", None)
    require(
        callable(get_config), f"{file}: get_config", get_config, "a function that gives an ml_collections ConfigDict"
    )
    assert get_config is not None
    config = called(get_config, file, *([] if argument is None else [argument]))
    require(
        hasattr(config, "to_dict"), f"{file}: get_config()", config, "an ml_collections ConfigDict, as of to_dict(run)"
    )
    return dict(config.to_dict())
