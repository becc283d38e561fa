"""How a configuration is given on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from encdec_jax.cli.fields import described
from encdec_jax.config import RunConfig, from_dict
from encdec_jax.errors import UserError, require
from encdec_jax.files import read_json


def add_verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A verb that takes a configuration: its function finds the `RunConfig` in `options.run`."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text,
        usage=f"encdec {name} CONFIG [--config.FIELD=VALUE ...] [options]",
        epilog=described(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(takes_config=True)
    return parser


def given_config(arguments: list[str]) -> RunConfig:
    """The configuration that arguments name: CONFIG or --config=CONFIG, and --config.FIELD=VALUE.

    Raises:
      UserError: an argument, the file, a field or a value is not accepted.
    """
    given = [a.removeprefix("--config=") for a in arguments if not a.startswith("--config.") and a != "--config"]
    if not given:
        raise UserError("CONFIG is missing: give a file with get_config, as in configs/base.py:enc_dec")
    require(len(given) == 1, "arguments", " ".join(given), "one CONFIG, and --config.FIELD=VALUE")
    file = Path(given[0].partition(":")[0])
    accepted = "a Python file with a function get_config, or a run's config.json"
    require(file.exists(), "CONFIG", str(file), f"there is no such file; {accepted}")
    require(file.is_file(), "CONFIG", str(file), accepted)
    changes = [a for a in arguments if a.startswith("--config.")]
    _check_fields(_config(given[0], []), changes)
    return from_dict(_config(given[0], changes))


def _config(given: str, changes: list[str]) -> dict[str, Any]:
    """The configuration as nested data."""
    from absl import flags
    from ml_collections import ConfigDict, config_flags

    values: Any = flags.FlagValues()
    json = given.endswith(".json")
    line = ["encdec", *changes] if json else ["encdec", f"--config={given}", *changes]
    where: Any = {"flag_values": values, "sys_argv": line}
    try:
        if json:
            config_flags.DEFINE_config_dict("config", ConfigDict(read_json(Path(given))), **where)
        else:
            config_flags.DEFINE_config_file("config", **where)
        values(line)
        return values.config.to_dict()
    except Exception as error:  # of absl, of ml_collections, or of the user's file
        raise UserError(f"CONFIG = {given!r} is not accepted: {_first_line(error)}") from error


def _check_fields(config: dict[str, Any], arguments: list[str]) -> None:
    """Refuse --config.FIELD of a field that there is not, in our words: those of the flags' library name no field."""
    for argument in arguments:
        path, inner = argument.removeprefix("--config.").partition("=")[0], config
        for name in path.split("."):
            if not isinstance(inner, dict) or name not in inner:
                accepted = ", ".join(inner) if isinstance(inner, dict) else "nothing below it"
                raise UserError(f"--config.{path}: field '{name}' is unknown; accepted there: {accepted}")
            inner = inner[name]


def _first_line(error: BaseException) -> str:
    """What an exception says in a line; of a `UserError` below it, if there is one, that line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
